//! `/v1/audit`: whether live runs keep the invariants. Looks at them when it is asked, a page at a time.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use phasework_workflows::id::RunId;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::extract::{Params, page_length};
use super::runs::{cursor, read_cursor};
use crate::coordinator::{Audited, Finding};

/// The most runs that are looked at for one answer.
const MAX_PAGE: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/audit", get(audit))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    limit: Option<usize>,
    before: Option<String>,
}

#[derive(Serialize)]
struct AuditView {
    /// How many runs were looked at.
    audited: usize,
    findings: Vec<FindingView>,
    /// The `before` of the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct FindingView {
    run: RunId,
    invariant: &'static str,
    message: String,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        Self { run: finding.run, invariant: finding.broken.invariant, message: finding.broken.words }
    }
}

async fn audit(State(api): State<Api>, Params(query): Params<AuditQuery>) -> Result<Answer<AuditView>, ApiError> {
    let limit = page_length(query.limit, 200, MAX_PAGE)?;
    let before = query.before.map(|cursor| read_cursor(&cursor)).transpose()?;
    let Audited { runs, findings, next } = api.engine.audit(before, limit).await?;
    let findings = findings.into_iter().map(FindingView::from).collect();
    Ok(Answer(AuditView { audited: runs, findings, next: next.map(|(at, run)| cursor(at, run)) }))
}
