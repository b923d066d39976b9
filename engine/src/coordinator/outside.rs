//! Answers to what `apply` cannot know: which versions live, what a list expression gives, what the run's result is.

use phasework_store::{PAGE_JOBS, StoreError};
use phasework_workflows::Payload;
use phasework_workflows::definition::{ForEach, Reads, Scope};
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{
    EntryOutputs, Event, HandlerOutputs, Head, Items, Listing, Question, Resolution, expression_fault,
};
use serde_json::{Map, Value};

use super::hot::HotRun;
use crate::engine::Engine;

/// The most outputs that are read for one expression, in bytes.
const MAX_OUTPUTS_READ: usize = 64 * 1024 * 1024;

/// The most that the stored inputs of one handler's jobs may take, in bytes.
const MAX_INPUTS_BYTES: usize = 256 * 1024 * 1024;

/// The most jobs whose inputs are stored.
const MAX_INPUTS: u64 = 1_000_000;

/// How many bytes of inputs gather before they are written.
const WRITE_AT_BYTES: usize = 4 * 1024 * 1024;

/// Answers a question about a run. `data` is the run's data when it is just being made.
pub(super) async fn answer(
    engine: &Engine,
    hot: &mut HotRun,
    question: Question,
    data: Option<&Payload>,
) -> Result<Event, StoreError> {
    match question {
        Question::Versions { entry, nonce, handlers } => {
            let now = engine.parts.clock.now();
            let (phase, entered) = (hot.workflow.phase(&hot.run.head.entry.phase), &hot.run.head.entry.handlers);
            let resolve = |handler: u16| {
                let spec = phase.and_then(|phase| phase.handlers.get(usize::from(handler)));
                let found = spec.and_then(|spec| engine.registry.highest(&spec.name, &spec.version, now));
                let (version, slots) = found.map_or((None, 0), |(version, slots)| (Some(version), slots));
                let pinned = entered.get(usize::from(handler)).and_then(|handler| handler.version.as_ref());
                let pinned_lives =
                    spec.zip(pinned).is_some_and(|(spec, pinned)| engine.registry.is_hosted(&spec.name, pinned, now));
                Resolution { handler, version, slots, pinned_lives }
            };
            Ok(Event::Resolved { entry, nonce, handlers: handlers.into_iter().map(resolve).collect() })
        }
        Question::List { entry, nonce, handler } => {
            let listing = unless_fault(list(engine, hot, handler, data).await)?;
            Ok(Event::Enumerated { entry, nonce, handler, listing })
        }
        Question::Output { entry, nonce } => {
            let output = unless_fault(output(engine, hot, data).await)?;
            Ok(Event::Concluded { entry, nonce, output })
        }
    }
}

/// Why there is no answer: the definition and the data do not fit, which is the answer; or the store is away.
enum Fault {
    Job(JobError),
    Store(StoreError),
}

impl From<JobError> for Fault {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { .. } => Self::Job(JobError::new("limit", error.to_string()).for_good()),
            other => Self::Store(other),
        }
    }
}

fn unless_fault<T>(result: Result<T, Fault>) -> Result<Result<T, JobError>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Job(error)) => Ok(Err(error)),
        Err(Fault::Store(error)) => Err(error),
    }
}

/// Makes the list of jobs of a handler, and stores their inputs.
async fn list(engine: &Engine, hot: &mut HotRun, handler: u16, data: Option<&Payload>) -> Result<Listing, Fault> {
    let workflow = std::sync::Arc::clone(&hot.workflow);
    let phase = workflow.phase(&hot.run.head.entry.phase);
    let Some(spec) = phase.and_then(|phase| phase.handlers.get(usize::from(handler))) else {
        return Err(Fault::Job(JobError::new("definition", "the phase has no such handler").for_good()));
    };
    let mut reads = Reads::default();
    if let Some(ForEach::Expression(expression)) = &spec.for_each {
        reads = reads.and(expression.reads());
    }
    if let Some(input) = &spec.input {
        reads = reads.and(input.reads());
    }
    let scope = scope(engine, hot, &reads, data).await?;
    let items = Items::of(spec, &scope)?;
    let total = items.len();
    if let (Items::Count(total), None) = (&items, &spec.input) {
        return Ok(Listing { total: *total, stored: false });
    }
    if total > MAX_INPUTS {
        let words = format!("{} would have {total} jobs with inputs of their own; at most {MAX_INPUTS} may", spec.name);
        return Err(Fault::Job(JobError::new("limit", words).for_good()));
    }
    let (mut pages, mut gathered, mut bytes) = (Vec::new(), 0, 0);
    for first in (0..total).step_by(PAGE_JOBS as usize) {
        let mut page = Vec::new();
        for index in first..total.min(first + PAGE_JOBS) {
            let input = items.input(spec, &scope, index, engine.parts.config.max_payload_bytes)?;
            gathered += input.len();
            page.push(input);
            if bytes + gathered > MAX_INPUTS_BYTES {
                let words = format!("the inputs of {}'s jobs take more than {MAX_INPUTS_BYTES} bytes", spec.name);
                return Err(Fault::Job(JobError::new("limit", words).for_good()));
            }
        }
        pages.push((first / PAGE_JOBS, page));
        if gathered >= WRITE_AT_BYTES {
            put_pages(engine, &hot.run.head, handler, std::mem::take(&mut pages)).await?;
            bytes += std::mem::take(&mut gathered);
        }
        tokio::task::yield_now().await;
    }
    put_pages(engine, &hot.run.head, handler, pages).await?;
    Ok(Listing { total, stored: true })
}

