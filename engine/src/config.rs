//! Every setting of an engine: one field, one line of doc, one check. Reading flags, environment and files is the
//! program's affair, not the engine's.

use std::fmt;
use std::sync::Arc;

use phasework_workflows::id::{RunId, WorkflowName};
use phasework_workflows::message::MAX_PAYLOAD_BYTES;
use phasework_workflows::time::{Millis, Timestamp};

use crate::trace::SharedTracer;

/// The settings of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The name of this coordinator, unique among those on one broker; shown in logs and to workers.
    pub name: Arc<str>,
    /// How many coordinator queues runs are mapped onto. Coordinators on one broker should agree but while it is changed.
    pub coordinator_queues: u16,
    /// How many messages of a coordinator queue may be held at once.
    pub prefetch: u16,
    /// How many messages are handled as one batch, at most.
    pub batch: usize,
    /// How many runs each coordinator queue keeps in memory.
    pub cached_runs: usize,
    /// The largest run data, job input and output, in bytes.
    pub max_payload_bytes: usize,
    /// How long ended runs are kept.
    pub retention: Millis,
    /// How often ticks are sent.
    pub tick: Millis,
    /// Go on with a store that is empty, although its broker was used before.
    pub adopt: bool,
    /// Where traces of runs go, if anywhere.
    pub tracer: Option<SharedTracer>,
}

impl EngineConfig {
    /// The settings of an engine called `name`, with everything else at its default.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            coordinator_queues: 8,
            prefetch: 256,
            batch: 128,
            cached_runs: 4096,
            max_payload_bytes: MAX_PAYLOAD_BYTES,
            retention: Millis::from_mins(7 * 24 * 60),
            tick: Millis::from_secs(1),
            adopt: false,
            tracer: None,
        }
    }

    /// The trace context of a run that is submitted by a part of the trace `from`.
    pub(crate) fn submitted(
        &self,
        run: RunId,
        workflow: &WorkflowName,
        from: Option<Arc<str>>,
        at: Timestamp,
    ) -> Option<Arc<str>> {
        match &self.tracer {
            Some(tracer) => tracer.submitted(run, workflow, from.as_deref(), at),
            None => from,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// All settings that cannot be, with what they may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        must(!self.name.is_empty() && self.name.len() <= 60, "the name must have 1 to 60 characters");
        must((1..=256).contains(&self.coordinator_queues), "coordinator_queues must be 1 to 256");
        must(self.prefetch >= 1, "prefetch must be at least 1");
        must((1..=10_000).contains(&self.batch), "batch must be 1 to 10000");
        must(self.cached_runs >= 1, "cached_runs must be at least 1");
        must(
            (1024..=8 * 1024 * 1024).contains(&self.max_payload_bytes),
            "max_payload_bytes must be 1 kB to 8 MB: brokers refuse larger messages",
        );
        must(self.retention >= Millis::from_secs(1), "retention must be at least 1s");
        must(self.tick >= Millis(50) && self.tick <= Millis::from_secs(10), "tick must be 50ms to 10s");
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_setting_is_named_at_once() {
        assert_eq!(EngineConfig::new("c1").check(), Ok(()));
        let bad = EngineConfig { coordinator_queues: 0, prefetch: 0, tick: Millis(1), ..EngineConfig::new("") };
        let error = bad.check().unwrap_err();
        assert_eq!(error.0.len(), 4, "{error}");
    }
}
