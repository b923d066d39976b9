//! Ends the process when the runtime does not turn any more, as when a handler blocks every thread of it. Such a worker
//! sends no heartbeats, renews no leases and reports nothing, and still holds its jobs; once it is gone they go to others.
//!
//! Measured by a thread of its own, which knocks, and a task, which answers. No timer of the runtime takes part, so that
//! paused time, as in tests, means nothing; and no clock, so that a machine that slept is not taken for a runtime that
//! did not turn.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How long the runtime may stand still, unless told otherwise.
pub(crate) const DEFAULT_WATCHDOG: Duration = Duration::from_secs(60);

/// What the process then ends with: an internal software error, in `sysexits.h`.
const EXIT_CODE: i32 = 70;

/// How often the thread knocks in the time that the runtime may stand still.
const KNOCKS: u32 = 12;

/// How long the last words may take. Whoever blocks the runtime may hold what they need.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Watches the runtime it was started on, until it is dropped.
pub(crate) struct Watchdog {
    answering: AbortHandle,
    /// The thread ends when this is gone.
    _watching: Sender<()>,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

#[derive(Default)]
struct Door {
    knock: Notify,
    answered: AtomicBool,
}

impl Watchdog {
    /// Starts to watch; not at all if `limit` is zero, or if there can be no more threads.
    pub(crate) fn start(limit: Duration) -> Option<Self> {
        if limit.is_zero() {
            return None;
        }
        let door = Arc::new(Door::default());
        let (watching, watched) = channel();
        let knocking = Arc::clone(&door);
        let thread = thread::Builder::new().name("phasework-watchdog".to_owned());
        let started = thread.spawn(move || {
            if stands_still(&knocking, limit, &watched) {
                end(limit);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no watchdog: its thread cannot be started");
            return None;
        }
        let answering = tokio::spawn(async move {
            loop {
                door.knock.notified().await;
                door.answered.store(true, Ordering::Release);
            }
        });
        Some(Self { answering: answering.abort_handle(), _watching: watching })
    }
}

/// Waits until no knock was answered for as long as `limit`; false when the watchdog is gone.
fn stands_still(door: &Door, limit: Duration, watched: &Receiver<()>) -> bool {
    let pause = limit / KNOCKS;
    let mut unanswered = 0;
    while unanswered < KNOCKS {
        door.knock.notify_one();
        match watched.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        unanswered = if door.answered.swap(false, Ordering::AcqRel) { 0 } else { unanswered + 1 };
    }
    true
}

/// Ends the process, whatever its other threads do. Nothing is lost: messages that were not acknowledged come again, and
/// leases run out.
fn end(limit: Duration) -> ! {
    let (said, waits) = channel::<()>();
    let last_words = thread::Builder::new().name("phasework-last-words".to_owned()).spawn(move || {
        let _said = said;
        let text = format!(
            "nothing has run for {limit:?} in this worker: a handler blocks its threads. The process ends, so that its \
             jobs go to others. Long computations and blocking calls belong into tokio::task::spawn_blocking"
        );
        eprintln!("phasework: {text}");
        tracing::error!("{text}");
        process::exit(EXIT_CODE);
    });
    if last_words.is_ok() {
        waits.recv_timeout(LAST_WORDS).ok();
    }
    process::abort() // what runs at an exit, or writes a log, is blocked too
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(600);

    #[test]
    fn a_runtime_that_stands_still_is_noticed() {
        let (_watching, watched) = channel();
        assert!(stands_still(&Door::default(), LIMIT, &watched));
    }

    /// Answers knocks for longer than the limit, and then no more.
    #[test]
    fn a_runtime_that_turns_is_left_alone() {
        let door = Arc::new(Door::default());
        let (watching, watched) = channel();
        let (ended, end) = channel();
        let knocking = Arc::clone(&door);
        let thread = thread::spawn(move || ended.send(stands_still(&knocking, LIMIT, &watched)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..2 * KNOCKS {
                door.knock.notified().await;
                door.answered.store(true, Ordering::Release);
            }
        });
        assert!(end.try_recv().is_err(), "twice the limit has passed");
        drop(watching);
        assert_eq!(end.recv(), Ok(false));
        thread.join().unwrap().unwrap();
    }
}
