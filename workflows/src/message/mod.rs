//! What travels between the programs: JSON bodies with a protocol version, told apart by the message's `type` property.
//!
//! [`job`] goes to workers, [`outcome`] comes back, with [`lease`] and [`probe`] for what takes long or got lost, and
//! [`listing`] for lists of jobs that workers make;
//! [`event`] drives coordinators, [`submission`] comes from clients,
//! [`presence`] tells who works, [`notice`] tells the world. Nothing here says how or where they are sent.

pub mod event;
pub mod job;
pub mod lease;
pub mod listing;
pub mod notice;
pub mod outcome;
pub mod presence;
pub mod probe;
pub mod submission;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the protocol that this code speaks. Readers refuse what is newer.
pub const PROTOCOL: u32 = 1;

/// The largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The largest run data, job input or job output, in bytes, unless configured otherwise.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A message body of one kind.
pub trait Body: Serialize + DeserializeOwned {
    /// The value of the message's `type` property.
    const KIND: &'static str;
}

/// A body that carries many things of one kind, so that a bad one can be set aside alone.
pub trait Batch: Body {
    /// One of them.
    type Item: DeserializeOwned;
    /// The name of the field that holds them.
    const ITEMS: &'static str;

    /// All of them.
    fn into_items(self) -> Vec<Self::Item>;
}

/// An item of a batch that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadItem {
    /// A body with this item alone.
    pub body: Vec<u8>,
    /// What is wrong with it.
    pub reason: DecodeError,
}

/// Why a body is not what its kind says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is of a later protocol version.
    #[error("protocol version {found} is not supported; this program speaks {PROTOCOL}")]
    Version {
        /// The version it says.
        found: u32,
    },
    /// It is too large to be read.
    #[error("a body of {size} bytes is too large; at most {MAX_BODY_BYTES} are read")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// It is no JSON, or JSON of another shape.
    #[error("not a {kind}: {message}")]
    Malformed {
        /// What it should have been.
        kind: &'static str,
        /// What is wrong, with line and column.
        message: String,
    },
}

/// Writes `body` with the protocol version in front.
pub fn encode<T: Body>(body: &T) -> Vec<u8> {
    // Written by hand around the body, because flattening goes through a buffer that payloads cannot pass.
    let mut json = format!("{{\"v\":{PROTOCOL},").into_bytes();
    let written = serde_json::to_vec(body).expect("message bodies are structs of plain data");
    match written.as_slice() {
        [b'{', b'}'] => *json.last_mut().expect("not empty") = b'}',
        [b'{', rest @ ..] => json.extend_from_slice(rest),
        _ => unreachable!("message bodies are structs"),
    }
    json
}

/// Reads a body of kind `T`.
///
/// # Errors
/// When it is too large, of a later version, or of another shape. Unknown fields are passed over, so that a later
/// version of the same protocol may add some.
pub fn decode<T: Body>(body: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Header {
        v: u32,
    }
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::TooLarge { size: body.len() });
    }
    let malformed = |error: serde_json::Error| DecodeError::Malformed { kind: T::KIND, message: error.to_string() };
    match serde_json::from_slice::<T>(body) {
        Ok(read) if body.starts_with(b"{\"v\":1,") || body == b"{\"v\":1}" => Ok(read), // how we write it ourselves
        read => {
            let header: Header = serde_json::from_slice(body).map_err(malformed)?;
            if header.v == PROTOCOL { read.map_err(malformed) } else { Err(DecodeError::Version { found: header.v }) }
        }
    }
}

/// Reads a batch; items that cannot be read do not keep the others from being read.
///
/// # Errors
/// When the batch itself cannot be read.
pub fn decode_batch<T: Batch>(body: &[u8]) -> Result<(Vec<T::Item>, Vec<BadItem>), DecodeError> {
    let whole = match decode::<T>(body) {
        Ok(batch) => return Ok((batch.into_items(), Vec::new())),
        Err(error @ DecodeError::Malformed { .. }) => error,
        Err(error) => return Err(error),
    };
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(body) else { return Err(whole) };
    let version = fields.get("v").and_then(|v| v.get().parse::<u32>().ok());
    let items = fields.get(T::ITEMS).and_then(|items| serde_json::from_str::<Vec<&RawValue>>(items.get()).ok());
    let (Some(PROTOCOL), Some(items)) = (version, items) else { return Err(whole) };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for item in items {
        match serde_json::from_str::<T::Item>(item.get()) {
            Ok(item) => good.push(item),
            Err(error) => bad.push(BadItem {
                body: format!("{{\"v\":{PROTOCOL},\"{}\":[{}]}}", T::ITEMS, item.get()).into_bytes(),
                reason: DecodeError::Malformed { kind: T::KIND, message: error.to_string() },
            }),
        }
    }
    // With every item good the fault lies elsewhere in the batch.
    if bad.is_empty() { Err(whole) } else { Ok((good, bad)) }
}

#[cfg(test)]
mod tests {
    use super::event::{PhaseStatus, PhasesFinished};
    use super::presence::WorkersWanted;
    use super::*;

    fn wanted() -> WorkersWanted {
        WorkersWanted { from: "c1".into() }
    }

