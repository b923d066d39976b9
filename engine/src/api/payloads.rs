//! `/v1/runs/{id}/data`, `/inputs`, `/outputs`: what a run was given, what its jobs are given, what they gave, as far as
//! it is kept. Passes it on untouched, a page at a time.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use phasework_store::PAGE_JOBS;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, HandlerName, JobIndex, RunId};
use phasework_workflows::run::{HandlerEntry, Head};
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::extract::{Params, RunOfPath};
use crate::coordinator::lists;
use crate::engine::EngineError;

/// How many bytes of outputs make a page; the last of them may go beyond.
const PAGE_BYTES: usize = 1024 * 1024;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/runs/{id}/data", get(data))
        .route("/v1/runs/{id}/inputs", get(inputs))
        .route("/v1/runs/{id}/outputs", get(outputs))
}

#[derive(Serialize)]
struct DataView {
    run: RunId,
    /// `null` when it was given none.
    data: Option<Payload>,
}

async fn data(State(api): State<Api>, RunOfPath(run): RunOfPath) -> Result<Answer<DataView>, ApiError> {
    let data = api.engine.run_data(run).await?;
    if data.is_none() {
        api.engine.run(run).await?; // no data, or no run
    }
    Ok(Answer(DataView { run, data }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    entry: EntryNo,
    handler: HandlerName,
    /// Where to go on: the `next` of the page before.
    #[serde(default)]
    from: u64,
}

#[derive(Serialize)]
struct InputsView {
    inputs: Vec<InputRow>,
    /// The `from` of the next page.
    next: Option<u64>,
}

#[derive(Serialize)]
struct InputRow {
    index: JobIndex,
    input: Payload,
}

/// The inputs that a list of jobs was stored with; they are kept until their entry is left.
async fn inputs(
    State(api): State<Api>,
    RunOfPath(run): RunOfPath,
    Params(query): Params<Query>,
) -> Result<Answer<InputsView>, ApiError> {
    let head = api.engine.run(run).await?.head;
    let entry = &head.entry;
    let place = entry.handlers.iter().position(|handler| handler.name == query.handler);
    let has_inputs = |handler: &HandlerEntry| handler.stored_inputs && !handler.is_listing();
    let place = place.filter(|&place| entry.number == query.entry && has_inputs(&entry.handlers[place]));
    let Some(place) = place else { return Err(not_kept("inputs", &query)) };
    let total = entry.handlers[place].total.unwrap_or(0);
    if query.from >= total {
        return Ok(Answer(InputsView { inputs: Vec::new(), next: None }));
    }
    let nonce = entry.handlers[place].inputs_under(entry.nonce);
    let (first, stored) = if nonce == entry.nonce {
        let page = query.from / PAGE_JOBS;
        let store = &api.engine.parts.store;
        (page * PAGE_JOBS, store.inputs(run, entry.number, nonce, place_of(place), page).await)
    } else {
        let list = (entry.number, nonce, place_of(place));
        (query.from, lists::inputs_from(&api.engine, run, list, query.from).await)
    };
    let Some(stored) = stored.map_err(EngineError::from)? else { return Err(not_kept("inputs", &query)) };
    let next = first + stored.len() as u64;
    let next = Some(next).filter(|&next| next < total);
    let inputs = (first..).zip(stored).map(|(index, input)| InputRow { index, input });
    let inputs = inputs.filter(|row| row.index >= query.from).collect();
    Ok(Answer(InputsView { inputs, next }))
}

#[derive(Serialize)]
struct OutputsView {
    outputs: Vec<OutputRow>,
    /// The `from` of the next page.
    next: Option<u64>,
}

#[derive(Serialize)]
struct OutputRow {
    index: JobIndex,
    output: Payload,
}

/// The outputs of a handler's jobs, in the order in which they came; they are kept until a later visit of the same phase
/// takes their place. Jobs that gave nothing are not among them.
async fn outputs(
    State(api): State<Api>,
    RunOfPath(run): RunOfPath,
    Params(query): Params<Query>,
) -> Result<Answer<OutputsView>, ApiError> {
    let head = api.engine.run(run).await?.head;
    let Some(place) = handler_of(&head, &query) else { return Err(not_kept("outputs", &query)) };
    let store = &api.engine.parts.store;
    let page = store.outputs_page(run, query.entry, place, query.from, PAGE_BYTES).await.map_err(EngineError::from)?;
    let outputs = page.outputs.into_iter().map(|(index, output)| OutputRow { index, output }).collect();
    Ok(Answer(OutputsView { outputs, next: page.next }))
}

/// The place of a handler in the phase of an entry whose outputs are kept.
fn handler_of(head: &Head, query: &Query) -> Option<u16> {
    let place = if head.entry.number == query.entry {
        head.entry.handlers.iter().position(|handler| handler.name == query.handler)
    } else {
        let left = head.outputs.iter().find(|left| left.entry == query.entry)?;
        left.handlers.iter().position(|handler| handler.name == query.handler)
    };
    place.map(place_of)
}

/// Phases have fewer handlers than that.
fn place_of(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}

fn not_kept(what: &str, query: &Query) -> ApiError {
    ApiError::not_found(format!("no {what} of `{}` in entry {} are kept", query.handler, query.entry))
}
