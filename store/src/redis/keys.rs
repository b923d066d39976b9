//! Every key there is. What belongs to a shard shares the hash tag `{pw:<shard>}`, so that a run, its indexes, timers and
//! outbox lie together and are written by one script, while the shards may lie apart. No key of ours ever expires.
//!
//! | key, after the prefix | type | holds |
//! |---|---|---|
//! | `:format` | string | the version of this layout |
//! | `:{pw:S}:run:R` | string | the record of run R of shard S: version, index and head |
//! | `:{pw:S}:run:R:data`, `:output` | string | its data and its result |
//! | `:{pw:S}:run:R:bits:H` | string | terminal jobs of handler H of its current entry |
//! | `:{pw:S}:run:R:exceptions` | hash | `H:job` to the exception, of its current entry |
//! | `:{pw:S}:run:R:outbox` | hash | version to the effects |
//! | `:{pw:S}:run:R:outputs:E:H` | list | outputs of handler H of entry E, a page per commit |
//! | `:{pw:S}:run:R:inputs:E:N:H` | hash | pages of inputs of handler H of entry E with nonce N |
//! | `:{pw:S}:run:R:inputs` | set | the `E:N:H` there are |
//! | `:{pw:S}:run:R:history`, `:failures` | list | what happened, what failed for good |
//! | `:{pw:S}:live`, `:ended` | zset | runs as `time:R`, by when they were made; all of score 0 |
//! | `:{pw:S}:ended-at` | zset | ended runs, by when they ended |
//! | `:{pw:S}:timers` | zset | runs, by when they are to be woken |
//! | `:{pw:S}:awaiting`, `:unpublished` | set | runs that wait for a worker, runs with an outbox |
//! | `:{pw:S}:epoch` | string | the epoch that the runs of shard S were recovered for |
//! | `:{pw:timeline}:marker` | string | the marker that the broker holds too |
//! | `:{pw:timeline}:queues` | string | the highest number of coordinator queues there ever were |
//! | `:{pw:workflows}:definitions` | hash | revision to the definition |
//! | `:{pw:workflows}:latest` | hash | name to its latest revision |
//! | `:{pw:workflows}:revisions:NAME` | list | the revisions of a name, the latest first |
//! | `:{pw:workers}` | hash | worker id to what it announced |
//! | `:{pw:dead}:letters`, `:order` | hash, zset | dead letters, and their ids by time |

use std::fmt;

use phasework_workflows::id::{EntryNo, Nonce, RunId, Shard, WorkflowName};
use redis::{RedisWrite, ToRedisArgs};

use crate::StoreError;

/// Makes the keys that begin with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// A key, as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    base: &'a str,
    part: Part<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Name(&'a str),
    Bits(u16),
    Outputs(EntryNo, u16),
    Inputs(InputsName),
    Revisions(&'a WorkflowName),
}

/// The name of the inputs of one handler of one entry within their run: `E:N:H`.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputsName {
    pub(super) entry: EntryNo,
    pub(super) nonce: Nonce,
    pub(super) handler: u16,
}

impl fmt::Display for InputsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.entry, self.nonce.0, self.handler)
    }
}

