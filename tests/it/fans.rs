//! Runs that fan out, for scenarios in which something is lost under way: a tap that lets their jobs get so far, and the
//! proof that they ended as if nothing had been lost.

use phasework_engine::{Engine, Submission, ToRun};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_store::SharedStore;
use phasework_tests::{Ledger, Setting, World, wait};
use phasework_workflows::id::RunId;
use phasework_workflows::run::{HistoryKind, LostWhy, RunState};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::definitions::phases;
use crate::processes::until;

/// The job queue of all runs here.
pub(crate) const QUEUE: &str = "Note.1.0.0";

/// By how much what a job reports grows with each life.
const LIFE: u64 = 1000;

/// A run that fans out twice, the second time a few jobs at a time.
pub(crate) fn fan(jobs: u64) -> String {
    let definition = json!({
        "workflow": format!("fan-{jobs}"),
        "output": { "out": "{{ outputs.out.Note }}", "again": "{{ outputs.again.Note }}" },
        "phases": {
            "out": { "is_initial": true, "transitions_to": "again", "handlers": [{ "name": "Note", "for_each": jobs }] },
            "again": { "transitions_to": "end",
                       "handlers": [{ "name": "Note", "for_each": jobs, "max_in_flight": 3 }] },
            "end": { "is_final": true }
        }
    });
    definition.to_string()
}

/// How far jobs are let: those with an index from there on wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tap(watch::Sender<(u64, u64)>);

impl Tap {
    /// Lets jobs with an index below `limit` through.
    pub(crate) fn at(limit: u64) -> Self {
        Self(watch::Sender::new((limit, 0)))
    }

    /// From now on.
    pub(crate) fn turn(&self, limit: u64) {
        self.0.send_modify(|state| state.0 = limit);
    }

    /// Jobs that begin from now on report of another life.
    pub(crate) fn next_life(&self) {
        self.0.send_modify(|state| state.1 += 1);
    }
}

/// A worker with room for all of them.
pub(crate) fn hosting(ledger: &Ledger, tap: &Tap) -> impl FnOnce(Worker) -> Worker + use<> {
    hosting_at_once(512, ledger, tap)
}

/// A worker with room for some.
pub(crate) fn hosting_at_once(slots: u32, ledger: &Ledger, tap: &Tap) -> impl FnOnce(Worker) -> Worker + use<> {
    let (ledger, tap) = (ledger.clone(), tap.clone());
    move |worker| {
        let handler = move |index: u64, ctx: Context| {
            let (ledger, mut tap) = (ledger.clone(), tap.0.subscribe());
            async move {
                let life = tap.borrow().1;
                let name = format!("{} {} {index}", ctx.run(), ctx.phase());
                ledger.note(format!("begun {name}"));
                tap.wait_for(|(limit, _)| index < *limit).await.map_err(HandlerError::retry)?;
                ledger.note(format!("done {name}"));
                Ok::<_, HandlerError>(life * LIFE + index)
            }
        };
        worker.concurrency(slots).handler("Note", "1.0.0", handler)
    }
}

/// Submits `definition` this often, under keys that begin with `name`; all at once.
pub(crate) async fn submit_all(engine: &Engine, definition: &str, name: &str, count: usize) -> Vec<RunId> {
    let submissions = (0..count).map(|number| {
        let key = Some(format!("{name} {number}").into());
        engine.submit(Submission { what: ToRun::Definition(definition.to_owned()), data: None, key })
    });
    let accepted = futures::future::try_join_all(submissions).await.expect("all are accepted");
    accepted.into_iter().map(|accepted| accepted.run).collect()
}

/// Returns when this many different jobs of these runs are `begun`, or `done`.
pub(crate) async fn until_jobs(world: &World, what: &str, runs: &[RunId], count: usize) {
    until(what, async || {
        runs.iter().map(|run| world.ledger.under(&format!("{what} {run} ")).len()).sum::<usize>() >= count
    })
    .await;
}

/// Returns when all of these runs are recovered.
pub(crate) async fn until_recovered(world: &World, runs: &[RunId]) {
    let store = world.store().await;
    for &run in runs {
        until("the run is recovered", async || losses_of(&store, run).await.contains(&LostWhy::Recovery)).await;
    }
}

/// How jobs of a run were found to be lost, each time they were.
pub(crate) async fn losses(world: &World, run: RunId) -> Vec<LostWhy> {
    losses_of(&world.store().await, run).await
}

/// A run was found to be lost by recovery alone, and once: but RabbitMQ may look for a moment as if it had lost something,
/// where there is much to do, and then all is recovered once more.
pub(crate) async fn recovered_once(world: &World, run: RunId) {
    let losses = losses(world, run).await;
    let times = if let Setting::Real { .. } = world.setting() { 1..=3 } else { 1..=1 };
    assert!(losses.iter().all(|why| *why == LostWhy::Recovery) && times.contains(&losses.len()), "{run}: {losses:?}");
}

async fn losses_of(store: &SharedStore, run: RunId) -> Vec<LostWhy> {
    let history = store.history(run, 0, 10_000).await.expect("the history can be read");
    let losses = history.into_iter().filter_map(|event| match event.what {
        HistoryKind::Lost { why, .. } => Some(why),
        _ => None,
    });
    losses.collect()
}

/// Waits for the end of a run of [`fan`]: it took its way, every job was done and counts once. Of which lives what its
/// jobs reported is.
pub(crate) async fn ended_rightly(world: &World, engine: &Engine, run: RunId, jobs: u64) -> Vec<u64> {
    let ended = wait(engine, run).await;
    assert_eq!(ended.head.state, RunState::Succeeded, "{:#?}", ended.head);
    assert_eq!(phases(world, run).await, ["out", "again", "end"], "{run}");
    let output = ended.output.expect("it has one").to_value();
    let mut lives = Vec::new();
    for phase in ["out", "again"] {
        let given: Vec<_> = output[phase].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
        assert!(given.iter().map(|value| value % LIFE).eq(0..jobs), "{run}: {output}");
        lives.extend(given.iter().map(|value| value / LIFE));
        let done = world.ledger.under(&format!("done {run} {phase} "));
        assert_eq!(done.len() as u64, jobs, "{run}: {done:?}");
    }
    let history = world.store().await.history(run, 0, 10_000).await.expect("the history can be read");
    let finished = history.iter().filter_map(|event| match &event.what {
        HistoryKind::Finished { handlers, .. } => Some(handlers),
        _ => None,
    });
    let counts: Vec<_> = finished.flatten().map(|tally| (tally.total, tally.done, tally.failed)).collect();
    assert_eq!(counts, [(Some(jobs), jobs, 0); 2], "{run}: {history:#?}");
    lives
}
