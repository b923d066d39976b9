//! Names and numbers that identify things: runs, shards, workflows, phases, handlers, entries, jobs.
//! Making a fresh id needs chance, so it goes through the [`IdSource`] port.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use uuid::Uuid;

/// How many shards there are. Never changes: a run's shard is part of its address in the store.
pub const SHARDS: u16 = 256;

/// The longest name of a workflow, a phase, a handler or a queue, in bytes. Three of them make the name of a queue, for
/// which AMQP leaves 255 bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// The namespace of the version-5 UUIDs that keyed submissions get.
const KEYED_RUNS: Uuid = Uuid::from_u128(0x6f1d_9c1e_7a52_4b0e_9b57_1c0a_5c5e_3a77);

/// One execution of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A run id from a UUID.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The run that a submission with `key` makes: always the same one for the same workflow and key.
    pub fn from_key(namespace: &str, workflow: &WorkflowName, key: &str) -> Self {
        // The lengths keep ("a", "bc") and ("ab", "c") apart.
        let text = format!("{}:{namespace}{}:{workflow}{key}", namespace.len(), workflow.as_str().len());
        Self(Uuid::new_v5(&KEYED_RUNS, text.as_bytes()))
    }

    /// The UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// The shard that owns this run: 64-bit FNV-1a over the UUID's 16 bytes, its eight bytes XORed together.
    ///
    /// Source: Fowler, Noll, Vo, "FNV Hash", with the published 64-bit offset basis and prime.
    pub fn shard(self) -> Shard {
        let hash = self.0.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Shard(u16::from(hash.to_le_bytes().iter().fold(0, |folded, byte| folded ^ byte)))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| NameError(format!("`{text}` is not a run id: run ids are UUIDs, as `runs list` shows them")))
    }
}

/// The unit of ownership: a run belongs to one of [`SHARDS`] shards for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u16);

impl Shard {
    /// Every shard.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// The coordinator queue that this shard maps onto when there are `queues` of them.
    pub const fn queue(self, queues: u16) -> u16 {
        self.0 % queues
    }
}

/// Numbers the entries of a run: 1, 2, 3…
pub type EntryNo = u32;

/// Numbers the jobs of one handler within one entry: 0, 1, 2…
pub type JobIndex = u64;

/// Numbers the dispatches of a job: 1, 2, 3… The fence against superseded workers.
pub type Attempt = u32;

/// A random number that tells an entry from another of the same number in a lost timeline. Below 2^53, so that
/// every JSON reader keeps it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub u64);

impl Nonce {
    /// A nonce out of 64 random bits.
    pub const fn from_random(bits: u64) -> Self {
        Self(bits >> 11)
    }

    /// Whether every JSON reader and every store keeps it whole.
    pub const fn is_whole(self) -> bool {
        self.0 < 1 << 53
    }

