//! Any text as a stored run, and then events for it: it is refused, or whatever happens to it brings no coordinator
//! down. A run in JSON comes first, as `workflows/src/run/tests/format-1` has them; what follows it are the events.

use arbitrary::Unstructured;
use phasework_workflows::definition::{Tolerance, Workflow};
use phasework_workflows::id::{EntryNo, JobIndex};
use phasework_workflows::run::audit::{audit, check_jobs};
use phasework_workflows::run::{Bitmap, Effect, Exception, Head, HistoryEvent, JobSet, Moment, Run, apply};
use phasework_workflows::testkit::{WorkflowBuilder, final_phase, handler, phase, workflow};
use phasework_workflows::time::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chance;

/// A run as a store gives it back; of what is not there, there is nothing.
#[derive(Deserialize)]
struct StoredRun<'a> {
    #[serde(borrow)]
    head: &'a RawValue,
    #[serde(default)]
    bits: Vec<(EntryNo, u16, Vec<u8>)>,
    #[serde(default)]
    exceptions: Vec<(EntryNo, u16, JobIndex, Exception)>,
    #[serde(default)]
    history: Vec<HistoryEvent>,
    #[serde(default)]
    outbox: Vec<(u64, Vec<Effect>)>,
}

/// Loads `bytes` as a run and lets things happen to it.
pub fn state(bytes: &[u8]) {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<StoredRun<'_>>();
    let Some(Ok(stored)) = documents.next() else {
        // The fuzzer finds its way from a head alone to a whole run.
        return drop(Head::from_json(bytes));
    };
    let rest = &bytes[documents.byte_offset()..];
    let Ok(head) = Head::from_json(stored.head.get().as_bytes()) else { return };
    assert_eq!(Head::from_json(&head.to_json()).as_ref(), Ok(&head), "a head is not read as it was written");
    for (_, effects) in &stored.outbox {
        let json = serde_json::to_vec(effects).expect("effects are plain data");
        assert_eq!(serde_json::from_slice::<Vec<Effect>>(&json).ok().as_ref(), Some(effects));
    }
    let workflow = small();
    let mut run = run_of(head, &stored);
    let _findings = audit(&workflow, &run, Some(&stored.history), run.head.entry.entered_at);
    if check_jobs(&workflow, &run).is_ok() {
        let _ended = live(&workflow, &mut run, &mut Unstructured::new(rest));
    }
}

/// What a coordinator does with what it has loaded.
fn run_of(head: Head, stored: &StoredRun<'_>) -> Run {
    let of_entry = |place: usize| {
        let this = (head.entry.number, place as u16);
        let bits = stored.bits.iter().find(|(entry, handler, _)| (*entry, *handler) == this);
        let exceptions = stored.exceptions.iter().filter(|(entry, handler, ..)| (*entry, *handler) == this);
        let bits = Bitmap::from_bytes(bits.map(|(_, _, bits)| bits.clone()).unwrap_or_default());
        JobSet::from_parts(bits, exceptions.map(|(_, _, index, exception)| (*index, exception.clone())))
    };
    let jobs = (0..head.entry.handlers.len()).map(of_entry).collect();
    Run::from_parts(head, jobs)
}

/// Applies events for as long as there are bytes to make them of.
fn live(workflow: &Workflow, run: &mut Run, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut now = run.head.entry.entered_at;
    while !bytes.is_empty() {
        let event = chance::event(bytes, run)?;
        now = match bytes.int_in_range(0..=7)? {
            0 => run.head.wake_at.unwrap_or(now).max(now),
            1 => now.plus(chance::millis(bytes)?),
            2 => Timestamp::from_millis(bytes.int_in_range(0..=i64::from(u32::MAX) * 1000)?),
            _ => now,
        };
        let listening_since = if bytes.ratio(1, 8)? { now } else { run.head.entry.entered_at };
        let moment = Moment { now, random: bytes.arbitrary()?, listening_since };
        let _step = apply(workflow, run, &event, moment);
        let head = run.head.to_json();
        assert_eq!(Head::from_json(&head).as_ref(), Ok(&run.head), "after {event:?}");
        if bytes.ratio(1, 3)? {
            let _delta = run.take_delta();
        }
    }
    Ok(())
}

/// The definition that the runs in `format-1` are runs of.
pub(crate) fn small() -> Workflow {
    let a = handler("a").count(12).window(5).tries(3).tolerate(Tolerance::Count(1));
    let work = phase("work").to("more").on_error("oops").handler(a).handler("b");
    let more = phase("more").to("end").handler(handler("c").each("data.pages"));
    let ends = [final_phase("end").handler("d"), final_phase("oops")];
    ends.into_iter().fold(workflow("small").phase(work).phase(more), WorkflowBuilder::phase).build()
}
