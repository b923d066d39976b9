//! The worker's own port: whether it lives, whether it takes jobs, and what it has measured. Read only, for probes and
//! for Prometheus; nothing that comes in here reaches a job.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::health::WorkerHealth;

/// The content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper ends of the buckets of every histogram, in seconds; those of the coordinators.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// How often what was measured is put in order.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A port that is served; no longer when this is dropped.
pub(crate) struct Listening {
    server: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
        self.upkeep.abort();
    }
}

#[derive(Clone)]
struct Shown {
    health: WorkerHealth,
    metrics: Option<PrometheusHandle>,
}

/// Serves `address`. Has to come before anything is measured.
///
/// # Errors
/// When nothing can listen there, in words.
pub(crate) async fn listen(address: SocketAddr, health: &WorkerHealth) -> Result<Listening, String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("cannot listen at {address}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| format!("cannot listen at {address}: {error}"))?;
    health.listens_at(bound);
    let metrics = recorder();
    let routes = Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(measured))
        .with_state(Shown { health: health.clone(), metrics: metrics.clone() });
    tracing::info!(%bound, "health and metrics are served");
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "health and metrics are not served any more");
        }
    });
    let upkeep = tokio::spawn(keep_up(metrics));
    Ok(Listening { server, upkeep })
}

/// What measures; nothing when the program has installed something of its own.
fn recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder();
    RECORDER.get_or_init(|| install().ok()).clone()
}

async fn keep_up(metrics: Option<PrometheusHandle>) {
    let mut every = tokio::time::interval(UPKEEP_EVERY);
    while let Some(metrics) = &metrics {
        every.tick().await;
        metrics.run_upkeep();
    }
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

async fn live() -> Json<Live> {
    Json(Live { live: true })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<String>,
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, Json<Ready>) {
    let reasons = shown.health.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, reasons }))
}

async fn measured(State(shown): State<Shown>) -> Response {
    match &shown.metrics {
        Some(metrics) => ([(header::CONTENT_TYPE, PROMETHEUS)], metrics.render()).into_response(),
        None => (StatusCode::NOT_FOUND, "this program measures with a recorder of its own\n").into_response(),
    }
}