    /// What messages about the making of lists carry in place of their entry's nonce, so that what is said of the making
    /// of a list is never taken for something that is said of a job.
    #[must_use]
    pub const fn of_lists(self) -> Self {
        Self::from_random((self.0 ^ 0x006c_6973_7400).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What the pages of a list are stored under that a handler makes itself, in an entry with this nonce. Worked out
    /// from all that the list is of: whatever number its maker has chosen for it, it is neither that of another
    /// handler's, or of another attempt, nor the entry's own.
    #[must_use]
    pub fn of_list(self, place: u16, attempt: Attempt, list: Self) -> Self {
        let parts = [u64::from(place), u64::from(attempt), list.0];
        let mixed = parts.into_iter().fold(self.0, |mixed, part| {
            scramble(mixed.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ scramble(part.wrapping_add(0x006c_6973_7400)))
        });
        let mixed = Self::from_random(mixed);
        if mixed == self { Self(mixed.0 ^ 1) } else { mixed }
    }
}

/// Spreads neighbouring numbers over the whole range. Source: Stafford's variant 13 of the MurmurHash3 finaliser.
pub(crate) const fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A name or an id that cannot be one, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// Checks what every name must keep: it becomes part of queue names, routing keys and file names.
///
/// # Errors
/// When `text` is empty, longer than [`MAX_NAME_BYTES`], or holds anything but ASCII letters, digits, `_`, `-`, `:`.
pub fn check_name(what: &str, text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
    if text.is_empty() {
        Err(NameError(format!("a {what} name must not be empty")))
    } else if text.len() > MAX_NAME_BYTES {
        Err(NameError(format!("a {what} name has at most {MAX_NAME_BYTES} characters; this one has {}", text.len())))
    } else if let Some(bad) = text.chars().find(|&c| !allowed(c)) {
        Err(NameError(format!("a {what} name has letters, digits, `_`, `-` and `:` only; `{text}` has {bad:?}")))
    } else {
        Ok(())
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("The ", $what, " name `text`.")]
            ///
            /// # Errors
            /// As [`check_name`] says.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a workflow.
    WorkflowName, "workflow"
);
name!(
    /// The name of a phase, unique within its workflow.
    PhaseName, "phase"
);
name!(
    /// The name of a handler, unique within its phase.
    HandlerName, "handler"
);

/// The content hash of a workflow: the first 32 hexadecimal digits of the SHA-256 of its canonical form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(Arc<str>);

impl Revision {
    /// The revision of a definition whose canonical form is `canonical`.
    pub fn of(canonical: &[u8]) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(canonical);
        Self(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// The revision as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where fresh ids and random numbers come from. One is made in `main`; everyone else is given it.
pub trait IdSource: fmt::Debug + Send + Sync + 'static {
    /// A fresh UUID; later ones sort after earlier ones.
    fn uuid(&self) -> Uuid;

    /// 64 random bits.
    fn random(&self) -> u64;
}

/// An id source shared by the parts of a program.
pub type SharedIds = Arc<dyn IdSource>;

/// Ids out of the operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place where ids are drawn")]
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where ids are drawn")]
    fn random(&self) -> u64 {
        // The last 62 bits of a version-7 UUID are random; two of them give 64 good ones.
        let (a, b) = (Uuid::now_v7().as_u64_pair().1, Uuid::now_v7().as_u64_pair().1);
        a ^ b.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_hash_never_changes() {
        for (id, shard) in [
            ("00000000-0000-0000-0000-000000000000", 0x90),
            ("00000000-0000-0000-0000-000000000001", 0x40),
            ("0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b", 0x1b),
        ] {
            assert_eq!(id.parse::<RunId>().unwrap().shard(), Shard(shard), "{id}");
        }
    }

    #[test]
    fn what_a_list_is_stored_under_never_changes() {
        for (nonce, place, attempt, list, stored) in [
            (5, 0, 1, 7, 4_008_152_101_140_207),
            (5, 1, 1, 7, 4_305_901_773_589_470),
            (5, 0, 2, 7, 7_019_166_424_486_525),
            (6, 0, 1, 7, 887_323_026_566_898),
            (5, 0, 1, u64::MAX, 4_680_656_905_986_551),
        ] {
            let found = Nonce(nonce).of_list(place, attempt, Nonce(list));
            assert_eq!(found, Nonce(stored), "{nonce} {place} {attempt} {list}");
            assert!(found.is_whole());
        }
    }

    #[test]
    fn lists_of_one_number_are_stored_apart() {
        let nonces = [0, 1, 5, (1 << 53) - 1].map(Nonce);
        let mut seen = std::collections::BTreeSet::new();
        for nonce in nonces {
            for (place, attempt, list) in
                (0..4).flat_map(|place| (1..5).flat_map(move |attempt| nonces.map(|list| (place, attempt, list))))
            {
                let stored = nonce.of_list(place, attempt, list);
                assert!(stored != nonce && seen.insert(stored), "{nonce:?} {place} {attempt} {list:?}");
            }
        }
    }

    #[test]
    fn shards_are_evenly_filled() {
        let mut filled = [0_u32; SHARDS as usize];
        for n in 0..256_000_u128 {
            filled[usize::from(RunId::new(Uuid::from_u128(n)).shard().0)] += 1;
        }
        assert!(filled.iter().all(|&n| (800..1200).contains(&n)), "{filled:?}");
    }

    #[test]
    fn a_key_names_one_run() {
        let workflow = WorkflowName::new("search").unwrap();
        let id = RunId::from_key("default", &workflow, "k");
        assert_eq!(id, RunId::from_key("default", &workflow, "k"));
        assert_ne!(id, RunId::from_key("default", &workflow, "k2"));
        assert_ne!(id, RunId::from_key("defaul", &WorkflowName::new("tsearch").unwrap(), "k"));
    }

    #[test]
    fn bad_names_say_why() {
        for (text, why) in [("", "empty"), ("a b", "' '"), ("a.b", "'.'"), (&"x".repeat(65), "at most 64")] {
            let error = PhaseName::new(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
