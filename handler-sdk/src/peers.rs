//! Who else hosts the handlers of this worker, as far as they are heard of. For what workers share between them, such as a
//! rate limit; decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phasework_workflows::id::HandlerName;
use phasework_workflows::message::presence::{WORKER_TTL, WorkerAnnounced};
use tokio::time::Instant;

use crate::hosted::Handlers;
use crate::rate::Share;

/// The other workers that take jobs.
#[derive(Debug, Default)]
pub(crate) struct Peers(BTreeMap<Arc<str>, Peer>);

#[derive(Debug)]
struct Peer {
    heard: Instant,
    handlers: Vec<HandlerName>,
}

impl Peers {
    /// A worker says that it is there. One that drains takes nothing any more.
    pub(crate) fn announced(&mut self, by: WorkerAnnounced, now: Instant) {
        if by.draining {
            return self.gone(&by.worker);
        }
        let mut handlers: Vec<_> = by.handlers.into_iter().map(|handler| handler.name).collect();
        handlers.dedup();
        self.0.insert(by.worker, Peer { heard: now, handlers });
    }

    /// A worker says goodbye.
    pub(crate) fn gone(&mut self, worker: &str) {
        self.0.remove(worker);
    }

    /// Those that were not heard of for long are gone too.
    pub(crate) fn forget_silent(&mut self, now: Instant) {
        self.0.retain(|_, peer| now.duration_since(peer.heard) <= Duration::from(WORKER_TTL));
    }

    /// Tells each handler whose limit is shared which share of it `me` has.
    pub(crate) fn share_out(&self, me: &str, handlers: &Handlers) {
        for hosted in &handlers.hosted {
            if let Some(rate) = hosted.rate.as_ref().filter(|rate| rate.is_shared()) {
                rate.shared(self.share(me, &hosted.name));
            }
        }
    }

    fn share(&self, me: &str, handler: &HandlerName) -> Share {
        let others = self.0.iter().filter(|(worker, peer)| ***worker != *me && peer.handlers.contains(handler));
        let (mut place, mut workers) = (0, 1);
        for (worker, _) in others {
            workers += 1;
            place += u32::from(**worker < *me);
        }
        Share { place, workers }
    }
}

#[cfg(test)]
mod tests {

    use phasework_workflows::message::presence::HostedHandler;
    use phasework_workflows::time::Timestamp;

    use super::*;

    fn announced(worker: &str, handlers: &[&str], draining: bool) -> WorkerAnnounced {
        let hosted = |name: &&str| HostedHandler {
            name: name.parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            slots: 1,
            in_flight: 0,
        };
        WorkerAnnounced {
            worker: worker.into(),
            host: "h".into(),
            pid: 1,
            sdk: "rust/0".into(),
            started_at: Timestamp::default(),
            handlers: handlers.iter().map(hosted).collect(),
            draining,
        }
    }

    #[test]
    fn a_share_is_a_place_among_those_that_take_jobs() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let share = |peers: &Peers| {
            let Share { place, workers } = peers.share("m", &"A".parse().unwrap());
            (place, workers)
        };
        assert_eq!(share(&peers), (0, 1));
        for (worker, handlers) in [("m", &["A"][..]), ("a", &["A", "A"]), ("z", &["B", "A"]), ("b", &["B"])] {
            peers.announced(announced(worker, handlers, false), now);
        }
        assert_eq!(share(&peers), (1, 3), "this worker itself counts once, one without the handler not at all");
        peers.announced(announced("a", &["A"], true), now);
        assert_eq!(share(&peers), (0, 2));
        peers.announced(announced("c", &["A"], false), now + Duration::from_secs(15));
        peers.forget_silent(now + Duration::from_secs(21));
        assert_eq!(share(&peers), (1, 2), "z was not heard of");
        peers.gone("c");
        assert_eq!(share(&peers), (0, 1));
    }
}
