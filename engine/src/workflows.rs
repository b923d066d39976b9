//! Definitions: checked, stored, found again, and kept in memory by revision, which never changes its content.

use std::sync::{Arc, Mutex, PoisonError};

use phasework_store::{SharedStore, StoreError, StoredWorkflow};
use phasework_workflows::definition::{Document, Workflow, parse};
use phasework_workflows::id::{Revision, WorkflowName};
use phasework_workflows::time::{SharedClock, Timestamp};

use crate::engine::EngineError;

/// How many definitions are kept in memory.
const KEPT: usize = 1024;

/// Definitions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workflows {
    store: SharedStore,
    clock: SharedClock,
    /// The latest used at the end.
    kept: Arc<Mutex<Vec<Arc<Workflow>>>>,
}

impl Workflows {
    pub(crate) fn new(store: SharedStore, clock: SharedClock) -> Self {
        Self { store, clock, kept: Arc::default() }
    }

    /// Reads and checks a definition.
    #[expect(clippy::unused_self, reason = "the one place that reads definitions, whatever it will need for it")]
    pub(crate) fn check(&self, text: &str) -> Result<Document, EngineError> {
        parse(text).map_err(EngineError::InvalidDefinition)
    }

    /// Stores a definition; whether its revision is new.
    pub(crate) async fn put(&self, workflow: &Workflow, at: Timestamp) -> Result<(Arc<Workflow>, bool), EngineError> {
        let workflow = Arc::new(workflow.clone());
        let is_new = self.store.put_workflow(to_store(&workflow, at)).await?;
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

    /// Stores again what the store has lost of what is kept in memory: runs may have been started from that. What is the
    /// latest of its name stays that; where the store has none, it is the one used last. Others may do the same meanwhile.
    pub(crate) async fn store_again(&self) -> Result<(), StoreError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for workflow in kept.iter().rev() {
            let stored = self.store.keep_workflow(to_store(workflow, self.clock.now())).await;
            note_stored_again(workflow, stored)?;
        }
        Ok(())
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

/// Says what became of a definition that may have been lost. An error only when it is worth trying again: a definition that
/// cannot be stored at all holds up nothing but its own runs.
fn note_stored_again(workflow: &Workflow, stored: Result<bool, StoreError>) -> Result<(), StoreError> {
    let (workflow, revision) = (&workflow.name, &workflow.revision);
    match stored {
        Ok(true) => tracing::warn!(%workflow, %revision, "a definition was lost; stored again"),
        Ok(false) => {}
        Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => return Err(error),
        Err(error @ (StoreError::Corrupt(_) | StoreError::TooLarge { .. } | StoreError::Unusable(_))) => {
            tracing::error!(%workflow, %revision, %error, "a definition that may be lost could not be stored again");
        }
    }
    Ok(())
}

fn to_store(workflow: &Workflow, at: Timestamp) -> StoredWorkflow {
    StoredWorkflow {
        name: workflow.name.clone(),
        revision: workflow.revision.clone(),
        definition: workflow.to_canonical_json(),
        stored_at: at,
    }
}

#[cfg(test)]
mod tests {
    use phasework_store::Store;
    use phasework_store::memory::MemoryStore;
    use phasework_workflows::testkit::workflow;
    use phasework_workflows::time::SystemClock;

    use super::*;

    fn revision(text: &str) -> Workflow {
        let mut workflow = workflow("search").build();
        workflow.revision = Revision::from(text);
        workflow
    }

    /// Definitions of which `used` are kept in memory, in that order, and a store that has lost them.
    fn after_a_loss(used: &[&str]) -> (Workflows, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::new());
        let workflows = Workflows::new(Arc::<MemoryStore>::clone(&store), Arc::new(SystemClock));
        used.iter().for_each(|text| workflows.keep(Arc::new(revision(text))));
        (workflows, store)
    }

    async fn stored(store: &MemoryStore) -> Vec<String> {
        let revisions = store.revisions(&revision("").name).await.unwrap();
        revisions.into_iter().map(|stored| stored.revision.to_string()).collect()
    }

    #[tokio::test]
    async fn of_what_is_stored_again_the_one_used_last_is_the_latest() {
        let (workflows, store) = after_a_loss(&["aa", "bb", "cc", "bb"]);
        for _ in 0..2 {
            workflows.store_again().await.unwrap();
            assert_eq!(stored(&store).await, ["bb", "cc", "aa"]);
        }
    }

    #[tokio::test]
    async fn what_is_stored_again_leaves_the_latest_that_the_store_has() {
        let (workflows, store) = after_a_loss(&["aa", "bb"]);
        store.put_workflow(to_store(&revision("zz"), Timestamp::from_millis(1))).await.unwrap();
        workflows.store_again().await.unwrap();
        assert_eq!(stored(&store).await, ["zz", "bb", "aa"]);
    }

    #[test]
    fn only_a_store_that_may_take_it_later_holds_up_the_rest() {
        let later = [StoreError::Unavailable("gone".into()), StoreError::Full("full".into())];
        for error in later {
            assert!(note_stored_again(&revision("aa"), Err(error)).is_err());
        }
        let never = [
            StoreError::Corrupt("not a hash".into()),
            StoreError::TooLarge { what: "definition", size: 2, limit: 1 },
            StoreError::Unusable("it evicts keys".into()),
        ];
        for stored in [Ok(true), Ok(false)].into_iter().chain(never.map(Err)) {
            assert!(note_stored_again(&revision("aa"), stored).is_ok());
        }
    }
}
