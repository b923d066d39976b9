//! `/v1/dead`: messages that could not be understood or carried out, to be looked at, put back, or dropped.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::extract::{Params, Segment, page_length};

/// The most letters on a page.
const MAX_PAGE: usize = 1000;

/// How much of a body lists show, in characters.
const PREVIEW: usize = 200;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/dead", get(list))
        .route("/v1/dead/{id}", get(show).delete(remove))
        .route("/v1/dead/{id}/requeue", post(requeue))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    skip: usize,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct LettersView {
    dead: Vec<LetterRow>,
    count: u64,
}

#[derive(Serialize)]
struct LetterRow {
    id: Arc<str>,
    reason: String,
    at: Timestamp,
    queue: String,
    kind: String,
    size: u64,
    body_preview: String,
}

impl From<DeadLetter> for LetterRow {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, reason, at, queue, kind, body, size } = letter;
        Self { id, reason, at, queue, kind, size, body_preview: body.chars().take(PREVIEW).collect() }
    }
}

async fn list(State(api): State<Api>, Params(query): Params<ListQuery>) -> Result<Answer<LettersView>, ApiError> {
    let limit = page_length(query.limit, 50, MAX_PAGE)?;
    let dead = api.engine.dead_letters(query.skip, limit).await?;
    let count = api.engine.dead_count().await?;
    Ok(Answer(LettersView { dead: dead.into_iter().map(LetterRow::from).collect(), count }))
}

#[derive(Serialize)]
struct LetterView {
    id: Arc<str>,
    reason: String,
    at: Timestamp,
    queue: String,
    kind: String,
    size: u64,
    /// Whether `body` is all of it, so that it can be put back.
    whole: bool,
    body: String,
}

impl From<DeadLetter> for LetterView {
    fn from(letter: DeadLetter) -> Self {
        let whole = letter.is_whole();
        let DeadLetter { id, reason, at, queue, kind, body, size } = letter;
        Self { id, reason, at, queue, kind, size, whole, body }
    }
}

async fn show(State(api): State<Api>, Segment(id): Segment) -> Result<Answer<LetterView>, ApiError> {
    Ok(Answer(api.engine.dead_letter(&id).await?.into()))
}

#[derive(Serialize)]
struct RequeuedView {
    id: String,
    requeued: bool,
}

async fn requeue(State(api): State<Api>, Segment(id): Segment) -> Result<Answer<RequeuedView>, ApiError> {
    api.engine.requeue_dead_letter(&id).await?;
    Ok(Answer(RequeuedView { id, requeued: true }))
}

#[derive(Serialize)]
struct RemovedView {
    id: String,
    removed: bool,
}

async fn remove(State(api): State<Api>, Segment(id): Segment) -> Result<Answer<RemovedView>, ApiError> {
    api.engine.drop_dead_letter(&id).await?;
    Ok(Answer(RemovedView { id, removed: true }))
}
