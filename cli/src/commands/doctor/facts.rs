//! What was found out about an installation. Plain data: how it is found out and what it means stand elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phasework_broker::rabbitmq::{self, Found};
use phasework_store::RunCounts;
use phasework_store::{redis, sqlite};
use phasework_workflows::Version;
use phasework_workflows::definition::VersionRequirement;
use phasework_workflows::id::{HandlerName, RunId};
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::time::Timestamp;

/// All that was found out.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) broker: Part<BrokerFacts>,
    pub(super) store: Part<StoreFacts>,
    pub(super) engine: EngineFacts,
}

/// A part of an installation.
#[derive(Clone, Debug)]
pub(super) enum Part<T> {
    /// It is in the memory of another process, where nobody can look at it.
    InMemory,
    /// It cannot be reached.
    Away {
        address: String,
        why: String,
    },
    /// It does not let us in.
    Refused {
        address: String,
        why: String,
    },
    There(T),
}

/// What was found out about RabbitMQ.
#[derive(Clone, Debug)]
pub(super) struct BrokerFacts {
    pub(super) address: String,
    pub(super) server: Result<rabbitmq::Server, String>,
    /// Whether it takes messages, and if not, why.
    pub(super) takes_messages: Result<(), String>,
    /// The coordinator queues, in their order.
    pub(super) coordinators: Vec<Queue>,
    pub(super) submit: Queue,
    pub(super) dead: Queue,
    /// The job queues of what live workers host.
    pub(super) jobs: Vec<Queue>,
    /// What tells whether something was lost; nothing when the store could not be asked for it.
    pub(super) markers: Option<Result<Markers, String>>,
}

/// What RabbitMQ holds of what tells whether something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Markers {
    /// Whether it holds the marker that the store has; nothing when the store has none.
    pub(super) holds_stored: Option<bool>,
    /// Whether it was used before.
    pub(super) was_used: bool,
}

/// A queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// What RabbitMQ calls it.
    pub(super) name: String,
    pub(super) found: Result<Found, String>,
}

/// What was found out about the store, and what it remembers.
#[derive(Clone, Debug)]
pub(super) struct StoreFacts {
    pub(super) address: String,
    /// What Redis says of itself; of a store on SQLite the time alone.
    pub(super) server: redis::Server,
    /// What is to be seen of the file, where the store is one.
    pub(super) file: Option<sqlite::Looked>,
    /// By how many milliseconds its clock is ahead of ours.
    pub(super) ahead_ms: i64,
    pub(super) memory: Result<Remembered, String>,
}

/// What the store remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    pub(super) runs: RunCounts,
    /// How many live runs were looked at, the newest.
    pub(super) looked_at: u64,
    pub(super) halted: Vec<RunId>,
    pub(super) paused: Vec<RunId>,
    /// What live runs wait for, and how many: `H ~> 1.2`.
    pub(super) missing: BTreeMap<String, u64>,
    pub(super) dead_letters: u64,
    pub(super) workers: Vec<(WorkerAnnounced, Timestamp)>,
    /// What stored definitions ask of each handler.
    pub(super) wanted: BTreeMap<HandlerName, Vec<VersionRequirement>>,
    /// The versions that live runs were given.
    pub(super) pinned: BTreeSet<(HandlerName, Version)>,
    /// The marker that RabbitMQ is to hold too.
    pub(super) marker: Option<Arc<str>>,
    /// What the timeline of the store is called.
    pub(super) lineage: Arc<str>,
    /// For which epochs the shards were recovered that have had a run.
    pub(super) epochs: Vec<Arc<str>>,
}

/// What was found out about the engine's API.
#[derive(Clone, Debug)]
pub(super) struct EngineFacts {
    pub(super) address: String,
    /// Whether somebody said that it is there.
    pub(super) is_named: bool,
    pub(super) answer: Result<EngineAnswer, String>,
}

/// What a coordinator says of itself.
#[derive(Clone, Debug)]
pub(super) struct EngineAnswer {
    pub(super) version: Option<String>,
    /// Why it is not ready; none when it is.
    pub(super) reasons: Vec<String>,
}
