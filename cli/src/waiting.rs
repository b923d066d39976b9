//! What the API says while the engine's parts cannot be reached yet: alive, not ready and why, ask again. The engine's
//! own API takes its place on the same socket.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::parts::Reasons;

/// The API of an engine that waits for its parts.
pub(crate) fn router(reasons: Reasons) -> Router {
    Router::new()
        .route("/health/live", get(async || Json(json!({ "live": true }))))
        .route("/health/ready", get(ready))
        .fallback(later)
        .with_state(reasons)
}

async fn ready(State(reasons): State<Reasons>) -> (StatusCode, Json<serde_json::Value>) {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "starting": true, "reasons": reasons.get() })))
}

async fn later(State(reasons): State<Reasons>) -> Response {
    let message = format!("the engine is starting: {}", reasons.get().join("; "));
    let body = Json(json!({ "error": { "code": "unavailable", "message": message } }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
}