    #[test]
    fn a_body_carries_its_version_and_survives() {
        let body = encode(&wanted());
        assert_eq!(String::from_utf8_lossy(&body), r#"{"v":1,"from":"c1"}"#);
        assert_eq!(decode::<WorkersWanted>(&body), Ok(wanted()));
        assert_eq!(decode::<WorkersWanted>(br#" { "from": "c1", "new": 2, "v": 1 }"#), Ok(wanted()));
    }

    #[test]
    fn what_is_not_a_body_says_why() {
        for (body, why) in [
            (r#"{"from":"c1"}"#, "missing field `v`"),
            (r#"{"v":2,"other":1}"#, "protocol version 2"),
            (r#"{"v":1,"from":7}"#, "line 1 column"),
            ("", "EOF"),
            ("[]", "not a WorkersWanted"),
            ("\u{1}\u{2}", "not a WorkersWanted"),
        ] {
            let error = decode::<WorkersWanted>(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{body} gave {error}");
        }
        let deep = format!("{{\"v\":1,\"from\":{}", "[".repeat(100_000));
        assert!(decode::<WorkersWanted>(deep.as_bytes()).is_err());
        let large = vec![b' '; MAX_BODY_BYTES + 1];
        assert_eq!(decode::<WorkersWanted>(&large), Err(DecodeError::TooLarge { size: large.len() }));
    }

    #[test]
    fn a_group_of_endless_jobs_is_counted() {
        let golden = include_str!("golden/jobs.json").replace('\n', "");
        let mut group = decode::<job::Jobs>(golden.as_bytes()).unwrap().groups.remove(0);
        group.jobs.push(job::Job { index: 1, attempt: 2, tried: 1, input: None, details: None });
        for range in [(0, u64::MAX), (u64::MAX, 2), (u64::MAX, u64::MAX)] {
            group.range = Some(range);
            assert_eq!(group.len(), range.1.saturating_add(group.jobs.len() as u64), "{range:?}");
            assert!(!group.is_empty() && group.each().take(3).count() > 0, "{range:?}");
        }
    }

    #[test]
    fn a_bad_item_is_set_aside_alone() {
        let golden = include_str!("golden/phase_finished.json").replace('\n', "");
        let item = &golden[golden.find('[').unwrap() + 1..golden.rfind(']').unwrap()];
        let mixed = format!(r#"{{"v":1,"items":[{item},{{"run":"no"}},7,{item}]}}"#);
        let (good, bad) = decode_batch::<PhasesFinished>(mixed.as_bytes()).unwrap();
        assert_eq!(good.len(), 2);
        let bodies: Vec<_> = bad.iter().map(|bad| String::from_utf8_lossy(&bad.body).into_owned()).collect();
        assert_eq!(bodies, [r#"{"v":1,"items":[{"run":"no"}]}"#, r#"{"v":1,"items":[7]}"#]);
        for hopeless in ["", "7", r#"{"v":1}"#, r#"{"v":2,"items":[]}"#, r#"{"v":1,"items":7}"#] {
            assert!(decode_batch::<PhasesFinished>(hopeless.as_bytes()).is_err(), "{hopeless}");
        }
    }

    /// The wire format is frozen: these texts are what other programs, in other languages, send and expect.
    #[test]
    fn golden_bodies_are_read_and_written_as_they_stand() {
        fn check<T: Body + PartialEq + std::fmt::Debug>(golden: &str) {
            let golden: String = golden.lines().map(str::trim).collect();
            let read = decode::<T>(golden.as_bytes()).unwrap_or_else(|error| panic!("{golden}: {error}"));
            assert_eq!(String::from_utf8_lossy(&encode(&read)), golden);
        }
        check::<job::Jobs>(include_str!("golden/jobs.json"));
        check::<outcome::JobsFinished>(include_str!("golden/jobs_finished.json"));
        check::<event::StartRuns>(include_str!("golden/start_run.json"));
        check::<event::PhasesFinished>(include_str!("golden/phase_finished.json"));
        check::<event::Controls>(include_str!("golden/control.json"));
        check::<event::Controls>(include_str!("golden/control_rerun.json"));
        check::<lease::Leases>(include_str!("golden/leases.json"));
        check::<lease::LeasesAnswered>(include_str!("golden/leases_answered.json"));
        check::<job::Jobs>(include_str!("golden/jobs_enumerate.json"));
        check::<listing::JobsListed>(include_str!("golden/jobs_listed.json"));
        check::<listing::ListAnswered>(include_str!("golden/list_answered.json"));
        check::<outcome::JobsFinished>(include_str!("golden/jobs_finished_enumerate.json"));
        check::<probe::Probes>(include_str!("golden/probe.json"));
        check::<probe::ProbesReturned>(include_str!("golden/probe_returned.json"));
        check::<submission::Submit>(include_str!("golden/submit.json"));
        check::<presence::WorkerAnnounced>(include_str!("golden/worker_announced.json"));
        check::<notice::Lifecycles>(include_str!("golden/lifecycle.json"));
        check::<notice::DeadLetter>(include_str!("golden/dead_letter.json"));
    }

    #[test]
    fn status_is_one_word() {
        let golden = include_str!("golden/phase_finished.json").replace('\n', "");
        let read = decode::<PhasesFinished>(golden.as_bytes()).unwrap();
        assert_eq!(read.items[0].status, PhaseStatus::Succeeded);
    }
}
