//! Whether the program lives and can work, what it is, and its metrics.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json as Answer, Router};
use metrics::gauge;
use phasework_store::StoreError;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use crate::engine::{Engine, EngineError};

/// The content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/", get(about))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(show_metrics))
}

#[derive(Serialize)]
struct AboutView {
    name: &'static str,
    version: &'static str,
    docs: &'static str,
}

async fn about() -> Answer<AboutView> {
    Answer(AboutView { name: "phasework", version: env!("CARGO_PKG_VERSION"), docs: env!("CARGO_PKG_REPOSITORY") })
}

#[derive(Serialize)]
struct LiveView {
    live: bool,
}

async fn live() -> Answer<LiveView> {
    Answer(LiveView { live: true })
}

#[derive(Serialize)]
struct ReadyView {
    ready: bool,
    /// Said only of a program that has not begun to work.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    starting: bool,
    reasons: Vec<String>,
    /// What should be seen to, ready or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

async fn ready(State(api): State<Api>) -> (StatusCode, Answer<ReadyView>) {
    let reasons = api.engine.readiness().await;
    let ready = reasons.is_empty();
    let starting = !ready && api.engine.is_starting();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Answer(ReadyView { ready, starting, reasons, warnings: api.engine.warnings() }))
}

async fn show_metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let Some(metrics) = &api.config.metrics else {
        return Err(ApiError::not_found("this program records no metrics".into()));
    };
    gather(&api.engine).await;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS)], metrics.render()).into_response())
}

/// Sets what is only known by looking. What cannot be looked at now keeps its last value; `phasework_store_up` says so.
async fn gather(engine: &Engine) {
    let is_up = |up: bool| if up { 1.0 } else { 0.0 };
    let now = engine.parts.clock.now();
    let workers = engine.registry().workers();
    gauge!("phasework_workers_live").set(workers.iter().filter(|worker| worker.is_live(now)).count() as f64);
    gauge!("phasework_broker_up").set(is_up(engine.parts.broker.health().is_ok()));
    let counted = count(engine).await;
    if let Err(error) = &counted {
        tracing::debug!(%error, "the store could not be asked for metrics");
    }
    gauge!("phasework_store_up").set(is_up(counted.is_ok()));
}

async fn count(engine: &Engine) -> Result<(), EngineError> {
    let checked = match engine.parts.store.check().await {
        Err(error) if !matches!(error, StoreError::Full(_)) => return Err(error.into()),
        checked => checked, // one that is full can still be read
    };
    let runs = engine.run_counts().await?;
    gauge!("phasework_runs", "state" => "live").set(runs.live as f64);
    gauge!("phasework_runs", "state" => "ended").set(runs.ended as f64);
    gauge!("phasework_dead_letters").set(engine.dead_count().await? as f64);
    checked?;
    Ok(())
}
