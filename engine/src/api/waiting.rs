//! What a run waits for, in words. Every run that has not ended waits for something that can be named.

use std::fmt::Write as _;

use phasework_workflows::Version;
use phasework_workflows::definition::Phase;
use phasework_workflows::id::HandlerName;
use phasework_workflows::run::{HandlerEntry, Head, RunState, Stage};

/// How many handlers are named; the others are counted.
const NAMED: usize = 3;

/// What a run waits for. `phase` is the one it is in, as its definition has it; `is_hosted` tells whether a live worker
/// hosts a version of a handler.
pub(super) fn waiting_for(
    head: &Head,
    phase: Option<&Phase>,
    is_hosted: &dyn Fn(&HandlerName, &Version) -> bool,
) -> Option<String> {
    match (head.state, head.entry.stage) {
        (RunState::Succeeded | RunState::Failed | RunState::Canceled, _) => None,
        (RunState::Halted, _) | (RunState::Running, Stage::Halted) => {
            Some(format!("an order: it halted in phase `{}` and does not go on by itself", head.entry.phase))
        }
        (RunState::Paused, _) => Some("an order: it is paused, and goes on when it is told to resume".to_owned()),
        (RunState::Canceling, _) => {
            let out = head.entry.handlers.iter().map(|handler| handler.out).sum();
            let deadline = head.canceling.as_ref().map_or_else(String::new, |it| format!(", until {}", it.deadline));
            Some(format!("{} to stop, as it is being canceled{deadline}", jobs(out)))
        }
        (RunState::Running, Stage::Finished { .. }) => {
            Some(format!("the coordinator, to go on from phase `{}`, which has finished", head.entry.phase))
        }
        (RunState::Running, Stage::Working) => Some(working(head, phase, is_hosted)),
    }
}

fn working(head: &Head, phase: Option<&Phase>, is_hosted: &dyn Fn(&HandlerName, &Version) -> bool) -> String {
    let unfinished: Vec<_> = head.entry.handlers.iter().filter(|handler| !handler.is_finished()).collect();
    let named = unfinished.iter().take(NAMED).map(|handler| one(handler, head, phase, is_hosted));
    let mut words = named.collect::<Vec<_>>().join("; ");
    if unfinished.is_empty() {
        "the coordinator, to finish the phase".clone_into(&mut words);
    } else if unfinished.len() > NAMED {
        // Writing to a text cannot fail.
        let _ = write!(words, "; and {} more handlers", unfinished.len() - NAMED);
    }
    words
}

fn one(
    handler: &HandlerEntry,
    head: &Head,
    phase: Option<&Phase>,
    is_hosted: &dyn Fn(&HandlerName, &Version) -> bool,
) -> String {
    let name = &handler.name;
    let Some(version) = &handler.version else {
        let requirement = phase.and_then(|phase| phase.handler(name)).map(|(_, spec)| &spec.version);
        return match requirement.filter(|requirement| !requirement.is_any()) {
            Some(requirement) => format!("a worker that hosts {name} {requirement}"),
            None => format!("a worker that hosts {name}"),
        };
    };
    if let Some(enumeration) = handler.enumeration.filter(|_| handler.is_listing()) {
        return listing(handler, enumeration.jobs, head, is_hosted(name, version));
    }
    if handler.total.is_none() {
        return format!("the list of jobs of {name} to be made");
    }
    match (handler.out, handler.waiting) {
        (0, 0) => format!("the coordinator, to let out jobs of {name}"),
        (0, waiting) => match head.wake_at.filter(|_| !head.awaits_worker) {
            Some(at) => format!("a retry at {at} of {} of {name}", jobs(waiting)),
            None => format!("a retry of {} of {name}", jobs(waiting)),
        },
        (out, _) if out == handler.leased => format!("{} of {name} {version}, under way with a lease", jobs(out)),
        (out, _) if is_hosted(name, version) => format!("{} of {name} {version}, queued or under way", jobs(out)),
        (out, _) => format!("a worker that hosts {name} {version}, for {} in its queue", jobs(out)),
    }
}

/// While a handler makes its list of jobs itself, that is what is out, or waits for another try.
fn listing(handler: &HandlerEntry, listed: u64, head: &Head, is_hosted: bool) -> String {
    let name = &handler.name;
    match (handler.out, handler.waiting) {
        (0, 0) => format!("the coordinator, to have {name} make its list of jobs"),
        (0, _) => match head.wake_at.filter(|_| !head.awaits_worker) {
            Some(at) => format!("a retry at {at} of {name}'s list of jobs"),
            None => format!("a retry of {name}'s list of jobs"),
        },
        _ if is_hosted || handler.leased > 0 => format!("{name}'s list of jobs: {} so far", jobs(listed)),
        _ => {
            let version = handler.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            format!("a worker that hosts {name}{version}, to make its list of jobs")
        }
    }
}

fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

#[cfg(test)]
mod tests {
    use phasework_workflows::definition::{Workflow, parse};
    use phasework_workflows::id::{Nonce, RunId};
    use phasework_workflows::message::event::{PhaseStatus, StartRun};
    use phasework_workflows::run::{Enumeration, Moment, start};
    use phasework_workflows::time::Timestamp;

    use super::*;

