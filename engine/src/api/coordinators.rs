//! `/v1/coordinators`: which coordinators live, as far as the one that answers knows.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use phasework_workflows::time::Timestamp;
use serde::Serialize;

use super::Api;
use crate::coordinator::Peer;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/coordinators", get(list))
}

#[derive(Serialize)]
struct CoordinatorsView {
    coordinators: Vec<CoordinatorView>,
    /// How many coordinator queues there are.
    queues: u16,
}

#[derive(Serialize)]
struct CoordinatorView {
    coordinator: Arc<str>,
    /// Whether it is the one that answers.
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
    /// How many coordinator queues it serves, as far as is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    queues_owned: Option<usize>,
}

impl From<Peer> for CoordinatorView {
    fn from(peer: Peer) -> Self {
        let Peer { name, last_heard, owned } = peer;
        Self { coordinator: name, answers: last_heard.is_none(), last_seen: last_heard, queues_owned: owned }
    }
}

async fn list(State(api): State<Api>) -> Answer<CoordinatorsView> {
    let peers = api.engine.coordinators();
    let queues = api.engine.parts.config.coordinator_queues;
    Answer(CoordinatorsView { coordinators: peers.into_iter().map(CoordinatorView::from).collect(), queues })
}
