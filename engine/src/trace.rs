//! The port through which traces of runs leave. An engine says what has happened, once it is so; what becomes of that is
//! the program's affair, as is whether there is a trace at all.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use phasework_workflows::id::{RunId, WorkflowName};
use phasework_workflows::message::event::PhaseFinished;
use phasework_workflows::time::Timestamp;

/// Takes note of runs, in traces. Called on the way of every run, so it returns at once.
pub trait Tracer: fmt::Debug + Send + Sync + 'static {
    /// A run is submitted, by a part of this trace if it is of one. The trace context that the run and its jobs carry on.
    fn submitted(&self, run: RunId, workflow: &WorkflowName, from: Option<&str>, at: Timestamp) -> Option<Arc<str>>;

    /// A phase of a run with this trace context has finished. May be told twice after a fault.
    fn phase_finished(&self, traceparent: &str, workflow: &WorkflowName, finished: &PhaseFinished);
}

/// A tracer that is shared. Equal when it is the same.
#[derive(Clone, Debug)]
pub struct SharedTracer(Arc<dyn Tracer>);

impl SharedTracer {
    /// Shares `tracer`.
    pub fn new(tracer: impl Tracer) -> Self {
        Self(Arc::new(tracer))
    }
}

impl Deref for SharedTracer {
    type Target = dyn Tracer;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for SharedTracer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedTracer {}

/// A trace context as it came from outside, if it may be one: runs keep it, so nothing else is let in.
pub(crate) fn sound(traceparent: &str) -> Option<Arc<str>> {
    let parts: Vec<_> = traceparent.trim().split('-').collect();
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    (lengths == [2, 32, 16, 2] && parts.iter().all(|part| is_hex(part))).then(|| traceparent.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_context_is_let_in() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(sound(&format!(" {good}")).as_deref(), Some(good));
        for wrong in ["", "00", &good.to_uppercase(), &good[..54], &format!("{good}-x"), &good.replace('a', "z")] {
            assert_eq!(sound(wrong), None, "{wrong}");
        }
    }
}
