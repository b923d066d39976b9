//! What an asker is told: that a request was taken, why not, which jobs are leased.

use phasework_workflows::id::{EntryNo, HandlerName, Nonce, RunId};
use phasework_workflows::message::event::{Accepted, Refused};
use phasework_workflows::message::lease::{LeaseAnswer, LeaseWanted, LeasesAnswered};
use phasework_workflows::run::{Event, ExceptionState, Head, JobSet};
use phasework_workflows::time::{Millis, Timestamp};

use super::intake::What;

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted(Accepted),
    Refused(Refused),
    Leases(LeasesAnswered),
}

/// The answer to an event that somebody wants to know about, from the run as it is then.
pub(super) fn answer_of(what: &What, head: &Head, jobs: &[JobSet], changed: bool, now: Timestamp) -> Answer {
    match what {
        What::Event(Event::Leases { entry, nonce, handler, leases }) => {
            let is_current = (head.entry.number, head.entry.nonce) == (*entry, *nonce);
            let place = head.entry.handlers.iter().position(|it| it.name == *handler).filter(|_| is_current);
            let jobs = place.and_then(|place| jobs.get(place));
            Answer::Leases(leases_answered(head.id, (*entry, *nonce), handler, leases, |wanted| {
                let held = jobs?.exception(wanted.index).filter(|held| held.attempt == wanted.attempt)?;
                let ExceptionState::Leased(lease) = held.state else { return None };
                Some(lease.until.since(now)).filter(|left| *left > Millis(0))
            }))
        }
        What::Start(_) | What::Event(_) => {
            Answer::Accepted(Accepted { run: head.id, changed, state: head.state.as_str().into() })
        }
    }
}

fn leases_answered(
    run: RunId,
    (entry, nonce): (EntryNo, Nonce),
    handler: &HandlerName,
    leases: &[LeaseWanted],
    leased: impl Fn(&LeaseWanted) -> Option<Millis>,
) -> LeasesAnswered {
    let answer = |it: &LeaseWanted| LeaseAnswer { index: it.index, attempt: it.attempt, leased: leased(it) };
    let answers = leases.iter().map(answer).collect();
    LeasesAnswered { run, entry, nonce, handler: handler.clone(), answers }
}

/// The answer where there is no such run: nobody gets a lease on its jobs.
pub(super) fn answer_for_no_run(what: &What, run: RunId) -> Answer {
    match what {
        What::Event(Event::Leases { entry, nonce, handler, leases }) => {
            Answer::Leases(leases_answered(run, (*entry, *nonce), handler, leases, |_| None))
        }
        What::Start(_) | What::Event(_) => Answer::Refused(refused("unknown-run", "there is no such run".into())),
    }
}

pub(super) fn refused(code: &str, message: String) -> Refused {
    Refused { code: code.into(), message, problems: Vec::new() }
}
