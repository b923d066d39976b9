//! Whether a run as it stands keeps the invariants of the design, as far as that can be seen from its state and its
//! history. It shares no code with the transition function but the types: tests hold it against every state they come
//! to, and a live installation against its runs. What breaks an invariant is [`Broken`].

mod history;
mod state;

use std::fmt;

#[cfg(any(test, feature = "testkit"))]
pub(crate) use history::allowed;
pub use history::check_history;
pub use state::{check_jobs, check_state};

use super::{HistoryEvent, Run};
use crate::definition::Workflow;
use crate::time::{Millis, Timestamp};

/// How long after its time a timer may go off before that is worth a word: a coordinator may just have been replaced.
pub const OVERDUE: Millis = Millis::from_mins(2);

/// An invariant that does not hold, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its name in the design.
    pub invariant: &'static str,
    /// How it shows.
    pub words: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is broken: {}", self.invariant, self.words)
    }
}

impl std::error::Error for Broken {}

/// Whether an invariant holds.
pub type Check = Result<(), Broken>;

/// Says that `invariant` is broken unless `holds`.
pub(crate) fn ensure(holds: bool, invariant: &'static str, words: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken { invariant, words: words() }) }
}

/// Everything that is found wrong with a run as it was stored, of each kind of check the first. Without its whole
/// history only its state is looked at.
pub fn audit(workflow: &Workflow, run: &Run, history: Option<&[HistoryEvent]>, now: Timestamp) -> Vec<Broken> {
    let history = history.map_or(Ok(()), |history| check_history(workflow, run, history));
    [check_state(workflow, run), history, check_timer(run, now)].into_iter().filter_map(Result::err).collect()
}

/// What is due has been done.
fn check_timer(run: &Run, now: Timestamp) -> Check {
    let late = run.head.wake_at.map_or(Millis(0), |at| now.since(at));
    ensure(late <= OVERDUE, "no-stranded-run", || format!("its timer was due {late} ago, and nobody looked after it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Harness, final_phase, handler, phase, workflow};

    /// What the auditor says of a run that was tampered with.
    #[track_caller]
    fn check(script: &str, tamper: impl FnOnce(&mut Harness), expected: &[&str]) {
        let work = phase("work").to("end").handler(handler("a").count(4).window(3));
        let mut harness = Harness::start(workflow("small").phase(work).phase(final_phase("end")).build());
        harness.play(script);
        tamper(&mut harness);
        let found = audit(&harness.workflow, &harness.run, Some(&harness.stored.history), harness.now);
        let found: Vec<_> = found.iter().map(|broken| broken.invariant).collect();
        assert_eq!(found, expected, "after `{script}`");
    }

    #[test]
    fn what_was_tampered_with_is_found() {
        for script in ["", "done:a:0", "fail:a:1 pause", "done:a:0-2 done:a:3", "done:a:0-2 done:a:3 next next"] {
            check(script, |_| {}, &[]);
        }
        check("done:a:0", |it| it.run.head.entry.handlers[0].done += 1, &["counted-once"]);
        check("done:a:0", |it| assert!(it.run.jobs[0].terminal.insert(1)), &["counted-once"]);
        check("", |it| it.run.head.wake_at = None, &["no-stranded-run"]);
        check("", |it| it.now = it.now.plus(Millis::from_mins(10)), &["no-stranded-run"]);
        check("", |it| it.run.head.entry.handlers[0].window = 2, &["limits-hold"]);
        check("done:a:0", |it| drop(it.stored.history.pop()), &["history-true"]);
        check("done:a:0", |it| it.run.head.events += 1, &["history-true"]);
        check("", |it| it.run.head.state = crate::run::RunState::Succeeded, &["one-end", "history-true"]);
        check("", |it| it.run.head.entry.phase = "gone".parse().expect("a phase name"), &["pinned", "history-true"]);
    }
}
