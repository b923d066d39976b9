//! What has to hold of every run when a simulation is over.

use std::collections::BTreeSet;

use phasework_store::Store;
use phasework_workflows::Version;
use phasework_workflows::id::{EntryNo, HandlerName, RunId};
use phasework_workflows::run::audit::{check_history, check_state};
use phasework_workflows::run::{HandlerTally, HistoryEvent, HistoryKind, RunState};

use super::recipe::Recipe;
use super::witness::{JobSeen, Witness, load};

/// Judges every run that was wanted.
pub(super) async fn judge(witness: &Witness, store: &dyn Store, recipe: &Recipe, rewinds: u64, runs: &[RunId]) {
    for &run in runs {
        judge_run(witness, store, run, rewinds).await;
    }
    let wanted: BTreeSet<_> = runs.iter().collect();
    let stored = store.runs(&phasework_store::RunFilter { limit: 1000, ..<_>::default() }).await.unwrap_or_default();
    let strange = stored.iter().find(|listed| !wanted.contains(&listed.run));
    witness.says("accepted-once", strange.is_none(), || format!("nobody wanted run {}", strange.expect("found").run));
    let dead = store.dead(0, 1).await.unwrap_or_default();
    // What a store does not know any more cannot be understood.
    let is_understood = dead.is_empty() || rewinds > 0;
    witness.says("bounded-failure", is_understood, || format!("a dead letter: {:?}", dead[0]));
    if recipe.faults.is_empty() {
        judge_executions(witness);
    }
}

async fn judge_run(witness: &Witness, store: &dyn Store, id: RunId, rewinds: u64) {
    let Some(run) = load(store, id).await else {
        return witness.says("accepted-once", false, || format!("run {id} was accepted, and is nowhere"));
    };
    let is_defined = store.workflow(&run.head.revision).await.is_ok_and(|stored| stored.is_some());
    witness.says("pinned", is_defined, || format!("the definition of run {id} is gone"));
    let Some(workflow) = witness.workflow(store, &run.head.revision).await else { return };
    let is_told = !run.head.state.is_ended() || rewinds > 0 || witness.seen().told.contains(&id);
    witness.says("no-lost-work", is_told, || format!("the end of run {id} was never told"));
    let is_over = run.head.state.is_ended() || run.head.state == RunState::Halted;
    witness.says("no-stranded-run", is_over, || format!("run {id} is still {}", run.head.state.as_str()));
    let history = store.history(id, 0, usize::MAX).await.unwrap_or_default();
    for checked in [check_state(&workflow, &run), check_history(&workflow, &run, &history)] {
        if let Err(broken) = checked {
            witness.report(broken);
        }
    }
    for event in &history {
        let HistoryKind::Finished { entry, handlers, .. } = &event.what else { continue };
        for tally in handlers {
            judge_jobs(witness, id, *entry, tally, &history, rewinds);
        }
    }
}

/// What counts as done has been done, by a version that the run had pinned, and within the tries that it had.
fn judge_jobs(
    witness: &Witness,
    run: RunId,
    entry: EntryNo,
    tally: &HandlerTally,
    history: &[HistoryEvent],
    rewinds: u64,
) {
    let pinned = pinned(history, entry, &tally.handler);
    let seen = witness.seen();
    let (first, last) = ((run, entry, tally.handler.clone(), 0), (run, entry, tally.handler.clone(), u64::MAX));
    let jobs: Vec<JobSeen> = seen.jobs.range(first..=last).map(|(_, job)| job.clone()).collect();
    drop(seen);
    let done = jobs.iter().filter(|job| job.done > 0).count() as u64;
    witness.says("counted-once", tally.done <= done, || {
        format!("{} of {run}: {} jobs count as done, {done} were done", tally.handler, tally.done)
    });
    // A rerun of a lost timeline may have pinned others.
    let stray = jobs.iter().flat_map(|job| &job.begun).find(|(.., version)| !pinned.contains(version));
    witness.says("pinned", stray.is_none() || rewinds > 0, || {
        format!("{} of {run} was done by {:?}, and {pinned:?} were pinned", tally.handler, stray)
    });
}

fn pinned(history: &[HistoryEvent], wanted: EntryNo, name: &HandlerName) -> Vec<Version> {
    let pins = history.iter().filter_map(|event| match &event.what {
        HistoryKind::Pinned { entry, handler, version } if *entry == wanted && handler == name => Some(version.clone()),
        _ => None,
    });
    pins.collect()
}

/// When nothing goes wrong, no attempt is made twice.
fn judge_executions(witness: &Witness) {
    let seen = witness.seen();
    let twice = seen.jobs.iter().find(|(_, job)| {
        let attempts: BTreeSet<_> = job.begun.iter().map(|(attempt, ..)| attempt).collect();
        attempts.len() != job.begun.len()
    });
    let words = twice.map(|(key, job)| format!("{key:?}, though nothing went wrong: {:?}", job.begun));
    drop(seen);
    witness.says("counted-once", words.is_none(), || words.unwrap_or_default());
}