async fn put_pages(
    engine: &Engine,
    head: &Head,
    handler: u16,
    pages: Vec<(u64, Vec<Payload>)>,
) -> Result<(), StoreError> {
    if pages.is_empty() {
        return Ok(());
    }
    engine.parts.store.put_inputs(head.id, head.entry.number, head.entry.nonce, handler, pages).await
}

/// The run's result: what its template gives, or the outputs of its final phase by handler.
async fn output(engine: &Engine, hot: &mut HotRun, data: Option<&Payload>) -> Result<Payload, Fault> {
    let workflow = std::sync::Arc::clone(&hot.workflow);
    let output = match &workflow.output {
        Some(template) => {
            let scope = scope(engine, hot, &template.reads(), data).await?;
            template.render(&scope).map_err(|error| expression_fault("the workflow's `output`", &error))?
        }
        None => {
            let phase = hot.run.head.entry.phase.clone();
            let Some(entry) = hot.run.head.outputs.iter().find(|entry| entry.phase == phase) else {
                return Ok(Payload::null());
            };
            let mut outputs = Map::new();
            for (handler, left) in (0..).zip(&entry.handlers) {
                let value = handler_output(engine, &hot.run.head, entry, handler, left).await?;
                outputs.insert(left.name.to_string(), value);
            }
            Value::Object(outputs)
        }
    };
    let payload = Payload::from(output);
    let limit = engine.parts.config.max_payload_bytes;
    let too_much = |words| Fault::Job(JobError::new("limit", format!("the run's result {words}")).for_good());
    payload.check(limit).map_err(too_much)?;
    Ok(payload)
}

/// What expressions of this run see. Only what they read is fetched.
async fn scope(engine: &Engine, hot: &mut HotRun, reads: &Reads, given: Option<&Payload>) -> Result<Scope, Fault> {
    let data = match given {
        _ if !reads.data => None,
        Some(given) => Some(given.clone()),
        None => data(engine, hot).await?,
    };
    let data = data.unwrap_or_else(Payload::null);
    let outputs = outputs(engine, &hot.run.head, reads).await?;
    Ok(Scope::new(&data, outputs, hot.run.head.facts()))
}

/// The run's data, from memory or from the store.
pub(super) async fn data(engine: &Engine, hot: &mut HotRun) -> Result<Option<Payload>, StoreError> {
    if let Some(data) = &hot.data {
        return Ok(data.clone());
    }
    let data = engine.parts.store.data(hot.run.head.id).await?;
    hot.keep_data(data.clone());
    Ok(data)
}

async fn outputs(engine: &Engine, head: &Head, reads: &Reads) -> Result<Value, StoreError> {
    let mut phases = Map::new();
    for entry in &head.outputs {
        let mut handlers = Map::new();
        for (handler, left) in (0..).zip(&entry.handlers) {
            if reads.outputs.includes(entry.phase.as_str(), left.name.as_str()) {
                let value = handler_output(engine, head, entry, handler, left).await?;
                handlers.insert(left.name.to_string(), value);
            }
        }
        phases.insert(entry.phase.to_string(), Value::Object(handlers));
    }
    Ok(Value::Object(phases))
}

/// The output itself when the handler had one job by declaration; otherwise the list of outputs in the order of jobs,
/// with `null` for those that left none.
async fn handler_output(
    engine: &Engine,
    head: &Head,
    entry: &EntryOutputs,
    handler: u16,
    left: &HandlerOutputs,
) -> Result<Value, StoreError> {
    let stored = if left.outputs == 0 {
        Vec::new()
    } else {
        engine.parts.store.outputs(head.id, entry.entry, handler, MAX_OUTPUTS_READ).await?
    };
    Ok(left.value(stored, MAX_OUTPUTS_READ / 8))
}
