//! How often jobs of a handler may start: never more of them than its limit says within any window of the length that it
//! names, wherever the window begins. (A bucket that fills up while nothing is done would let twice as many through.)
//! Knows of time, and of nothing that starts.
//!
//! A limit over all workers is shared out: each takes its part of the number, by its place among those that it knows to
//! live. Nobody asks anybody, so it is a limit for as long as all know of each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a pack of a handler with a limit waits for it, at the most. Then others shall have the rest of its jobs.
pub(crate) const RATE_PATIENCE: Duration = Duration::from_secs(5);

/// How many starts are remembered. A limit of more is kept in shorter windows, so many in each.
const MOST_KEPT: u32 = 1000;

/// So many starts in any window of such a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    count: u32,
    per: Duration,
}

impl Limit {
    /// So many starts in any window of such a length, or why that makes no sense.
    pub(crate) fn new(count: u32, per: Duration) -> Result<Self, String> {
        if count == 0 || per.is_zero() {
            return Err(format!("a rate limit of {count} per {per:?}: nothing would ever run, or nothing ever wait"));
        }
        Ok(Self { count, per })
    }

    /// The part of the worker with this place among so many: all parts together are the limit.
    fn part(self, Share { place, workers }: Share) -> Self {
        let extra = u32::from(place < self.count % workers);
        Self { count: self.count / workers + extra, ..self }
    }

    /// The same, or a little less, with no more starts in a window than are remembered.
    fn in_short_windows(self) -> Self {
        let windows = self.count.div_ceil(MOST_KEPT).max(1);
        Self { count: self.count / windows, per: self.per / windows }
    }
}

/// Which of a handler's live workers this is, from 0, and how many those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) place: u32,
    pub(crate) workers: u32,
}

/// The limits of one handler, and its last starts.
#[derive(Debug)]
pub(crate) struct Rate {
    own: Option<Limit>,
    global: Option<Limit>,
    state: Mutex<State>,
    /// Told when the share has changed.
    changed: Notify,
    /// Who waits for room, one after the other.
    line: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    share: Share,
    starts: VecDeque<Instant>,
}

impl Rate {
    /// The rate with these limits; none when there are none.
    pub(crate) fn of(own: Option<Limit>, global: Option<Limit>) -> Option<Arc<Self>> {
        let state = Mutex::new(State { share: Share { place: 0, workers: 1 }, starts: VecDeque::new() });
        let rate = || Arc::new(Self { own, global, state, changed: Notify::new(), line: tokio::sync::Mutex::new(()) });
        (own.is_some() || global.is_some()).then(rate)
    }

    /// Whether it has these limits.
    pub(crate) fn has(&self, own: Option<Limit>, global: Option<Limit>) -> bool {
        (self.own, self.global) == (own, global)
    }

    /// Whether it depends on who else works.
    pub(crate) fn is_shared(&self) -> bool {
        self.global.is_some()
    }

