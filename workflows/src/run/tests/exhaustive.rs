//! Small runs, looked at in every state they can come to.

use super::explore::explore;
use crate::definition::{Backoff, Tolerance, Workflow};
use crate::run::apply;
use crate::testkit::{HandlerBuilder, Outside, PhaseBuilder, final_phase, handler, phase, workflow};
use crate::time::Millis;

fn two(name: &str, tries: u32) -> HandlerBuilder {
    handler(name).count(2).tries(tries).backoff(Backoff::Fixed, Millis(1000), Millis(1000))
}

/// Looks at a run through and through; it must come to its end in each of these ways, and no other.
#[track_caller]
fn check(workflow: &Workflow, outside: &Outside, words: &[&str], ends: &[&str]) {
    let found = explore(workflow, outside, apply, words).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{} states, {} steps, {:?}", found.states, found.steps, found.ends);
    let found_ends: Vec<_> = found.ends.keys().map(String::as_str).collect();
    assert_eq!(found_ends, ends);
}

fn run_of(work: PhaseBuilder, end: PhaseBuilder) -> Workflow {
    workflow("small").phase(work).phase(end).phase(final_phase("oops").handler(two("c", 1))).build()
}

#[test]
fn two_phases_of_two_handlers_of_two_jobs() {
    let work = phase("work").to("end").on_error("oops").handler(two("a", 2)).handler(two("b", 1));
    let end = final_phase("end").handler(two("a", 1)).handler(two("b", 1).tolerate(Tolerance::Count(1)));
    let words = ["out", "fail", "redelivered"];
    check(&run_of(work, end), &Outside::default(), &words, &["canceled", "failed", "halted", "succeeded"]);
}

#[test]
fn a_window_of_one() {
    let work = phase("work").to("end").handler(two("a", 2).count(3).window(1)).handler(two("b", 1).count(1));
    let words = ["out", "fail"];
    check(&run_of(work, final_phase("end")), &Outside::default(), &words, &["canceled", "halted", "succeeded"]);
}

#[test]
fn jobs_that_are_handed_back() {
    let work = phase("work").to("end").on_error("oops").handler(two("a", 2));
    let words = ["out", "fail", "busy", "unknown-handler", "redelivered"];
    check(&run_of(work, final_phase("end")), &Outside::default(), &words, &["canceled", "failed", "succeeded"]);
}

#[test]
fn workers_that_come_late() {
    let work = phase("work").to("end").on_error("oops").handler(two("a", 2)).handler(two("b", 1));
    let outside = Outside { absent: vec![crate::id::HandlerName::new("b").unwrap()], ..Outside::default() };
    let words = ["out", "fail"];
    check(&run_of(work, final_phase("end")), &outside, &words, &["canceled", "failed", "succeeded"]);
}

/// Any page and any seal of two makers of each attempt, at any time, in any order.
#[test]
fn lists_that_handlers_make_in_every_state() {
    let lister = || handler("a").enumerates().tries(2).window(1).backoff(Backoff::Fixed, Millis(1000), Millis(1000));
    let work = || phase("work").to("end").on_error("oops");
    let outside = Outside::default();
    let faults = ["out", "fail", "redelivered", "other-list", "lease", "!recover"];
    let ends = ["canceled", "failed", "succeeded"];
    check(&run_of(work().handler(lister()), final_phase("end")), &outside, &faults, &ends);
    let orders = ["out", "fatal", "!pause", "!resume", "!retry", "!cancel", "!rerun"];
    let ends = ["canceled", "halted", "paused", "succeeded"];
    check(&run_of(phase("work").to("end").handler(lister()), final_phase("end")), &outside, &orders, &ends);
    let beside = work().handler(lister()).handler(two("b", 1).count(1));
    check(&run_of(beside, final_phase("end")), &outside, &["out", "fail"], &["canceled", "failed", "succeeded"]);
}

#[test]
fn orders_in_every_state() {
    let work = phase("work").to("end").handler(two("a", 1));
    let words = ["out", "fatal", "!pause", "!resume", "!retry", "!cancel", "!rerun"];
    let ends = ["canceled", "halted", "paused", "succeeded"];
    check(&run_of(work, final_phase("end")), &Outside::default(), &words, &ends);
}

#[test]
fn leases_and_losses_in_every_state() {
    let work = phase("work").to("end").on_error("oops").handler(two("a", 2).timeout(Millis::from_mins(2)));
    let words = ["out", "fail", "lease", "!recover", "!cancel", "!cancel-later"];
    check(&run_of(work, final_phase("end")), &Outside::default(), &words, &["canceled", "failed", "succeeded"]);
}
