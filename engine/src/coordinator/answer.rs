//! What an asker is told: that a request was taken, why not, which jobs are leased, how much of a list is stored.

use phasework_workflows::id::{Attempt, EntryNo, HandlerName, Nonce, RunId};
use phasework_workflows::message::event::{Accepted, Refused};
use phasework_workflows::message::lease::{LeaseAnswer, LeaseWanted, LeasesAnswered};
use phasework_workflows::message::listing::{LISTING, ListAnswered};
use phasework_workflows::run::{Enumeration, Event, ExceptionState, Head, JobSet, RunState, Stage};
use phasework_workflows::time::{Millis, Timestamp};

use super::intake::What;

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted(Accepted),
    Refused(Refused),
    Leases(LeasesAnswered),
    Listed(ListAnswered),
}

/// The answer to an event that somebody wants to know about, from the run as it is then.
pub(super) fn answer_of(what: &What, head: &Head, jobs: &[JobSet], changed: bool, now: Timestamp) -> Answer {
    match what {
        What::Event(Event::Leases { entry, nonce, handler, leases }) => {
            let place = place_of(head, (*entry, *nonce), handler);
            let jobs = place.and_then(|place| jobs.get(place));
            Answer::Leases(leases_answered(head.id, (*entry, *nonce), handler, leases, |wanted| {
                let held = jobs?.exception(wanted.index).filter(|held| held.attempt == wanted.attempt)?;
                let ExceptionState::Leased(lease) = held.state else { return None };
                Some(lease.until.since(now)).filter(|left| *left > Millis(0))
            }))
        }
        What::Event(Event::JobsListed { entry, nonce, handler, attempt, list, .. }) => {
            let goes_on = match head.state {
                RunState::Running | RunState::Paused | RunState::Halted => {
                    !matches!(head.entry.stage, Stage::Finished { .. })
                }
                RunState::Canceling | RunState::Succeeded | RunState::Failed | RunState::Canceled => false,
            };
            let place = place_of(head, (*entry, *nonce), handler).filter(|_| goes_on);
            let listing = place.and_then(|place| {
                let listing = head.entry.handlers.get(place).filter(|it| it.is_listing() && it.out > 0)?;
                let current = jobs.get(place)?.exception(LISTING).map_or(1, |exception| exception.attempt);
                let stored_under = head.entry.nonce.of_list(u16::try_from(place).ok()?, *attempt, *list);
                listing.enumeration.filter(|_| current == *attempt).map(|listing| (listing, stored_under))
            });
            let is_other = |(it, its): (Enumeration, Nonce)| it.list.is_some_and(|taken| taken != its);
            let standing = match listing {
                None => Standing::Over,
                Some(listing) if is_other(listing) => Standing::OfOther,
                Some((listing, _)) => Standing::Listed(listing.jobs),
            };
            Answer::Listed(list_answered(head.id, (*entry, *nonce), handler, (*attempt, *list), standing))
        }
        What::Start(_) | What::Event(_) => {
            Answer::Accepted(Accepted { run: head.id, changed, state: head.state.as_str().into() })
        }
    }
}

/// The handler that is spoken of, unless that is of another entry, or of jobs in place of their list.
fn place_of(head: &Head, (entry, nonce): (EntryNo, Nonce), name: &HandlerName) -> Option<usize> {
    let place = head.entry.handlers.iter().position(|it| it.name == *name)?;
    let current = if head.entry.handlers[place].is_listing() { head.entry.nonce.of_lists() } else { head.entry.nonce };
    Some(place).filter(|_| (head.entry.number, current) == (entry, nonce))
}

/// How a list stands whose maker asks.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// So many of its jobs are stored.
    Listed(u64),
    /// Another list of the attempt is taken.
    OfOther,
    /// Nobody waits for it any more.
    Over,
}

fn list_answered(
    run: RunId,
    (entry, nonce): (EntryNo, Nonce),
    handler: &HandlerName,
    (attempt, list): (Attempt, Nonce),
    standing: Standing,
) -> ListAnswered {
    let (listed, other) = match standing {
        Standing::Listed(jobs) => (Some(jobs), false),
        Standing::OfOther => (None, true),
        Standing::Over => (None, false),
    };
    ListAnswered { run, entry, nonce, handler: handler.clone(), attempt, list, listed, other }
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
        What::Event(Event::JobsListed { entry, nonce, handler, attempt, list, .. }) => {
            Answer::Listed(list_answered(run, (*entry, *nonce), handler, (*attempt, *list), Standing::Over))
        }
        What::Start(_) | What::Event(_) => Answer::Refused(refused("unknown-run", "there is no such run".into())),
    }
}

pub(super) fn refused(code: &str, message: String) -> Refused {
    Refused { code: code.into(), message, problems: Vec::new() }
}

#[cfg(test)]
mod tests {
    use phasework_workflows::testkit::{Harness, final_phase, handler, phase, workflow};

    use super::*;

    #[test]
    fn who_makes_a_list_is_told_how_far_it_is_or_to_stop() {
        for (script, attempt, list, expected) in [
            ("", 1, 7, (Some(0), false)),
            ("page:a:0-2", 1, 7, (Some(3), false)),
            ("page:a:0-2 pause", 1, 7, (Some(3), false)),
            // The message came twice, and another's list is taken.
            ("page:a:0-2", 1, 8, (None, true)),
            ("page:a:0-2", 2, 7, (None, false)),
            ("page:a:0-2 fail:a:0", 1, 7, (None, false)),
            ("page:a:0-2 fail:a:0 wake", 1, 7, (None, false)),
            ("page:a:0-2 sealed:a:3", 1, 7, (None, false)),
            ("page:a:0-2 cancel:5000", 1, 7, (None, false)),
            // The phase has failed by another handler: nobody waits for this one's list.
            ("page:a:0-2 fatal:b:0", 1, 7, (None, false)),
        ] {
            let work =
                phase("work").to("end").on_error("oops").handler(handler("a").enumerates().tries(2)).handler("b");
            let ends = workflow("small").phase(work).phase(final_phase("end")).phase(final_phase("oops"));
            let mut harness = Harness::start(ends.build());
            let page = harness.page("a", attempt, list, 3, 1);
            let Harness { run, now, .. } = harness.play(script);
            let answer = answer_of(&What::Event(page), &run.head, &run.jobs, false, *now);
            let Answer::Listed(answer) = answer else { panic!("{answer:?}") };
            assert_eq!((answer.listed, answer.other), expected, "after `{script}`");
            assert_eq!((answer.attempt, answer.list), (attempt, Nonce(list)));
        }
    }
}
