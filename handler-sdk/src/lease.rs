//! When the lease on one attempt is asked for, asked for again, and renewed; and how far its handler says it is. Knows
//! of time, and of no broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use phasework_workflows::message::lease::LEASE;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long an answer may take before the question is asked again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How often the progress of a job is told, at most.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How often a lease is renewed in the time that it lasts.
const RENEWALS: u32 = 3;

/// The lease on one attempt, from before it is asked for. One that was granted and has run out is renewed like any
/// other: whether the attempt still matters is for the coordinator to say.
#[derive(Debug)]
pub(crate) struct Lease {
    due: Instant,
    asked: Option<Instant>,
    granted: bool,
    told: Option<u8>,
}

impl Lease {
    /// To be asked for at `due`.
    pub(crate) fn wanted(due: Instant) -> Self {
        Self { due, asked: None, granted: false, told: None }
    }

    /// When to ask, with the handler as far as this.
    pub(crate) fn due(&self, progress: Option<u8>) -> Instant {
        match self.asked {
            Some(asked) if self.granted && progress != self.told => self.due.min(asked + PROGRESS_EVERY),
            _ => self.due,
        }
    }

    /// It is asked for now.
    pub(crate) fn ask(&mut self, now: Instant, progress: Option<u8>) {
        (self.asked, self.due, self.told) = (Some(now), now + PATIENCE, progress);
    }

    /// It is granted, for so long. Counted from the question, as nobody knows how long the answer took.
    pub(crate) fn grant(&mut self, lasts: Duration, now: Instant) {
        self.granted = true;
        self.due = self.asked.unwrap_or(now) + lasts.min(LEASE.into()) / RENEWALS;
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.granted
    }
}

/// How far a handler is, shared with the [`Context`](crate::Context) it was given.
#[derive(Debug)]
pub(crate) struct Progress {
    percent: AtomicU8,
    /// Whether somebody wants to know before the next renewal.
    leased: AtomicBool,
    told: Arc<Notify>,
}

/// As long as the handler has said nothing.
const UNKNOWN: u8 = u8::MAX;

impl Progress {
    /// Not known yet; `told` is notified when a leased job gets on.
    pub(crate) fn new(told: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { percent: AtomicU8::new(UNKNOWN), leased: AtomicBool::new(false), told })
    }

    pub(crate) fn tell(&self, percent: u8) {
        let percent = percent.min(100);
        if self.percent.swap(percent, Ordering::Relaxed) != percent && self.leased.load(Ordering::Relaxed) {
            self.told.notify_one();
        }
    }

    pub(crate) fn percent(&self) -> Option<u8> {
        Some(self.percent.load(Ordering::Relaxed)).filter(|&percent| percent != UNKNOWN)
    }

    pub(crate) fn leased(&self) {
        self.leased.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_asked_for_again_and_renewed_in_time() {
        let start = Instant::now();
        let after = |lease: &Lease, progress| lease.due(progress).duration_since(start).as_secs();
        let mut lease = Lease::wanted(start + 30 * SECOND);
        assert_eq!(after(&lease, Some(10)), 30, "nobody waits for the progress of a job without a lease");
        lease.ask(start + 30 * SECOND, Some(10));
        assert_eq!((after(&lease, Some(10)), after(&lease, Some(20))), (35, 35));
        lease.ask(start + 35 * SECOND, Some(20));
        lease.grant(60 * SECOND, start + 37 * SECOND);
        assert_eq!((after(&lease, Some(20)), after(&lease, Some(21))), (55, 36));
        lease.ask(start + 55 * SECOND, Some(21));
        assert_eq!((after(&lease, Some(21)), after(&lease, Some(22))), (60, 56), "the renewal is not answered yet");
        lease.grant(Duration::MAX, start + 56 * SECOND);
        assert_eq!(after(&lease, Some(21)), 75);
        lease.grant(9 * SECOND, start + 57 * SECOND);
        assert_eq!(after(&lease, Some(21)), 58);
    }
}
