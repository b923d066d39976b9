//! When the lease on one attempt is asked for, asked for again, and renewed; and how far its handler says it is. Knows
//! of time, and of no broker.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phasework_workflows::Payload;
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
    told: Said,
}

/// What a handler has said so far: how far it is, and how many checkpoints it has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) percent: Option<u8>,
    checkpoints: u64,
}

impl Lease {
    /// To be asked for at `due`.
    pub(crate) fn wanted(due: Instant) -> Self {
        Self { due, asked: None, granted: false, told: Said::default() }
    }

    /// When to ask, with the handler as far as this.
    pub(crate) fn due(&self, said: Said) -> Instant {
        match self.asked {
            Some(asked) if self.granted && said != self.told => self.due.min(asked + PROGRESS_EVERY),
            _ => self.due,
        }
    }

    /// It is asked for now.
    pub(crate) fn ask(&mut self, now: Instant, said: Said) {
        (self.asked, self.due, self.told) = (Some(now), now + PATIENCE, said);
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

/// How far a handler is, and what it leaves for the next attempt; shared with the [`Context`](crate::Context) it was given.
#[derive(Debug)]
pub(crate) struct Progress {
    percent: AtomicU8,
    /// Whether somebody wants to know before the next renewal.
    leased: AtomicBool,
    told: Arc<Notify>,
    /// How many checkpoints it made, and the last.
    checkpoint: Mutex<(u64, Option<Payload>)>,
    /// All that it said, where a test wants to know.
    kept: Option<Mutex<Kept>>,
}

/// All that a handler said.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) percents: Vec<u8>,
    pub(crate) checkpoints: Vec<Payload>,
}

/// As long as the handler has said nothing.
const UNKNOWN: u8 = u8::MAX;

impl Progress {
    /// Not known yet; `told` is notified when a leased job gets on.
    pub(crate) fn new(told: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self::said_nothing(told, None))
    }

    /// One that keeps all that it is told.
    pub(crate) fn kept() -> Arc<Self> {
        Arc::new(Self::said_nothing(Arc::default(), Some(Mutex::default())))
    }

    fn said_nothing(told: Arc<Notify>, kept: Option<Mutex<Kept>>) -> Self {
        let (percent, leased) = (AtomicU8::new(UNKNOWN), AtomicBool::new(false));
        Self { percent, leased, told, checkpoint: Mutex::default(), kept }
    }

    /// Takes all that it was told, if that is kept.
    pub(crate) fn take_kept(&self) -> Kept {
        self.kept.as_ref().map(|kept| std::mem::take(&mut *lock(kept))).unwrap_or_default()
    }

    pub(crate) fn tell(&self, percent: u8) {
        let percent = percent.min(100);
        if let Some(kept) = &self.kept {
            lock(kept).percents.push(percent);
        }
        if self.percent.swap(percent, Ordering::Relaxed) != percent && self.leased.load(Ordering::Relaxed) {
            self.told.notify_one();
        }
    }

    /// The handler leaves this for the next attempt.
    pub(crate) fn leave(&self, details: Payload) {
        if let Some(kept) = &self.kept {
            lock(kept).checkpoints.push(details.clone());
        }
        let mut checkpoint = lock(&self.checkpoint);
        *checkpoint = (checkpoint.0 + 1, Some(details));
        drop(checkpoint);
        if self.leased.load(Ordering::Relaxed) {
            self.told.notify_one();
        }
    }

    /// What the handler has left for the next attempt.
    pub(crate) fn left(&self) -> Option<Payload> {
        lock(&self.checkpoint).1.clone()
    }

    pub(crate) fn said(&self) -> Said {
        let percent = Some(self.percent.load(Ordering::Relaxed)).filter(|&percent| percent != UNKNOWN);
        Said { percent, checkpoints: lock(&self.checkpoint).0 }
    }

    pub(crate) fn leased(&self) {
        self.leased.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner) // what is behind it is whole at any time
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_asked_for_again_and_renewed_in_time() {
        let start = Instant::now();
        let said = |percent: Option<u8>| Said { percent, checkpoints: 0 };
        let after = |lease: &Lease, percent| lease.due(said(percent)).duration_since(start).as_secs();
        let mut lease = Lease::wanted(start + 30 * SECOND);
        assert_eq!(after(&lease, Some(10)), 30, "nobody waits for the progress of a job without a lease");
        lease.ask(start + 30 * SECOND, said(Some(10)));
        assert_eq!((after(&lease, Some(10)), after(&lease, Some(20))), (35, 35));
        lease.ask(start + 35 * SECOND, said(Some(20)));
        lease.grant(60 * SECOND, start + 37 * SECOND);
        assert_eq!((after(&lease, Some(20)), after(&lease, Some(21))), (55, 36));
        lease.ask(start + 55 * SECOND, said(Some(21)));
        assert_eq!((after(&lease, Some(21)), after(&lease, Some(22))), (60, 56), "the renewal is not answered yet");
        lease.grant(Duration::MAX, start + 56 * SECOND);
        assert_eq!(after(&lease, Some(21)), 75);
        let checkpoint = Said { checkpoints: 1, ..said(Some(21)) };
        assert_eq!(lease.due(checkpoint).duration_since(start).as_secs(), 56, "a checkpoint is told as progress is");
        lease.grant(9 * SECOND, start + 57 * SECOND);
        assert_eq!(after(&lease, Some(21)), 58);
    }
}
