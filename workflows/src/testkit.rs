//! For tests: [`workflow`] builds definitions in a line, [`Harness`] plays the outside of a run in memory, and after
//! every step it checks the invariants, by the names they have in the design: what breaks one is [`Broken`].
//! It shares no code with what it checks but the types.

mod build;
mod harness;
mod history;
mod script;
mod state;
mod step;
mod stored;

pub use build::{HandlerBuilder, PhaseBuilder, WorkflowBuilder, final_phase, handler, phase, workflow};
pub use harness::{ApplyFn, Harness, JobOut, Outside};
pub use history::check_history;
pub use state::check_state;
pub use step::{JobStatus, check_step};
pub use stored::Stored;

use std::fmt;

/// An invariant that does not hold, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its name in the design.
    pub invariant: &'static str,
    /// How it shows.
    pub words: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is broken: {}", self.invariant, self.words)
    }
}

impl std::error::Error for Broken {}

/// Whether an invariant holds.
pub type Check = Result<(), Broken>;

/// Says that `invariant` is broken unless `holds`.
fn ensure(holds: bool, invariant: &'static str, words: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken { invariant, words: words() }) }
}
