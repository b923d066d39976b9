//! The work of the core that waits for nothing: reading, deciding, writing. Each piece can be repeated as often as one
//! likes, so that it can be timed: `cargo bench --package phasework-tests`.

use phasework_workflows::Payload;
use phasework_workflows::definition::{Scope, Template, catalog, parse};
use phasework_workflows::id::{HandlerName, Nonce, PhaseName, RunId, WorkflowName};
use phasework_workflows::message::job::{InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::{decode_batch, encode};
use phasework_workflows::run::{Head, Listing, Step, apply};
use phasework_workflows::testkit::{Harness, Outside, final_phase, handler, phase, workflow};
use phasework_workflows::time::Millis;
use serde_json::json;

/// Jobs in one message.
const PACK: u64 = 100;

/// Jobs of the large run.
const MANY: u64 = 1_000_000;

/// A piece of work: makes itself ready, and gives what is to be repeated. That returns something of what it came to, so
/// that it cannot be left out.
pub struct Piece {
    /// What it is called.
    pub name: &'static str,
    /// Makes it ready.
    pub ready: fn() -> Box<dyn FnMut() -> usize>,
}

/// All pieces.
pub const PIECES: [Piece; 11] = [
    Piece { name: "parse a definition", ready: parse_definition },
    Piece { name: "parse a definition with problems", ready: parse_problems },
    Piece { name: "render a template", ready: render },
    Piece { name: "apply 100 outcomes of 1,000,000 jobs", ready: apply_outcomes },
    Piece { name: "apply an outcome with output", ready: apply_output },
    Piece { name: "write a head", ready: write_head },
    Piece { name: "read a head", ready: read_head },
    Piece { name: "encode 100 jobs by number", ready: encode_range },
    Piece { name: "encode 100 jobs with inputs", ready: encode_inputs },
    Piece { name: "decode 100 jobs with inputs", ready: decode_inputs },
    Piece { name: "decode 100 outcomes with outputs", ready: decode_outcomes },
];

fn parse_definition() -> Box<dyn FnMut() -> usize> {
    let (_, text) = catalog()[0];
    Box::new(move || parse(text).map_or(0, |document| document.workflow.phases.len()))
}

fn parse_problems() -> Box<dyn FnMut() -> usize> {
    let (_, text) = catalog()[0];
    let text = text.replace("transitions_to", "transition_to");
    Box::new(move || parse(&text).map_or_else(|problems| problems.problems.len(), |_| 0))
}

fn render() -> Box<dyn FnMut() -> usize> {
    let source = json!({ "url": "{{ item }}", "note": "page {{ index + 1 }} of {{ data.query }}", "width": "{{ data.width | default(320) }}" });
    let template = Template::parse(source).expect("a sound template");
    let data = Payload::from(json!({ "query": "sea birds" }));
    let scope = Scope::new(&data, json!({}), json!({})).with_item(7, json!("http://127.0.0.1/page/7"));
    Box::new(move || template.render(&scope).map_or(0, |value| value.as_object().map_or(0, serde_json::Map::len)))
}

/// A run whose first phase has so many jobs, with as many of them out as go.
fn under_way(jobs: u64) -> Harness {
    let definition =
        workflow("many").phase(phase("all").to("end").handler(handler("Noop").count(jobs))).phase(final_phase("end"));
    let name = HandlerName::new("Noop").expect("a name");
    let outside = Outside {
        slots: [(name.clone(), 256)].into(),
        lists: [(name, Ok(Listing { total: jobs, stored: false }))].into(),
        ..Outside::default()
    };
    Harness::start_with(definition.build(), outside)
}

fn apply_outcomes() -> Box<dyn FnMut() -> usize> {
    let begin = under_way(MANY);
    let (mut run, mut first) = (begin.run.clone(), 0);
    Box::new(move || {
        if first + PACK > MANY - PACK {
            (run, first) = (begin.run.clone(), 0);
        }
        let event = begin.report("Noop", &[(first, PACK)], Vec::new());
        first += PACK;
        let step = apply(&begin.workflow, &mut run, &event, begin.moment());
        assert!(matches!(step, Step::Changed { .. }), "{step:?}");
        run.take_delta().bits.len()
    })
}

fn outcome(index: u64) -> Outcome {
    let output = Some(Payload::from(json!("x".repeat(98))));
    Outcome { index, attempt: 1, status: Status::Done, output, error: None, details: None }
}

fn apply_output() -> Box<dyn FnMut() -> usize> {
    let begin = under_way(MANY);
    let (mut run, mut index) = (begin.run.clone(), 0);
    Box::new(move || {
        if index + PACK > MANY {
            (run, index) = (begin.run.clone(), 0);
        }
        let event = begin.report("Noop", &[], vec![outcome(index)]);
        index += 1;
        let step = apply(&begin.workflow, &mut run, &event, begin.moment());
        assert!(matches!(step, Step::Changed { .. }), "{step:?}");
        run.take_delta().bits.len()
    })
}

fn write_head() -> Box<dyn FnMut() -> usize> {
    let head = under_way(MANY).run.head;
    Box::new(move || head.to_json().len())
}

fn read_head() -> Box<dyn FnMut() -> usize> {
    let json = under_way(MANY).run.head.to_json();
    Box::new(move || Head::from_json(&json).map_or(0, |head| head.entry.handlers.len()))
}

fn group() -> JobGroup {
    let workflow = WorkflowName::new("many").expect("a name");
    JobGroup {
        run: RunId::from_key("default", &workflow, "a key"),
        workflow,
        phase: PhaseName::new("all").expect("a name"),
        entry: 1,
        nonce: Nonce(0x1f2e_3d4c),
        handler: HandlerName::new("Noop").expect("a name"),
        version: phasework_workflows::Version::new(1, 0, 0),
        coordinator: 3,
        timeout: Millis::from_secs(60),
        max_attempts: 3,
        input: InputSource::Index,
        traceparent: None,
        enumerate: false,
        data: None,
        range: None,
        jobs: Vec::new(),
    }
}

fn with_inputs() -> Jobs {
    let input = |index| Some(Payload::from(json!(format!("{index:0198}"))));
    let jobs = (0..PACK).map(|index| Job { input: input(index), ..Job::fresh(index) }).collect();
    Jobs { groups: vec![JobGroup { jobs, ..group() }] }
}

fn encode_range() -> Box<dyn FnMut() -> usize> {
    let jobs = Jobs { groups: vec![JobGroup { range: Some((900_000, PACK)), ..group() }] };
    Box::new(move || encode(&jobs).len())
}

fn encode_inputs() -> Box<dyn FnMut() -> usize> {
    let jobs = with_inputs();
    Box::new(move || encode(&jobs).len())
}

fn decode_inputs() -> Box<dyn FnMut() -> usize> {
    let bytes = encode(&with_inputs());
    Box::new(move || decode_batch::<Jobs>(&bytes).map_or(0, |(groups, _)| groups[0].jobs.len()))
}

fn decode_outcomes() -> Box<dyn FnMut() -> usize> {
    let JobGroup { run, entry, nonce, handler, .. } = group();
    let outcomes = (0..PACK).map(outcome).collect();
    let group = OutcomeGroup { run, entry, nonce, handler, done: Vec::new(), outcomes, service_us: Some(700) };
    let bytes = encode(&JobsFinished { worker: Some("a worker".into()), groups: vec![group] });
    Box::new(move || decode_batch::<JobsFinished>(&bytes).map_or(0, |(groups, _)| groups[0].outcomes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_does_its_work_again_and_again() {
        for Piece { name, ready } in PIECES {
            let mut work = ready();
            let first = work();
            assert!(first > 0, "{name} came to nothing");
            assert!((0..10).all(|_| work() == first), "{name} came to something else");
        }
    }
}
