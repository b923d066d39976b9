//! For tests: [`workflow`] builds definitions in a line, [`Harness`] plays the outside of a run in memory, and after
//! every step it checks the invariants, by the names they have in the design: what breaks one is [`Broken`].
//! It shares no code with what it checks but the types.

mod build;
mod harness;
mod script;
mod step;
mod stored;

pub use crate::run::audit::{Broken, Check, check_history, check_state};
pub use build::{HandlerBuilder, PhaseBuilder, WorkflowBuilder, final_phase, handler, phase, workflow};
pub use harness::{ApplyFn, Harness, JobOut, Outside};
pub use step::{JobStatus, check_step};
pub use stored::Stored;
