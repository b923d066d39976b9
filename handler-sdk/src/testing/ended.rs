//! A run that was tested: what became of it, and how it came to that.

use std::collections::BTreeMap;
use std::time::Duration;

use phasework_workflows::Payload;
use phasework_workflows::definition::nearest;
use phasework_workflows::id::EntryNo;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{HistoryEvent, HistoryKind, RunState};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use crate::handler::read_input;

/// A run that does not go on: it ended, or it halted.
#[derive(Clone, Debug)]
pub struct EndedRun {
    pub(super) state: RunState,
    pub(super) output: Option<Payload>,
    pub(super) error: Option<JobError>,
    pub(super) outputs: BTreeMap<String, BTreeMap<String, Value>>,
    pub(super) history: Vec<HistoryEvent>,
    pub(super) calls: Vec<Call>,
    pub(super) took: Duration,
}

impl EndedRun {
    /// `succeeded`, `failed` or `halted`.
    pub fn state(&self) -> &'static str {
        self.state.as_str()
    }

    /// The phases it entered, in order; one that it entered again is there again.
    pub fn phases(&self) -> Vec<&str> {
        let phase = |event| match event {
            &HistoryEvent { what: HistoryKind::Entered { ref phase, .. }, .. } => Some(phase.as_str()),
            _ => None,
        };
        self.history.iter().filter_map(phase).collect()
    }

    /// Its result, read as a `T`.
    ///
    /// # Panics
    /// When it has none, or of another shape.
    #[track_caller]
    pub fn output<T: DeserializeOwned>(&self) -> T {
        let Some(output) = &self.output else { panic!("the run has no output: {}", self.summary()) };
        read_input(output.as_json()).unwrap_or_else(|error| panic!("the run's output, {output}: {error}"))
    }

    /// What a handler left in a phase, as expressions see it: its output, or the list of outputs of its jobs. In a loop,
    /// that of the latest entry.
    ///
    /// # Panics
    /// When the run has not finished that phase, it has no such handler, or the output has another shape.
    #[track_caller]
    pub fn output_of<T: DeserializeOwned>(&self, phase: &str, handler: &str) -> T {
        let Some(handlers) = self.outputs.get(phase) else {
            let near = did_you_mean(phase, self.outputs.keys());
            panic!("the run has not finished a phase `{phase}`{near}: {}", self.summary());
        };
        let Some(output) = handlers.get(handler) else {
            panic!("phase `{phase}` has no handler `{handler}`{}", did_you_mean(handler, handlers.keys()));
        };
        let output = output.to_string();
        read_input(&output).unwrap_or_else(|error| panic!("the output of {phase}.{handler}, {output}: {error}"))
    }

    /// What made it fail or halt, or leave the ordinary path.
    pub fn error(&self) -> Option<&JobError> {
        self.error.as_ref()
    }

    /// Every call of every handler, in the order in which jobs went out.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Every call of one handler, in the order in which jobs went out.
    pub fn calls_of(&self, handler: &str) -> Vec<&Call> {
        self.calls.iter().filter(|call| call.handler == *handler).collect()
    }

    /// What happened, as its history has it.
    pub fn history(&self) -> &[HistoryEvent] {
        &self.history
    }

    /// How many entries it has had.
    pub fn entries(&self) -> EntryNo {
        EntryNo::try_from(self.phases().len()).unwrap_or(EntryNo::MAX)
    }

    /// How long it took, in its own time: waits that were skipped count.
    pub fn took(&self) -> Duration {
        self.took
    }

    fn summary(&self) -> String {
        let why = self.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
        format!("it is {} after {}{why}", self.state(), self.phases().join(", "))
    }
}

fn did_you_mean<'a>(written: &str, candidates: impl Iterator<Item = &'a String>) -> String {
    let near = nearest(written, candidates.map(String::as_str));
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}
