//! Definitions: checked, stored, found again, and kept in memory by revision, which never changes its content.

use std::sync::{Arc, Mutex, PoisonError};

use phasework_store::{SharedStore, StoreError, StoredWorkflow};
use phasework_workflows::definition::{Document, Workflow, parse};
use phasework_workflows::id::{Revision, WorkflowName};
use phasework_workflows::time::Timestamp;

use crate::engine::EngineError;

/// How many definitions are kept in memory.
const KEPT: usize = 1024;

/// Definitions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workflows {
    store: SharedStore,
    /// The latest used at the end.
    kept: Arc<Mutex<Vec<Arc<Workflow>>>>,
}

impl Workflows {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self { store, kept: Arc::default() }
    }

    /// Reads and checks a definition.
    #[expect(clippy::unused_self, reason = "the one place that reads definitions, whatever it will need for it")]
    pub(crate) fn check(&self, text: &str) -> Result<Document, EngineError> {
        parse(text).map_err(EngineError::InvalidDefinition)
    }

    /// Stores a definition; whether its revision is new.
    pub(crate) async fn put(&self, workflow: &Workflow, at: Timestamp) -> Result<(Arc<Workflow>, bool), EngineError> {
        let workflow = Arc::new(workflow.clone());
        let is_new = self
            .store
            .put_workflow(StoredWorkflow {
                name: workflow.name.clone(),
                revision: workflow.revision.clone(),
                definition: workflow.to_canonical_json(),
                stored_at: at,
            })
            .await?;
        self.keep(Arc::clone(&workflow));
        Ok((workflow, is_new))
    }

    /// The stored definition of a name; the latest when no revision is given.
    pub(crate) async fn find(
        &self,
        name: &WorkflowName,
        revision: Option<&Revision>,
    ) -> Result<StoredWorkflow, EngineError> {
        let found = match revision {
            Some(revision) => self.store.workflow(revision).await?.filter(|stored| stored.name == *name),
            None => self.store.latest_workflow(name).await?,
        };
        match (found, revision) {
            (Some(stored), _) => Ok(stored),
            (None, Some(revision)) => {
                Err(EngineError::NotFound(format!("workflow `{name}` has no revision {revision}")))
            }
            (None, None) => {
                let names = self.store.workflows().await?;
                let near = phasework_workflows::definition::nearest(
                    name.as_str(),
                    names.iter().map(|stored| stored.name.as_str()),
                );
                let hint = match near {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if names.is_empty() => "; none is stored yet (`phasework apply FILE` stores one)".to_owned(),
                    None => String::new(),
                };
                Err(EngineError::NotFound(format!("there is no workflow `{name}`{hint}")))
            }
        }
    }

    /// The definition a run is pinned to; `None` when the store does not have it.
    pub(crate) async fn revision(&self, revision: &Revision) -> Result<Option<Arc<Workflow>>, StoreError> {
        if let Some(kept) = self.kept(revision) {
            return Ok(Some(kept));
        }
        let Some(stored) = self.store.workflow(revision).await? else { return Ok(None) };
        let document = parse(&stored.definition)
            .map_err(|problems| StoreError::Corrupt(format!("workflow revision {revision}: {problems}")))?;
        let workflow = Arc::new(document.workflow);
        self.keep(Arc::clone(&workflow));
        Ok(Some(workflow))
    }

    fn kept(&self, revision: &Revision) -> Option<Arc<Workflow>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().rposition(|workflow| workflow.revision == *revision)?;
        let workflow = kept.remove(place);
        kept.push(Arc::clone(&workflow));
        Some(workflow)
    }

    fn keep(&self, workflow: Arc<Workflow>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.revision != workflow.revision);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(workflow);
    }
}
