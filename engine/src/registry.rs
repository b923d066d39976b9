//! Which workers live, and what they host. Learned from presence; a copy in the store outlives this process.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use phasework_workflows::definition::VersionRequirement;
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::presence::{WORKER_TTL, WorkerAnnounced};
use phasework_workflows::time::Timestamp;
use semver::Version;

use crate::watch;

/// The workers that are known. Cheap to clone; all clones are one registry.
#[derive(Clone, Debug)]
pub struct Registry {
    workers: Arc<RwLock<BTreeMap<Arc<str>, KnownWorker>>>,
    /// Counts the changes after which a waiting run may go on.
    changes: Arc<watch::Sender<u64>>,
}

/// A worker, and when it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownWorker {
    /// What it said of itself.
    pub announced: WorkerAnnounced,
    /// When.
    pub last_seen: Timestamp,
}

impl KnownWorker {
    /// Whether it was heard of lately.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now.since(self.last_seen) <= WORKER_TTL
    }
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { workers: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }

    /// Notes that a worker was heard of. Whether what is on offer has changed: a new worker, or other handlers.
    pub(crate) fn heard(&self, announced: WorkerAnnounced, at: Timestamp) -> bool {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let known = workers.get(&announced.worker);
        let offers = |worker: &WorkerAnnounced| -> Vec<(HandlerName, Version)> {
            let handlers = worker.handlers.iter().filter(|_| !worker.draining);
            handlers.map(|handler| (handler.name.clone(), handler.version.clone())).collect()
        };
        let is_new = known.is_none_or(|known| !known.is_live(at) || offers(&known.announced) != offers(&announced));
        let last_seen = known.map_or(at, |known| known.last_seen.max(at));
        workers.insert(Arc::clone(&announced.worker), KnownWorker { announced, last_seen });
        drop(workers);
        if is_new {
            self.changes.change(|changes| {
                *changes += 1;
                true
            });
        }
        is_new
    }

    /// Notes that a worker said goodbye.
    pub(crate) fn gone(&self, worker: &str) {
        self.workers.write().unwrap_or_else(PoisonError::into_inner).remove(worker);
    }

    /// Forgets workers that were not heard of for ten times as long as they should have been; they are returned.
    pub(crate) fn forget_lost(&self, now: Timestamp) -> Vec<Arc<str>> {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let mut lost = Vec::new();
        workers.retain(|id, known| {
            let keep = now.since(known.last_seen).0 <= 10 * WORKER_TTL.0;
            if !keep {
                lost.push(Arc::clone(id));
            }
            keep
        });
        lost
    }

    /// Every worker that is known, live or lately gone.
    pub fn workers(&self) -> Vec<KnownWorker> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The highest live version of a handler that meets a requirement, and how many slots live workers have for it.
    /// A draining worker still counts for work that is there, but does not make a version live.
    pub fn highest(
        &self,
        handler: &HandlerName,
        requirement: &VersionRequirement,
        now: Timestamp,
    ) -> Option<(Version, u32)> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let live = workers.values().filter(|known| known.is_live(now) && !known.announced.draining);
        let hosted: Vec<_> =
            live.flat_map(|known| &known.announced.handlers).filter(|hosted| hosted.name == *handler).collect();
        let version = requirement.highest(hosted.iter().map(|hosted| &hosted.version))?.clone();
        let slots = hosted.iter().filter(|hosted| hosted.version == version).map(|hosted| hosted.slots);
        let slots = slots.fold(0, u32::saturating_add);
        Some((version, slots))
    }

    /// Whether a live worker hosts this very version. One that drains does: it finishes what is on its queue.
    pub fn is_hosted(&self, handler: &HandlerName, version: &Version, now: Timestamp) -> bool {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let live = workers.values().filter(|known| known.is_live(now));
        let mut hosted = live.flat_map(|known| &known.announced.handlers);
        hosted.any(|hosted| hosted.name == *handler && hosted.version == *version)
    }

    /// Tells of every change after which a waiting run may go on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use phasework_workflows::message::presence::HostedHandler;

    use super::*;

    fn worker(id: &str, version: &str, draining: bool) -> WorkerAnnounced {
        WorkerAnnounced {
            worker: id.into(),
            host: "box".into(),
            pid: 1,
            sdk: "test".into(),
            started_at: Timestamp::from_millis(0),
            handlers: vec![HostedHandler {
                name: HandlerName::new("H").unwrap(),
                version: version.parse().unwrap(),
                slots: 8,
                in_flight: 0,
            }],
            draining,
        }
    }

    #[test]
    fn the_highest_live_fitting_version_is_found() {
        let registry = Registry::new();
        let at = Timestamp::from_millis(1_000_000);
        let stale = Timestamp::from_millis(1_000_000 - 60_000);
        for (id, version, draining, seen) in [
            ("a", "1.2.0", false, at),
            ("b", "1.9.0", false, at),
            ("b2", "1.9.0", false, at),
            ("c", "1.10.0", true, at),
            ("d", "1.11.0", false, stale),
            ("e", "2.0.0", false, at),
        ] {
            registry.heard(worker(id, version, draining), seen);
        }
        let handler = HandlerName::new("H").unwrap();
        let highest = |text: &str| {
            let requirement = VersionRequirement::parse(text).unwrap();
            registry.highest(&handler, &requirement, at).map(|(version, slots)| (version.to_string(), slots))
        };
        assert_eq!(highest("~> 1.2"), Some(("1.9.0".into(), 16)));
        assert_eq!(highest("*"), Some(("2.0.0".into(), 8)));
        assert_eq!(highest("^3"), None);
    }

    #[test]
    fn only_news_is_a_change() {
        let registry = Registry::new();
        let at = |ms| Timestamp::from_millis(ms);
        assert!(registry.heard(worker("a", "1.0.0", false), at(0)));
        assert!(!registry.heard(worker("a", "1.0.0", false), at(5_000)));
        assert!(registry.heard(worker("a", "1.1.0", false), at(6_000)), "another version");
        assert!(registry.heard(worker("a", "1.1.0", false), at(90_000)), "back after it was lost");
        assert_eq!(registry.forget_lost(at(1_000_000)), vec![Arc::from("a")]);
    }
}