impl InputsName {
    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn read(text: &str) -> Result<Self, StoreError> {
        Self::parse(text).ok_or_else(|| StoreError::Corrupt(format!("`{text}` is no name of inputs")))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (entry, nonce, handler) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { entry: entry.parse().ok()?, nonce: Nonce(nonce.parse().ok()?), handler: handler.parse().ok()? })
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base)?;
        match self.part {
            Part::Name(name) => f.write_str(name),
            Part::Bits(handler) => write!(f, ":bits:{handler}"),
            Part::Outputs(entry, handler) => write!(f, ":outputs:{entry}:{handler}"),
            Part::Inputs(inputs) => write!(f, ":inputs:{inputs}"),
            Part::Revisions(name) => write!(f, ":{{pw:workflows}}:revisions:{name}"),
        }
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn key<'a>(&'a self, name: &'a str) -> Key<'a> {
        Key { base: &self.prefix, part: Part::Name(name) }
    }

    pub(super) fn shard(&self, shard: Shard) -> ShardKeys {
        ShardKeys { base: format!("{}:{{pw:{}}}", self.prefix, shard.0) }
    }

    pub(super) fn run(&self, run: RunId) -> RunKeys {
        RunKeys { base: format!("{}:{{pw:{}}}:run:{run}", self.prefix, run.shard().0) }
    }

    pub(super) fn format(&self) -> Key<'_> {
        self.key(":format")
    }

    pub(super) fn definitions(&self) -> Key<'_> {
        self.key(":{pw:workflows}:definitions")
    }

    pub(super) fn latest(&self) -> Key<'_> {
        self.key(":{pw:workflows}:latest")
    }

    pub(super) fn revisions<'a>(&'a self, name: &'a WorkflowName) -> Key<'a> {
        Key { base: &self.prefix, part: Part::Revisions(name) }
    }

    pub(super) fn marker(&self) -> Key<'_> {
        self.key(":{pw:timeline}:marker")
    }

    pub(super) fn queues(&self) -> Key<'_> {
        self.key(":{pw:timeline}:queues")
    }

    pub(super) fn workers(&self) -> Key<'_> {
        self.key(":{pw:workers}")
    }

    pub(super) fn letters(&self) -> Key<'_> {
        self.key(":{pw:dead}:letters")
    }

    pub(super) fn letter_order(&self) -> Key<'_> {
        self.key(":{pw:dead}:order")
    }
}

macro_rules! names {
    ($keys:ident { $($method:ident => $name:literal),* $(,)? }) => {
        impl $keys {
            $(pub(super) fn $method(&self) -> Key<'_> {
                Key { base: &self.base, part: Part::Name($name) }
            })*
        }
    };
}

/// The keys of a shard.
#[derive(Clone, Debug)]
pub(super) struct ShardKeys {
    base: String,
}

names!(ShardKeys {
    live => ":live",
    ended => ":ended",
    ended_at => ":ended-at",
    timers => ":timers",
    awaiting => ":awaiting",
    unpublished => ":unpublished",
    epoch => ":epoch",
});

/// The keys of a run.
#[derive(Clone, Debug)]
pub(super) struct RunKeys {
    base: String,
}

names!(RunKeys {
    record => "",
    data => ":data",
    output => ":output",
    exceptions => ":exceptions",
    outbox => ":outbox",
    all_inputs => ":inputs",
    history => ":history",
    failures => ":failures",
});

impl RunKeys {
    pub(super) fn bits(&self, handler: u16) -> Key<'_> {
        Key { base: &self.base, part: Part::Bits(handler) }
    }

    pub(super) fn outputs(&self, entry: EntryNo, handler: u16) -> Key<'_> {
        Key { base: &self.base, part: Part::Outputs(entry, handler) }
    }

    pub(super) fn inputs(&self, name: InputsName) -> Key<'_> {
        Key { base: &self.base, part: Part::Inputs(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_shard_share_its_tag() {
        let keys = Keys::new("phasework");
        let run: RunId = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b".parse().unwrap();
        let of_run = keys.run(run);
        let shard = keys.shard(run.shard());
        let inputs = InputsName { entry: 2, nonce: Nonce(77), handler: 3 };
        let base = "phasework:{pw:27}:run:0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";
        for (key, text) in [
            (of_run.record(), base.to_owned()),
            (of_run.bits(1), format!("{base}:bits:1")),
            (of_run.outputs(2, 3), format!("{base}:outputs:2:3")),
            (of_run.inputs(inputs), format!("{base}:inputs:2:77:3")),
            (shard.timers(), "phasework:{pw:27}:timers".to_owned()),
            (keys.format(), "phasework:format".to_owned()),
            (keys.revisions(&WorkflowName::new("a:b").unwrap()), "phasework:{pw:workflows}:revisions:a:b".to_owned()),
        ] {
            assert_eq!(key.to_string(), text);
        }
        let parsed = InputsName::parse("2:77:3").unwrap();
        assert_eq!(parsed.to_string(), inputs.to_string());
        assert!(InputsName::parse("2:77").is_none());
    }
}
