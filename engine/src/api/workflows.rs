//! `/v1/workflows`: store definitions, check them, find them again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use phasework_store::{StoreError, StoredWorkflow};
use phasework_workflows::Payload;
use phasework_workflows::id::{Revision, WorkflowName};
use phasework_workflows::time::Timestamp;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::{ApiError, ProblemView};
use super::extract::{Params, Segment, Text};
use crate::engine::EngineError;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/workflows", get(list).put(apply))
        .route("/v1/workflows/validate", post(validate))
        .route("/v1/workflows/{name}", get(show))
}

#[derive(Serialize)]
struct WorkflowsView {
    workflows: Vec<WorkflowRow>,
}

#[derive(Serialize)]
struct WorkflowRow {
    name: WorkflowName,
    revision: Revision,
    stored_at: Timestamp,
    phases: usize,
}

async fn list(State(api): State<Api>) -> Result<Answer<WorkflowsView>, ApiError> {
    let stored = api.engine.workflows().await?;
    let workflows = stored.into_iter().map(|stored| {
        let phases = count_phases(&stored)?;
        Ok(WorkflowRow { name: stored.name, revision: stored.revision, stored_at: stored.stored_at, phases })
    });
    Ok(Answer(WorkflowsView { workflows: workflows.collect::<Result<_, EngineError>>()? }))
}

/// How many phases a stored definition has: its canonical form has them as an object.
fn count_phases(stored: &StoredWorkflow) -> Result<usize, EngineError> {
    #[derive(Deserialize)]
    struct Definition {
        phases: Members,
    }
    let read = serde_json::from_str::<Definition>(&stored.definition);
    let read = read.map_err(|error| damaged(stored, &error))?;
    Ok(read.phases.0)
}

fn damaged(stored: &StoredWorkflow, error: &serde_json::Error) -> EngineError {
    StoreError::Corrupt(format!("workflow `{}` revision {}: {error}", stored.name, stored.revision)).into()
}

/// How many members an object has.
struct Members(usize);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut count = 0;
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Members(count))
            }
        }
        deserializer.deserialize_map(Count)
    }
}

#[derive(Serialize)]
struct AppliedView {
    name: WorkflowName,
    revision: Revision,
    created: bool,
    warnings: Vec<ProblemView>,
}

async fn apply(State(api): State<Api>, Text(text): Text) -> Result<Response, ApiError> {
    let warnings = api.engine.validate(&text)?.warnings.iter().map(ProblemView::from).collect();
    let (workflow, created) = api.engine.apply_workflow(&text).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let (name, revision) = (workflow.name.clone(), workflow.revision.clone());
    Ok((status, Answer(AppliedView { name, revision, created, warnings })).into_response())
}

#[derive(Serialize)]
struct ValidView {
    valid: bool,
    name: WorkflowName,
    revision: Revision,
    warnings: Vec<ProblemView>,
}

async fn validate(State(api): State<Api>, Text(text): Text) -> Result<Answer<ValidView>, ApiError> {
    let document = api.engine.validate(&text)?;
    let warnings = document.warnings.iter().map(ProblemView::from).collect();
    let (name, revision) = (document.workflow.name, document.workflow.revision);
    Ok(Answer(ValidView { valid: true, name, revision, warnings }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    revision: Option<String>,
}

#[derive(Serialize)]
struct WorkflowView {
    name: WorkflowName,
    revision: Revision,
    stored_at: Timestamp,
    definition: Payload,
    revisions: Vec<RevisionRow>,
}

#[derive(Serialize)]
struct RevisionRow {
    revision: Revision,
    stored_at: Timestamp,
}

async fn show(
    State(api): State<Api>,
    Segment(name): Segment,
    Params(query): Params<ShowQuery>,
) -> Result<Answer<WorkflowView>, ApiError> {
    let name = WorkflowName::new(&name)?;
    let revision = query.revision.as_deref().map(Revision::from);
    let stored = api.engine.workflow(&name, revision.as_ref()).await?;
    let definition = Payload::from_json(stored.definition.clone()).map_err(|error| damaged(&stored, &error))?;
    let revisions = api.engine.parts.store.revisions(&name).await.map_err(EngineError::from)?;
    let revisions =
        revisions.into_iter().map(|other| RevisionRow { revision: other.revision, stored_at: other.stored_at });
    Ok(Answer(WorkflowView {
        name: stored.name,
        revision: stored.revision,
        stored_at: stored.stored_at,
        definition,
        revisions: revisions.collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_counted() {
        for (definition, expected) in [
            (r#"{"workflow":"w","phases":{"a":{},"b":{"handlers":[{}]}}}"#, Some(2)),
            (r#"{"phases":{}}"#, Some(0)),
            (r#"{"phases":[]}"#, None),
            ("{", None),
        ] {
            let stored = StoredWorkflow {
                name: WorkflowName::new("w").unwrap(),
                revision: Revision::from("r"),
                definition: definition.into(),
                stored_at: Timestamp::from_millis(0),
            };
            assert_eq!(count_phases(&stored).ok(), expected, "{definition}");
        }
    }
}