    /// This worker's share is another one from now on.
    pub(crate) fn shared(&self, share: Share) {
        let mut state = self.lock();
        if state.share != share {
            state.share = share;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// A job starts now; or, when it may not, the time from which one may, if it is known.
    pub(crate) fn start(&self, now: Instant) -> Result<(), Option<Instant>> {
        let mut state = self.lock();
        match self.free_at(&state) {
            Ok(free) if free.is_none_or(|free| free <= now) => {
                state.starts.push_back(now);
                if state.starts.len() > MOST_KEPT as usize {
                    state.starts.pop_front();
                }
                Ok(())
            }
            Ok(free) => Err(free),
            Err(Never) => Err(None),
        }
    }

    /// Waits until a job may start. Who waits is let go one after the other.
    pub(crate) async fn room(&self) {
        let _first = self.line.lock().await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let free = self.free_at(&self.lock());
            match free {
                Ok(free) if free.is_none_or(|free| free <= Instant::now()) => return,
                Ok(free) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = sleep_until(free.unwrap_or_else(Instant::now)) => {}
                    }
                }
                Err(Never) => changed.await,
            }
        }
    }

    /// When the next job may start; at any time if there is none.
    fn free_at(&self, state: &State) -> Result<Option<Instant>, Never> {
        let limits = [self.own, self.global.map(|limit| limit.part(state.share))];
        let mut free = None;
        for limit in limits.into_iter().flatten().map(Limit::in_short_windows) {
            if limit.count == 0 {
                return Err(Never);
            }
            let before = state.starts.len().checked_sub(limit.count as usize).map(|place| state.starts[place]);
            free = free.max(before.map(|before| before + limit.per));
        }
        Ok(free)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This worker has no part in the limit, as there are more workers than starts.
struct Never;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(count: u32, per: Duration) -> Option<Limit> {
        Some(Limit::new(count, per).unwrap())
    }

    /// Starts whenever it is allowed, looking every millisecond. When the starts were, in milliseconds.
    fn starts(rate: &Rate, begin: Instant, ms: std::ops::Range<u64>) -> Vec<u64> {
        let mut starts = Vec::new();
        for at in ms {
            while rate.start(begin + Duration::from_millis(at)).is_ok() {
                starts.push(at);
            }
        }
        starts
    }

    /// `starts` are in order.
    fn most_within(starts: &[u64], window: u64) -> usize {
        let within = |(place, from): (usize, &u64)| starts.partition_point(|&at| at < from + window) - place;
        starts.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn no_window_has_more_than_the_limit() {
        let begin = Instant::now();
        for (count, per_ms, expected) in [(3, 100, 300), (1, 1000, 10), (2500, 1000, 25_000), (10, 7, 14_290)] {
            let rate = Rate::of(limit(count, Duration::from_millis(per_ms)), None).unwrap();
            // A pause in the middle earns nothing.
            let mut all = starts(&rate, begin, 0..5000);
            all.extend(starts(&rate, begin, 9000..14_000));
            let most = most_within(&all, per_ms);
            assert!(most <= count as usize, "{most} of {count} within {per_ms} ms");
            assert!(all.len() * 100 >= expected * 97 && all.len() <= expected + count as usize, "{}", all.len());
        }
    }

    #[test]
    fn the_parts_of_all_workers_are_the_limit() {
        for (count, workers) in [(10, 1), (10, 3), (2, 5), (7, 7)] {
            let whole = Limit::new(count, SECOND).unwrap();
            let parts = (0..workers).map(|place| whole.part(Share { place, workers }).count);
            assert_eq!(parts.sum::<u32>(), count, "{count} over {workers}");
        }
    }

    #[test]
    fn a_share_that_shrinks_or_is_none_counts_what_was_started() {
        let (begin, rate) = (Instant::now(), Rate::of(limit(100, SECOND), limit(4, SECOND)).unwrap());
        assert!(rate.is_shared());
        assert_eq!(starts(&rate, begin, 0..500), [0, 0, 0, 0]);
        rate.shared(Share { place: 0, workers: 2 });
        assert_eq!(starts(&rate, begin, 500..2100), [1000, 1000, 2000, 2000]);
        rate.shared(Share { place: 4, workers: 5 });
        assert_eq!(rate.start(begin + 60 * SECOND), Err(None));
        rate.shared(Share { place: 0, workers: 1 });
        assert_eq!(rate.start(begin + 60 * SECOND), Ok(()));
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused() {
        assert!(Limit::new(0, SECOND).is_err() && Limit::new(1, Duration::ZERO).is_err());
        assert!(Rate::of(None, None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_let_go_in_time() {
        let rate = Rate::of(None, limit(1, 60 * SECOND)).unwrap();
        let begin = Instant::now();
        rate.room().await;
        rate.start(Instant::now()).unwrap();
        rate.room().await;
        assert_eq!(begin.elapsed(), 60 * SECOND);
        rate.shared(Share { place: 1, workers: 2 });
        let mine = async {
            tokio::time::sleep(SECOND).await;
            rate.shared(Share { place: 0, workers: 2 });
        };
        tokio::join!(rate.room(), mine);
        assert_eq!(begin.elapsed(), 61 * SECOND);
    }
}
