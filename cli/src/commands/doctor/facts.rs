//! What was found out about an installation. Plain data: how it is found out and what it means stand elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use phasework_broker::rabbitmq::{self, Found};
use phasework_store::RunCounts;
use phasework_store::redis;
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
}

/// A queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// What RabbitMQ calls it.
    pub(super) name: String,
    pub(super) found: Result<Found, String>,
}

/// What was found out about Redis, and what it remembers.
#[derive(Clone, Debug)]
pub(super) struct StoreFacts {
    pub(super) address: String,
    pub(super) server: redis::Server,
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
