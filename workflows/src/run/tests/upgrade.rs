//! Runs that were written down by the version before go on, each to its end. What lies in `format-1` was written by a
//! program of that format: head, bitmaps, exceptions, history and outbox of a run in several states.

use serde_json::Value;

use crate::definition::{Tolerance, Workflow};
use crate::id::{EntryNo, JobIndex, PhaseName};
use crate::message::event::{Control, ControlAction};
use crate::message::outcome::Status;
use crate::payload::Payload;
use crate::run::{Effect, Event, Exception, Head, RunState, STATE_FORMAT, Unreadable};
use crate::testkit::{Harness, Stored, WorkflowBuilder, final_phase, handler, phase, workflow};

const WORKING: &str = include_str!("format-1/working.json");
const AWAITING: &str = include_str!("format-1/awaiting-a-worker.json");
const FINISHED: &str = include_str!("format-1/finished-failed.json");
const HALTED: &str = include_str!("format-1/halted.json");
const UNPUBLISHED: &str = include_str!("format-1/unpublished.json");
const CANCELED: &str = include_str!("format-1/canceled.json");

/// The definition that all of them are runs of.
fn small() -> Workflow {
    let a = handler("a").count(12).window(5).tries(3).tolerate(Tolerance::Count(1));
    let work = phase("work").to("more").on_error("oops").handler(a).handler("b");
    let more = phase("more").to("end").handler(handler("c").each("data.pages"));
    let ends = [final_phase("end").handler("d"), final_phase("oops")];
    ends.into_iter().fold(workflow("small").phase(work).phase(more), WorkflowBuilder::phase).build()
}

/// A run as the file has it, taken up by a coordinator of this version.
fn taken_up(file: &str) -> Harness {
    let file: Value = serde_json::from_str(file).unwrap();
    let part = |name: &str| file[name].clone();
    let head = Head::from_json(&serde_json::to_vec(&part("head")).unwrap()).unwrap();
    assert_eq!((file["head"]["format"].as_u64(), head.format), (Some(1), STATE_FORMAT));
    let bits: Vec<(EntryNo, u16, Vec<u8>)> = serde_json::from_value(part("bits")).unwrap();
    let exceptions: Vec<(EntryNo, u16, JobIndex, Exception)> = serde_json::from_value(part("exceptions")).unwrap();
    let outbox: Vec<(u64, Vec<Effect>)> = serde_json::from_value(part("outbox")).unwrap();
    // The files leave out what outputs were: a run is only told how many there are.
    let handlers =
        head.entry.handlers.iter().zip(0..).flat_map(|(it, place)| (0..it.outputs).map(move |job| (place, job)));
    let outputs = handlers.map(|(place, job)| ((head.entry.number, place, job), Payload::null())).collect();
    let mut harness = Harness::start(small());
    harness.jobs.clear();
    harness.events.clear();
    harness.now = head.entry.entered_at;
    harness.stored = Stored {
        head: Some(head),
        bits: bits.into_iter().map(|(entry, handler, bits)| ((entry, handler), bits)).collect(),
        exceptions: exceptions.into_iter().map(|(entry, handler, job, it)| ((entry, handler, job), it)).collect(),
        failures: serde_json::from_value(part("failures")).unwrap(),
        history: serde_json::from_value(part("history")).unwrap(),
        outputs,
        outbox,
        ..Stored::default()
    };
    harness.crash().unwrap();
    harness.publish();
    // The shards of a store that was used by that version have never been recovered by this one.
    harness.deliver(&Event::Recover);
    harness
}

/// Workers do what is out; what was on the way is lost, so only what is found out by silence and probes gets done.
fn play_to_the_end(harness: &mut Harness) {
    for _ in 0..200 {
        for event in std::mem::take(&mut harness.events) {
            harness.deliver(&event);
        }
        for job in std::mem::take(&mut harness.jobs) {
            let outcome = harness.outcome(job.handler.as_str(), job.index, job.attempt, Status::Done);
            harness.deliver(&outcome);
        }
        if let Some(probe) = harness.probes.pop() {
            harness.deliver(&probe);
        }
        if harness.run.head.state != RunState::Running {
            return;
        }
        harness.move_to_timer();
        harness.deliver(&Event::Wake);
    }
    panic!("no end: {}", harness.summary());
}

#[test]
fn runs_of_the_format_before_go_on_to_their_end() {
    for (file, expected) in [
        (WORKING, "succeeded end#3"),
        (AWAITING, "succeeded end#3"),
        (FINISHED, "failed oops#2"),
        (UNPUBLISHED, "succeeded end#3"),
        (CANCELED, "canceled work#1"),
        (HALTED, "halted more#2"),
    ] {
        let mut harness = taken_up(file);
        play_to_the_end(&mut harness);
        let summary = harness.summary();
        assert!(summary.starts_with(expected), "{summary}, not {expected}");
    }
}

#[test]
fn a_halted_run_of_the_format_before_enters_a_phase_anew() {
    let mut harness = taken_up(HALTED);
    let phase = Some(PhaseName::new("more").unwrap());
    let rerun = Control { phase, ..Control::new(harness.run.head.id, ControlAction::Rerun) };
    assert_eq!(harness.deliver(&Event::Control(rerun)), None);
    play_to_the_end(&mut harness);
    assert!(harness.summary().starts_with("succeeded end#4"), "{}", harness.summary());
}

#[test]
fn a_halted_run_of_the_format_before_is_not_retried_as_its_failed_jobs_are_not_known() {
    let mut harness = taken_up(HALTED);
    let before = harness.run.head.clone();
    harness.play("retry=not-recorded");
    assert_eq!(harness.run.head, before);
}

#[test]
fn a_later_format_is_refused() {
    let later = WORKING.replacen("\"format\": 1", &format!("\"format\": {}", STATE_FORMAT + 1), 1);
    let head: Value = serde_json::from_str(&later).unwrap();
    let refused = Head::from_json(&serde_json::to_vec(&head["head"]).unwrap()).unwrap_err();
    assert_eq!(refused, Unreadable::Newer { format: STATE_FORMAT + 1 });
    assert!(refused.to_string().contains("update it"), "{refused}");
}
