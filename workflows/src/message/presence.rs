//! Who works: announcements, heartbeats and goodbyes of workers, and the question that asks for them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Body;
use crate::id::HandlerName;
use crate::time::{Millis, Timestamp};

/// How often a worker announces itself.
pub const HEARTBEAT: Millis = Millis::from_secs(5);

/// After how long without an announcement a worker counts as gone.
pub const WORKER_TTL: Millis = Millis::from_secs(20);

/// A worker says that it is there: at start, on request, and every [`HEARTBEAT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAnnounced {
    /// Its id, new with each start.
    pub worker: Arc<str>,
    /// The machine it runs on.
    pub host: Arc<str>,
    /// Its process id.
    pub pid: u32,
    /// What it was written with, and the version of that (`rust/0.1.0`).
    pub sdk: Arc<str>,
    /// When it started.
    pub started_at: Timestamp,
    /// The handlers it hosts.
    pub handlers: Vec<HostedHandler>,
    /// Whether it is stopping: it finishes what it has and takes nothing new.
    #[serde(default)]
    pub draining: bool,
}

impl Body for WorkerAnnounced {
    const KIND: &'static str = "WorkerAnnounced";
}

/// A handler that a worker hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedHandler {
    /// Its name.
    pub name: HandlerName,
    /// Its version.
    pub version: semver::Version,
    /// How many of its jobs this worker runs at once.
    pub slots: u32,
    /// How many it runs right now.
    pub in_flight: u32,
}

/// A worker says goodbye.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGone {
    /// Its id.
    pub worker: Arc<str>,
}

impl Body for WorkerGone {
    const KIND: &'static str = "WorkerGone";
}

/// Asks every worker to announce itself now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersWanted {
    /// Who asks.
    pub from: Arc<str>,
}

impl Body for WorkersWanted {
    const KIND: &'static str = "WorkersWanted";
}
