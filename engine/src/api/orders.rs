//! `/v1/runs/{id}/cancel`, `/pause`, `/resume`, `/retry`, `/rerun`: orders. What a run is already, or cannot be now,
//! is no error: the answer says what state it is in, and that nothing changed.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Json as Answer, Router};
use phasework_workflows::Payload;
use phasework_workflows::id::{PhaseName, RunId};
use phasework_workflows::message::event::{Control, ControlAction, MAX_CANCEL_DEADLINE};
use phasework_workflows::time::Millis;
use serde::Deserialize;

use super::Api;
use super::auth::Actor;
use super::error::ApiError;
use super::extract::{MaybeJson, RunOfPath};
use super::view::OrderedView;

/// The longest reason of an order, in bytes.
const MAX_REASON_BYTES: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/runs/{id}/cancel", post(cancel))
        .route("/v1/runs/{id}/pause", post(pause))
        .route("/v1/runs/{id}/resume", post(resume))
        .route("/v1/runs/{id}/retry", post(retry))
        .route("/v1/runs/{id}/rerun", post(rerun))
}

async fn carry_out(api: &Api, Actor(actor): Actor, control: Control) -> Result<Answer<OrderedView>, ApiError> {
    if control.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        return Err(ApiError::invalid(format!("a reason has at most {MAX_REASON_BYTES} bytes")));
    }
    let reason = control.reason.filter(|reason| !reason.is_empty());
    Ok(Answer(api.engine.order(Control { reason, actor: Some(actor), ..control }).await?.into()))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelRequest {
    reason: Option<String>,
    /// How long running jobs may go on: `"30s"`.
    deadline: Option<String>,
    /// Whether it is to end even if it is damaged.
    #[serde(default)]
    force: bool,
}

async fn cancel(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    RunOfPath(run): RunOfPath,
    MaybeJson(request): MaybeJson<CancelRequest>,
) -> Result<Answer<OrderedView>, ApiError> {
    let deadline = request.deadline.as_deref().map(str::parse::<Millis>).transpose();
    let deadline = deadline.map_err(|error| ApiError::invalid(format!("`deadline`: {error}")))?;
    if let Some(deadline) = deadline.filter(|&deadline| deadline > MAX_CANCEL_DEADLINE) {
        return Err(ApiError::invalid(format!("`deadline` is at most {MAX_CANCEL_DEADLINE}, not {deadline}")));
    }
    let CancelRequest { reason, force, .. } = request;
    if force && deadline.is_some() {
        return Err(ApiError::invalid("give `deadline` or `force`, not both: by force a run ends at once".to_owned()));
    }
    carry_out(&api, actor, Control { deadline, force, reason, ..Control::new(run, ControlAction::Cancel) }).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainRequest {
    reason: Option<String>,
}

async fn pause(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    RunOfPath(run): RunOfPath,
    MaybeJson(request): MaybeJson<PlainRequest>,
) -> Result<Answer<OrderedView>, ApiError> {
    plain(&api, actor, run, ControlAction::Pause, request).await
}

async fn resume(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    RunOfPath(run): RunOfPath,
    MaybeJson(request): MaybeJson<PlainRequest>,
) -> Result<Answer<OrderedView>, ApiError> {
    plain(&api, actor, run, ControlAction::Resume, request).await
}

async fn plain(
    api: &Api,
    actor: Actor,
    run: RunId,
    action: ControlAction,
    request: PlainRequest,
) -> Result<Answer<OrderedView>, ApiError> {
    carry_out(api, actor, Control { reason: request.reason, ..Control::new(run, action) }).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryRequest {
    reason: Option<String>,
    /// In place of the data that the run was given.
    data: Option<Payload>,
}

async fn retry(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    RunOfPath(run): RunOfPath,
    MaybeJson(request): MaybeJson<RetryRequest>,
) -> Result<Answer<OrderedView>, ApiError> {
    let RetryRequest { reason, data } = request;
    carry_out(&api, actor, Control { reason, data, ..Control::new(run, ControlAction::Retry) }).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RerunRequest {
    /// The phase to enter; the one the run is in when it is left out.
    phase: Option<PhaseName>,
    reason: Option<String>,
    /// In place of the data that the run was given.
    data: Option<Payload>,
}

async fn rerun(
    State(api): State<Api>,
    Extension(actor): Extension<Actor>,
    RunOfPath(run): RunOfPath,
    MaybeJson(request): MaybeJson<RerunRequest>,
) -> Result<Answer<OrderedView>, ApiError> {
    let RerunRequest { phase, reason, data } = request;
    carry_out(&api, actor, Control { phase, reason, data, ..Control::new(run, ControlAction::Rerun) }).await
}
