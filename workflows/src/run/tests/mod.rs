//! Tests of the transition function, through the harness that checks the invariants after every step.

mod broken;
mod control;
mod exhaustive;
mod explore;
mod hostile;
mod leases;
mod listing;
mod outcomes;
mod phases;
mod random;
mod recipes;
mod upgrade;

use crate::definition::Workflow;
use crate::testkit::{HandlerBuilder, Harness, Outside, final_phase, phase, workflow};

/// Plays scripts on runs of one workflow: each row is what happens, and where the run stands then.
#[track_caller]
fn check(workflow: &Workflow, rows: &[(&str, &str)]) {
    check_outside(workflow, &Outside::default(), rows);
}

/// As [`check`], with an outside of its own.
#[track_caller]
fn check_outside(workflow: &Workflow, outside: &Outside, rows: &[(&str, &str)]) {
    for (script, expected) in rows {
        let mut harness = Harness::start_with(workflow.clone(), outside.clone());
        let summary = harness.play(script).summary();
        assert_eq!(summary, *expected, "after `{script}`");
    }
}

/// One handler in a phase without an error transition, then the end.
fn plain(handler: impl Into<HandlerBuilder>) -> Workflow {
    let work = phase("work").to("end").handler(handler);
    workflow("plain").phase(work).phase(final_phase("end")).build()
}

/// One handler in a phase with an error transition.
fn guarded(handler: impl Into<HandlerBuilder>) -> Workflow {
    let work = phase("work").to("end").on_error("oops").handler(handler);
    workflow("guarded").phase(work).phase(final_phase("end")).phase(final_phase("oops")).build()
}
