//! `/v1/workers`: who works, and what they host.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use phasework_workflows::Version;
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::presence::HostedHandler;
use phasework_workflows::time::Timestamp;
use serde::Serialize;

use super::Api;
use crate::registry::KnownWorker;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/workers", get(list))
}

#[derive(Serialize)]
struct WorkersView {
    workers: Vec<WorkerView>,
}

#[derive(Serialize)]
struct WorkerView {
    worker: Arc<str>,
    host: Arc<str>,
    pid: u32,
    sdk: Arc<str>,
    started_at: Timestamp,
    last_seen: Timestamp,
    live: bool,
    draining: bool,
    handlers: Vec<HostedView>,
}

impl WorkerView {
    fn new(known: KnownWorker, now: Timestamp) -> Self {
        let (live, last_seen, announced) = (known.is_live(now), known.last_seen, known.announced);
        Self {
            worker: announced.worker,
            host: announced.host,
            pid: announced.pid,
            sdk: announced.sdk,
            started_at: announced.started_at,
            last_seen,
            live,
            draining: announced.draining,
            handlers: announced.handlers.into_iter().map(HostedView::from).collect(),
        }
    }
}

#[derive(Serialize)]
struct HostedView {
    name: HandlerName,
    version: Version,
    slots: u32,
    in_flight: u32,
}

impl From<HostedHandler> for HostedView {
    fn from(hosted: HostedHandler) -> Self {
        let HostedHandler { name, version, slots, in_flight } = hosted;
        Self { name, version, slots, in_flight }
    }
}

async fn list(State(api): State<Api>) -> Answer<WorkersView> {
    let now = api.engine.parts.clock.now();
    let known = api.engine.registry().workers();
    Answer(WorkersView { workers: known.into_iter().map(|worker| WorkerView::new(worker, now)).collect() })
}
