//! Orders to runs. Each goes to the run's owner and is answered after the commit.

use phasework_workflows::definition::nearest;
use phasework_workflows::id::{PhaseName, RunId};
use phasework_workflows::message::event::{Accepted, Control, ControlAction};

use crate::answers::Ask;
use crate::engine::{Engine, EngineError};

impl Engine {
    /// Has an order carried out; returns once that is durable. What the run is already, or cannot be now, changes
    /// nothing: the answer says so, and what state the run is in.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such run, or it has no such phase; otherwise as [`EngineError`] says.
    pub async fn order(&self, control: Control) -> Result<Accepted, EngineError> {
        let run = control.run;
        if let Some(phase) = &control.phase {
            self.check_phase(run, phase).await?;
        }
        // It may be asked for several times until it is answered, and is to be carried out once.
        let id = control.id.clone().unwrap_or_else(|| self.parts.ids.uuid().to_string().into());
        self.asker.ask(run, Ask::Control(Control { id: Some(id), ..control })).await
    }

    /// Has a run canceled, as [`Engine::order`] does.
    ///
    /// # Errors
    /// As [`Engine::order`].
    pub async fn cancel(&self, run: RunId, reason: Option<String>) -> Result<Accepted, EngineError> {
        self.order(Control { reason, ..Control::new(run, ControlAction::Cancel) }).await
    }

    /// Whether the definition that a run is pinned to has a phase.
    async fn check_phase(&self, run: RunId, phase: &PhaseName) -> Result<(), EngineError> {
        let head = self.run(run).await?.head;
        let Some(workflow) = self.workflows.revision(&head.revision).await? else { return Ok(()) };
        if workflow.phase(phase).is_some() {
            return Ok(());
        }
        let names: Vec<_> = workflow.phases.iter().map(|phase| phase.name.as_str()).collect();
        let near = nearest(phase.as_str(), names.iter().copied());
        let near = near.map_or_else(|| names.join(", "), |near| format!("did you mean `{near}`?"));
        let words = format!("{} has no phase `{phase}`: {near}", head.workflow);
        Err(EngineError::NotFound(words))
    }
}