    fn workflow() -> Workflow {
        let text = r#"{"workflow": "w", "phases": {
            "work": {"is_initial": true, "transitions_to": "end", "handlers": [
                "A", {"name": "B", "version": "~> 1.2"}, "C", "D", "E"]},
            "end": {"is_final": true}}}"#;
        parse(text).unwrap().workflow
    }

    /// A run in `work` in which only these handlers have something left to do.
    fn run(workflow: &Workflow, left: &[&str], change: impl Fn(&mut HandlerEntry)) -> Head {
        let order = StartRun {
            run: RunId::new(uuid::Uuid::from_u128(7)),
            workflow: workflow.name.clone(),
            revision: workflow.revision.clone(),
            key: None,
            data: None,
            reply: None,
            traceparent: None,
            actor: None,
        };
        let mut head = start(
            workflow,
            &order,
            Moment { now: Timestamp::from_millis(0), random: 1, listening_since: Timestamp::default() },
        )
        .0
        .head;
        for handler in &mut head.entry.handlers {
            handler.version = Some(Version::new(1, 2, 3));
            match left.contains(&handler.name.as_str()) {
                true => change(handler),
                false => handler.done = 1,
            }
        }
        head
    }

    /// It makes its list itself, and has come to 12,000 jobs.
    fn lists(handler: &mut HandlerEntry, out: u64, waiting: u64) {
        let list = Enumeration { list: Some(Nonce(7)), jobs: 12_000, bytes: 9 };
        (handler.total, handler.enumeration, handler.out, handler.waiting) = (None, Some(list), out, waiting);
    }

    fn check(head: &Head, workflow: &Workflow, is_hosted: bool, expected: Option<&str>) {
        let words = waiting_for(head, workflow.phase(&head.entry.phase), &|_, _| is_hosted);
        assert_eq!(words.as_deref(), expected);
    }

    #[test]
    fn a_working_run_names_what_its_handlers_wait_for() {
        type Change = fn(&mut HandlerEntry);
        let (none, unpinned): (Change, Change) = (|_| {}, |handler| handler.version = None);
        let unlisted: Change = |handler| handler.total = None;
        let out: Change = |handler| (handler.total, handler.out) = (Some(5), 2);
        let listing: Change = |handler| lists(handler, 1, 0);
        let (list_again, list_due): (Change, Change) = (|handler| lists(handler, 0, 1), |handler| lists(handler, 0, 0));
        let retry: Change = |handler| handler.waiting = 1;
        let rows: [(&[&str], Change, bool, &str); 13] = [
            (&["A"], unpinned, true, "a worker that hosts A"),
            (&["B"], unpinned, true, "a worker that hosts B ~> 1.2"),
            (&["A", "B"], unpinned, true, "a worker that hosts A; a worker that hosts B ~> 1.2"),
            (&["A"], unlisted, true, "the list of jobs of A to be made"),
            (&["A"], listing, true, "A's list of jobs: 12000 jobs so far"),
            (&["A"], listing, false, "a worker that hosts A 1.2.3, to make its list of jobs"),
            (&["A"], list_again, true, "a retry at 1970-01-01T00:00:09.000Z of A's list of jobs"),
            (&["A"], list_due, true, "the coordinator, to have A make its list of jobs"),
            (&["A"], out, true, "2 jobs of A 1.2.3, queued or under way"),
            (&["A"], out, false, "a worker that hosts A 1.2.3, for 2 jobs in its queue"),
            (&["A"], retry, true, "a retry at 1970-01-01T00:00:09.000Z of 1 job of A"),
            (&["A"], none, true, "the coordinator, to let out jobs of A"),
            (&[], none, true, "the coordinator, to finish the phase"),
        ];
        let workflow = workflow();
        for (left, change, is_hosted, expected) in rows {
            let mut head = run(&workflow, left, change);
            head.wake_at = Some(Timestamp::from_millis(9000));
            head.awaits_worker = false;
            check(&head, &workflow, is_hosted, Some(expected));
        }
    }

    #[test]
    fn many_handlers_are_counted() {
        let workflow = workflow();
        let head = run(&workflow, &["A", "B", "C", "D", "E"], |handler| handler.out = 1);
        let words = "1 job of A 1.2.3, queued or under way; 1 job of B 1.2.3, queued or under way; \
                     1 job of C 1.2.3, queued or under way; and 2 more handlers";
        check(&head, &workflow, true, Some(words));
    }

    #[test]
    fn whatever_state_a_run_is_in_it_waits_for_something_until_it_has_ended() {
        let workflow = workflow();
        let finished = Stage::Finished { status: PhaseStatus::Succeeded, at: Timestamp::from_millis(1) };
        for (state, stage, expected) in [
            (RunState::Running, finished, Some("the coordinator, to go on from phase `work`, which has finished")),
            (RunState::Halted, Stage::Halted, Some("an order: it halted in phase `work` and does not go on by itself")),
            (RunState::Succeeded, finished, None),
            (RunState::Failed, finished, None),
            (RunState::Canceled, Stage::Working, None),
        ] {
            let mut head = run(&workflow, &["A"], |_| {});
            (head.state, head.entry.stage) = (state, stage);
            check(&head, &workflow, true, expected);
        }
    }

    #[test]
    fn a_definition_that_cannot_be_read_leaves_the_rest_to_be_said() {
        let head = run(&workflow(), &["B"], |handler| handler.version = None);
        assert_eq!(waiting_for(&head, None, &|_, _| true).as_deref(), Some("a worker that hosts B"));
    }
}
