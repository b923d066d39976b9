//! What a run under test has stored, and the answers to its questions: what a coordinator asks a store and a registry of
//! workers for, held in memory.

use std::collections::BTreeMap;

use phasework_workflows::Payload;
use phasework_workflows::definition::{Scope, Workflow};
use phasework_workflows::id::{EntryNo, HandlerName, JobIndex};
use phasework_workflows::message::MAX_PAYLOAD_BYTES;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{
    Delta, EntryOutputs, Event, Head, HistoryEvent, Items, Listing, Question, Resolution, expression_fault,
};
use serde_json::{Map, Value};

use super::given::Given;

/// The most jobs that a handler may have with inputs of their own, and the most outputs of one: as in the engine.
const MOST: u64 = 1_000_000;

/// What is written down of a run.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) data: Option<Payload>,
    inputs: BTreeMap<(EntryNo, u16), Vec<Payload>>,
    outputs: BTreeMap<(EntryNo, u16), Vec<(JobIndex, Payload)>>,
    pub(super) history: Vec<HistoryEvent>,
    pub(super) output: Option<Payload>,
}

impl Stored {
    /// Of a run with this data.
    pub(super) fn with(data: Option<Payload>) -> Self {
        Self { data, ..Self::default() }
    }

    /// Writes down what has changed.
    pub(super) fn write(&mut self, delta: Delta) {
        for page in delta.outputs {
            self.outputs.entry((page.entry, page.handler)).or_default().extend(page.items);
        }
        for gone in delta.forget_jobs {
            self.inputs.retain(|(entry, _), _| *entry != gone.entry);
        }
        for gone in delta.forget_outputs {
            self.outputs.retain(|(entry, _), _| *entry != gone.entry);
        }
        self.history.extend(delta.history);
        self.output = delta.output.or(self.output.take());
    }

    /// Keeps the jobs of a list that a handler has made itself.
    pub(super) fn keep(&mut self, head: &Head, entry: EntryNo, name: &HandlerName, items: &[Payload]) {
        let place = head.entry.handlers.iter().zip(0_u16..).find(|(handler, _)| handler.name == *name);
        if let Some((_, place)) = place.filter(|_| head.entry.number == entry) {
            self.inputs.insert((entry, place), items.to_vec());
        }
    }

    /// The input of a job that has one of its own.
    pub(super) fn input(&self, entry: EntryNo, handler: u16, index: JobIndex) -> Option<Payload> {
        let inputs = self.inputs.get(&(entry, handler))?;
        inputs.get(usize::try_from(index).ok()?).cloned()
    }

    /// The answer to a question.
    pub(super) fn answer(&mut self, workflow: &Workflow, given: &Given, head: &Head, question: Question) -> Event {
        match question {
            Question::Versions { entry, nonce, handlers } => {
                let phase = workflow.phase(&head.entry.phase);
                let resolve = |handler: u16| {
                    let spec = phase.and_then(|phase| phase.handlers.get(usize::from(handler)));
                    let found = spec.and_then(|spec| given.find(spec));
                    let slots = found.as_ref().map_or(0, |hosted| hosted.slots.size());
                    let version = found.map(|hosted| hosted.version.clone());
                    Resolution { handler, pinned_lives: version.is_some(), version, slots }
                };
                Event::Resolved { entry, nonce, handlers: handlers.into_iter().map(resolve).collect() }
            }
            Question::List { entry, nonce, handler } => {
                let listing = self.list(workflow, head, handler);
                Event::Enumerated { entry, nonce, handler, listing }
            }
            Question::Output { entry, nonce } => {
                let output = self.result(workflow, head);
                Event::Concluded { entry, nonce, output }
            }
        }
    }

    fn list(&mut self, workflow: &Workflow, head: &Head, handler: u16) -> Result<Listing, JobError> {
        let phase = workflow.phase(&head.entry.phase);
        let Some(spec) = phase.and_then(|phase| phase.handlers.get(usize::from(handler))) else {
            return Err(JobError::new("definition", "the phase has no such handler").for_good());
        };
        let scope = self.scope(head);
        let items = Items::of(spec, &scope)?;
        let total = items.len();
        if matches!(items, Items::Count(_)) && spec.input.is_none() {
            return Ok(Listing { total, stored: false });
        }
        if total > MOST {
            let words = format!("{} would have {total} jobs with inputs of their own; at most {MOST} may", spec.name);
            return Err(JobError::new("limit", words).for_good());
        }
        let inputs = (0..total).map(|index| items.input(spec, &scope, index, MAX_PAYLOAD_BYTES));
        self.inputs.insert((head.entry.number, handler), inputs.collect::<Result<_, _>>()?);
        Ok(Listing { total, stored: true })
    }

    /// The run's result: what its template gives, or the outputs of its final phase by handler.
    fn result(&self, workflow: &Workflow, head: &Head) -> Result<Payload, JobError> {
        let result = match &workflow.output {
            Some(template) => template
                .render(&self.scope(head))
                .map_err(|error| expression_fault("the workflow's `output`", &error))?,
            None => match head.outputs.iter().find(|left| left.phase == head.entry.phase) {
                Some(left) => Value::Object(self.left(left).collect()),
                None => Value::Null,
            },
        };
        let payload = Payload::from(result);
        let too_much = |words| JobError::new("limit", format!("the run's result {words}")).for_good();
        payload.check(MAX_PAYLOAD_BYTES).map_err(too_much)?;
        Ok(payload)
    }

    fn scope(&self, head: &Head) -> Scope {
        let data = self.data.clone().unwrap_or_else(Payload::null);
        let outputs = self.phases(head).map(|(phase, handlers)| (phase, Value::Object(handlers))).collect();
        Scope::new(&data, Value::Object(outputs), head.facts())
    }

    /// What the handlers of each finished phase left, as expressions see it.
    pub(super) fn phases<'a>(&'a self, head: &'a Head) -> impl Iterator<Item = (String, Map<String, Value>)> + 'a {
        head.outputs.iter().map(|left| (left.phase.to_string(), self.left(left).collect()))
    }

    fn left<'a>(&'a self, left: &'a EntryOutputs) -> impl Iterator<Item = (String, Value)> + 'a {
        (0..).zip(&left.handlers).map(|(handler, of_handler)| {
            let stored = self.outputs.get(&(left.entry, handler)).into_iter().flatten().cloned();
            (of_handler.name.to_string(), of_handler.value(stored, MOST as usize))
        })
    }
}
