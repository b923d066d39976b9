//! `/v1/runs`: submit, list, look, wait.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json as Answer, Router};
use phasework_store::RunFilter;
use phasework_workflows::Payload;
use phasework_workflows::definition::Workflow;
use phasework_workflows::id::{Revision, RunId, WorkflowName};
use phasework_workflows::run::Head;
use phasework_workflows::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::auth::Actor;
use super::error::ApiError;
use super::extract::{Json, Params, RunOfPath, page_length};
use super::view::{RunView, SubmittedView, UnreadableView};
use super::wait::Wait;
use crate::engine::{Engine, Request, RunDetail, RunInList, Submission, ToRun};
use crate::registry::KnownWorker;

/// The most runs on a page.
const MAX_PAGE: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/runs", post(submit).get(list))
        .route("/v1/runs/{id}", get(show))
        .route("/v1/runs/{id}/failures", get(super::failures::list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitRequest {
    workflow: Option<WorkflowName>,
    revision: Option<Revision>,
    /// The definition itself, or its text.
    definition: Option<Payload>,
    data: Option<Payload>,
    key: Option<Arc<str>>,
}

impl SubmitRequest {
    fn submission(self) -> Result<Submission, ApiError> {
        let what = match (self.workflow, self.revision, self.definition) {
            (Some(_), _, Some(_)) => return Err(ApiError::invalid("give `workflow` or `definition`, not both".into())),
            (None, Some(_), _) => return Err(ApiError::invalid("`revision` needs the `workflow` it is one of".into())),
            (Some(name), revision, None) => ToRun::Workflow(name, revision),
            (None, None, Some(definition)) => ToRun::Definition(text_of(&definition)?),
            (None, None, None) => ToRun::Nothing,
        };
        Ok(Submission { what, data: self.data, key: self.key })
    }
}

/// The text of a definition that was sent as JSON, or as a JSON text that holds it. The first keeps its own text, so
/// that lines and columns of problems are those of the definition.
fn text_of(definition: &Payload) -> Result<String, ApiError> {
    if definition.as_json().starts_with('"') {
        definition.read::<String>().map_err(|error| ApiError::malformed_json(&error))
    } else {
        Ok(definition.as_json().to_owned())
    }
}

async fn submit(
    State(api): State<Api>,
    Extension(Actor(actor)): Extension<Actor>,
    headers: HeaderMap,
    wait: Wait,
    Json(request): Json<SubmitRequest>,
) -> Result<Response, ApiError> {
    let trace = headers.get("traceparent").and_then(|trace| trace.to_str().ok());
    let asked = Request { trace, actor: Some(&actor) };
    let accepted = api.engine.submit_as(request.submission()?, asked).await?;
    if wait.length.is_some() {
        let detail = wait.run(&api.engine, accepted.run).await?;
        return Ok(Answer(view(&api.engine, detail).await).into_response());
    }
    let status = if accepted.changed { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/runs/{}", accepted.run);
    Ok((status, [(header::LOCATION, location)], Answer(SubmittedView::from(accepted))).into_response())
}

async fn show(State(api): State<Api>, RunOfPath(run): RunOfPath, wait: Wait) -> Result<Answer<RunView>, ApiError> {
    let detail = wait.run(&api.engine, run).await?;
    Ok(Answer(view(&api.engine, detail).await))
}

async fn view(engine: &Engine, detail: RunDetail) -> RunView {
    let live = live_workers(engine);
    let mut view = row(engine, &detail.head, &live).await;
    view.output = detail.output;
    view
}

/// A run as lists show it: without its output.
async fn row(engine: &Engine, head: &Head, live: &[KnownWorker]) -> RunView {
    if head.state.is_ended() {
        return RunView::from(head);
    }
    let workflow = workflow_of(engine, head).await;
    RunView::waiting(head, workflow.as_deref(), live)
}

/// The definition a run is pinned to. A run can be shown without it.
pub(super) async fn workflow_of(engine: &Engine, head: &Head) -> Option<Arc<Workflow>> {
    engine.workflows.revision(&head.revision).await.unwrap_or_else(|error| {
        tracing::warn!(run = %head.id, %error, "a run is shown without its definition");
        None
    })
}

fn live_workers(engine: &Engine) -> Vec<KnownWorker> {
    let now = engine.parts.clock.now();
    engine.registry().workers().into_iter().filter(|worker| worker.is_live(now)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    state: Listed,
    limit: Option<usize>,
    before: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Listed {
    Live,
    Ended,
    #[default]
    All,
}

#[derive(Serialize)]
struct RunsView {
    runs: Vec<ListedView>,
    next: Option<String>,
    counts: CountsView,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ListedView {
    Run(Box<RunView>),
    Unreadable(UnreadableView),
}

#[derive(Serialize)]
struct CountsView {
    live: u64,
    ended: u64,
}

async fn list(State(api): State<Api>, Params(query): Params<ListQuery>) -> Result<Answer<RunsView>, ApiError> {
    let limit = page_length(query.limit, 50, MAX_PAGE)?;
    let ended = match query.state {
        Listed::Live => Some(false),
        Listed::Ended => Some(true),
        Listed::All => None,
    };
    let before = query.before.map(|cursor| read_cursor(&cursor)).transpose()?;
    // One more than is shown tells whether there is another page.
    let mut listed = api.engine.runs(&RunFilter { ended, before, limit: limit + 1 }).await?;
    let more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| more).map(|last| cursor(last.created_at, last.run));
    let counts = api.engine.run_counts().await?;
    let live = live_workers(&api.engine);
    let mut runs = Vec::with_capacity(listed.len());
    for RunInList { run, created_at, head } in listed {
        runs.push(match head {
            Ok(head) => ListedView::Run(Box::new(row(&api.engine, &head, &live).await)),
            Err(unreadable) => ListedView::Unreadable(UnreadableView::new(run, created_at, &unreadable)),
        });
    }
    Ok(Answer(RunsView { runs, next, counts: CountsView { live: counts.live, ended: counts.ended } }))
}

/// A place in the list of runs, as callers are to hand it back.
pub(super) fn cursor(created_at: Timestamp, run: RunId) -> String {
    format!("{}.{}", created_at.as_millis(), run.as_uuid().simple())
}

pub(super) fn read_cursor(cursor: &str) -> Result<(Timestamp, RunId), ApiError> {
    let read = cursor.split_once('.').and_then(|(at, run)| {
        let at = Timestamp::from_millis(at.parse().ok()?);
        Some((at, run.parse::<RunId>().ok()?))
    });
    read.ok_or_else(|| ApiError::invalid("`before` must be the `next` of the page before".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let (at, run) = (Timestamp::from_millis(1_763_000_000_123), RunId::new(uuid::Uuid::from_u128(7)));
        assert_eq!(read_cursor(&cursor(at, run)).unwrap(), (at, run));
        for bad in ["", ".", "x", "1.", "1.x", ".00000000000000000000000000000007", "99999999999999999999.7"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
