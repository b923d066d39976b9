//! What `top` shows, worked out from what the API answers: two looks, one a moment after the other, make rates. Asks
//! nobody and draws nothing.

use std::collections::{BTreeMap, BTreeSet};

use phasework_workflows::time::Timestamp;
use serde::Serialize;

use crate::views::{CoordinatorView, Counts, RunView, WorkerView};

/// What was found at one time.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) counts: Counts,
    /// The newest live runs.
    pub(super) runs: Vec<RunView>,
    pub(super) workers: Vec<WorkerView>,
    pub(super) dead: u64,
    pub(super) coordinators: Vec<CoordinatorView>,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) at: Timestamp,
    pub(super) runs: RunFigures,
    /// How many live runs wait for what, the most frequent first.
    pub(super) waiting_for: Vec<Waiting>,
    pub(super) handlers: Vec<HandlerFigures>,
    pub(super) workers: Vec<WorkerFigures>,
    pub(super) live_runs: Vec<RunRow>,
    pub(super) dead_letters: u64,
    pub(super) coordinators: Vec<CoordinatorFigures>,
}

/// Runs, all together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RunFigures {
    pub(super) live: u64,
    pub(super) ended: u64,
    /// Of how many live runs jobs and waits are counted: the newest.
    pub(super) looked_at: usize,
    /// A second; nothing at the first look.
    pub(super) started_per_s: Option<f64>,
    pub(super) ended_per_s: Option<f64>,
    /// Jobs that came to their end, about.
    pub(super) jobs_per_s: Option<f64>,
}

/// What some runs wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Waiting {
    pub(super) what: &'static str,
    pub(super) runs: u64,
}

/// A handler in one version, over all live runs that were looked at and all live workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct HandlerFigures {
    pub(super) handler: String,
    /// Nothing while no version is chosen.
    pub(super) version: Option<String>,
    /// Runs that are in a phase of it and not done with it.
    pub(super) runs: u64,
    /// Jobs that are not at their end.
    pub(super) backlog: u64,
    /// Runs for which it is still making its list of jobs, and how many jobs these lists have so far.
    pub(super) listing: u64,
    pub(super) listed: u64,
    pub(super) in_flight: u64,
    pub(super) leased: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
    pub(super) jobs_per_s: Option<f64>,
    pub(super) workers: u64,
    pub(super) slots: u64,
    pub(super) busy: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WorkerFigures {
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) state: &'static str,
    pub(super) last_seen: Timestamp,
    /// How long ago it was last heard of.
    pub(super) silent_s: u64,
    pub(super) handlers: Vec<String>,
    pub(super) slots: u64,
    pub(super) busy: u64,
}

/// A live run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RunRow {
    pub(super) run: String,
    pub(super) workflow: String,
    pub(super) state: String,
    pub(super) phase: String,
    pub(super) created_at: Timestamp,
    pub(super) done: u64,
    pub(super) total: u64,
    /// Whether a handler is still making its list of jobs: the total is that so far.
    pub(super) is_listing: bool,
    pub(super) waiting_for: String,
}

/// A coordinator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CoordinatorFigures {
    pub(super) coordinator: String,
    pub(super) queues_owned: Option<u64>,
}

/// Which handler, in which version.
type Hosted = (String, Option<String>);

impl Figures {
    /// Works out what is shown from a look, and from the one before if there was one.
    pub(super) fn of(look: &Look, before: Option<&Look>) -> Self {
        let seconds = before.map(|before| look.at.since(before.at).0 as f64 / 1000.0).filter(|seconds| *seconds > 0.0);
        let rate = |count: u64| seconds.map(|seconds| count as f64 / seconds);
        let (mut started, mut ended, mut finished) = (0, 0, BTreeMap::new());
        if let Some(before) = before {
            let all = |look: &Look| look.counts.live + look.counts.ended;
            // Runs are removed when they have had their time, which must not look as if runs were started backwards.
            ended = look.counts.ended.saturating_sub(before.counts.ended);
            started = all(look).saturating_sub(all(before));
            finished = finished_between(before, look);
        }
        let jobs = finished.values().sum();
        Self {
            at: look.at,
            runs: RunFigures {
                live: look.counts.live,
                ended: look.counts.ended,
                looked_at: look.runs.len(),
                started_per_s: rate(started),
                ended_per_s: rate(ended),
                jobs_per_s: rate(jobs),
            },
            waiting_for: waits(&look.runs),
            handlers: handlers(look, &finished, rate),
            workers: look.workers.iter().map(|worker| WorkerFigures::of(worker, look.at)).collect(),
            live_runs: look.runs.iter().map(RunRow::of).collect(),
            dead_letters: look.dead,
            coordinators: look.coordinators.iter().map(CoordinatorFigures::of).collect(),
        }
    }
}

impl WorkerFigures {
    fn of(worker: &WorkerView, now: Timestamp) -> Self {
        let sum = |count: fn(&crate::views::HostedView) -> u32| worker.handlers.iter().map(count).map(u64::from).sum();
        Self {
            host: worker.host.clone(),
            pid: worker.pid,
            state: match (worker.live, worker.draining) {
                (false, _) => "lost",
                (true, true) => "draining",
                (true, false) => "live",
            },
            last_seen: worker.last_seen,
            silent_s: now.since(worker.last_seen).0 / 1000,
            handlers: worker.handlers.iter().map(|hosted| format!("{} {}", hosted.name, hosted.version)).collect(),
            slots: sum(|hosted| hosted.slots),
            busy: sum(|hosted| hosted.in_flight),
        }
    }
}

impl RunRow {
    fn of(run: &RunView) -> Self {
        Self {
            run: run.run.clone(),
            workflow: run.workflow.clone(),
            state: run.state.clone(),
            phase: run.phase.clone(),
            created_at: run.created_at,
            done: run.handlers.iter().map(|handler| handler.done + handler.failed).sum(),
            total: run.handlers.iter().filter_map(|handler| handler.total.or(handler.listed)).sum(),
            is_listing: run.handlers.iter().any(|handler| handler.listed.is_some()),
            waiting_for: run.waiting_for.as_deref().or(run.unreadable()).unwrap_or_default().to_owned(),
        }
    }
}

impl CoordinatorFigures {
    fn of(coordinator: &CoordinatorView) -> Self {
        Self { coordinator: coordinator.coordinator.clone(), queues_owned: coordinator.queues_owned }
    }
}

fn handlers(look: &Look, finished: &BTreeMap<Hosted, u64>, rate: impl Fn(u64) -> Option<f64>) -> Vec<HandlerFigures> {
    let mut found: BTreeMap<Hosted, HandlerFigures> = BTreeMap::new();
    let named = |(handler, version): &Hosted| HandlerFigures {
        handler: handler.clone(),
        version: version.clone(),
        ..HandlerFigures::default()
    };
    for handler in look.runs.iter().flat_map(|run| &run.handlers) {
        let hosted = (handler.name.clone(), handler.version.clone());
        let figures = found.entry(hosted).or_insert_with_key(named);
        let left = handler.total.map_or(0, |total| total.saturating_sub(handler.done + handler.failed));
        figures.runs += u64::from(left > 0 || handler.total.is_none());
        figures.backlog += left;
        figures.listing += u64::from(handler.listed.is_some());
        figures.listed += handler.listed.unwrap_or_default();
        figures.in_flight += handler.in_flight;
        figures.leased += handler.leased;
        figures.failed += handler.failed;
        figures.retried += handler.retried;
    }
    for hosted in look.workers.iter().filter(|worker| worker.live).flat_map(|worker| &worker.handlers) {
        let name = (hosted.name.clone(), Some(hosted.version.clone()));
        let figures = found.entry(name).or_insert_with_key(named);
        figures.workers += 1;
        figures.slots += u64::from(hosted.slots);
        figures.busy += u64::from(hosted.in_flight);
    }
    for (name, figures) in &mut found {
        figures.jobs_per_s = rate(finished.get(name).copied().unwrap_or_default());
    }
    found.into_values().collect()
}

/// How many jobs came to their end between two looks. A phase that was left in between is taken to have finished, as
/// nearly all do.
fn finished_between(before: &Look, after: &Look) -> BTreeMap<Hosted, u64> {
    let earlier: BTreeMap<_, _> = before.runs.iter().map(|run| (run.run.as_str(), run)).collect();
    let still: BTreeSet<_> = after.runs.iter().map(|run| run.run.as_str()).collect();
    // Beyond what was looked at, runs come into sight and go out of it without anything having happened.
    let sees_all = |look: &Look| look.runs.len() as u64 >= look.counts.live;
    let mut finished = BTreeMap::new();
    let mut add = |handler: &crate::views::HandlerView, count: u64| {
        *finished.entry((handler.name.clone(), handler.version.clone())).or_default() += count;
    };
    for run in &after.runs {
        let was = earlier.get(run.run.as_str());
        let is_same_visit = was.is_some_and(|was| was.entry == run.entry);
        if was.is_none() && !sees_all(before) {
            continue;
        }
        for handler in &run.handlers {
            let now = handler.done + handler.failed;
            let then =
                was.filter(|_| is_same_visit).and_then(|was| was.handlers.iter().find(|h| h.name == handler.name));
            add(handler, now.saturating_sub(then.map_or(0, |then| then.done + then.failed)));
        }
        if let Some(was) = was.filter(|_| !is_same_visit) {
            was.handlers.iter().for_each(|handler| add(handler, left_of(handler)));
        }
    }
    if sees_all(after) {
        let gone = before.runs.iter().filter(|run| !still.contains(run.run.as_str()));
        gone.flat_map(|run| &run.handlers).for_each(|handler| add(handler, left_of(handler)));
    }
    finished
}

fn left_of(handler: &crate::views::HandlerView) -> u64 {
    handler.total.map_or(0, |total| total.saturating_sub(handler.done + handler.failed))
}

/// How many runs wait for what.
fn waits(runs: &[RunView]) -> Vec<Waiting> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for run in runs {
        let what = match run.state.as_str() {
            "damaged" => "help, as they are damaged",
            "newer" => "a newer coordinator",
            _ => kind_of_wait(run.waiting_for.as_deref().unwrap_or_default()),
        };
        *counts.entry(what).or_default() += 1;
    }
    let mut waiting: Vec<_> = counts.into_iter().map(|(what, runs)| Waiting { what, runs }).collect();
    waiting.sort_by(|a, b| b.runs.cmp(&a.runs).then(a.what.cmp(b.what)));
    waiting
}

/// The kind of what a run waits for: the words of docs/run-states.md without names and numbers.
fn kind_of_wait(words: &str) -> &'static str {
    // What a person has to see to is said first, when a run waits for several things.
    if words.contains("a worker that hosts") {
        "a worker"
    } else if words.starts_with("an order") {
        "an order"
    } else if words.contains("to stop, as it is being canceled") {
        "jobs to stop"
    } else if words.contains("under way") {
        "jobs"
    } else if words.contains("a retry") {
        "a retry"
    } else if words.starts_with("the coordinator") {
        "the coordinator"
    } else if words.contains("list of jobs") {
        "a list of jobs"
    } else {
        "something else"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn look(second: u64, ended: u64, runs: Value) -> Look {
        let runs: Vec<RunView> = serde_json::from_value(runs).unwrap();
        Look {
            at: Timestamp::from_millis(1_769_860_800_000 + second as i64 * 1000),
            counts: Counts { live: runs.len() as u64, ended },
            runs,
            workers: serde_json::from_value(json!([
                { "host": "box", "pid": 7, "last_seen": "2026-01-31T11:59:57Z", "live": true,
                  "handlers": [{ "name": "H", "version": "1.0.0", "slots": 8, "in_flight": 3 }] },
                { "host": "old", "pid": 8, "last_seen": "2026-01-31T11:58:00Z", "live": false,
                  "handlers": [{ "name": "H", "version": "1.0.0", "slots": 8, "in_flight": 3 }] },
            ]))
            .unwrap(),
            dead: 2,
            coordinators: Vec::new(),
        }
    }

    fn run(id: &str, entry: u32, done: u64, waiting_for: &str) -> Value {
        json!({ "run": id, "workflow": "w", "revision": "r", "state": "running", "phase": "p", "entry": entry,
                "created_at": "2026-01-31T11:00:00Z", "waiting_for": waiting_for,
                "handlers": [{ "name": "H", "version": "1.0.0", "total": 10, "done": done, "failed": 0, "in_flight": 3 }] })
    }

    #[test]
    fn backlogs_and_slots_are_summed_up() {
        let look = look(
            0,
            5,
            json!([
                run("a", 1, 4, "3 jobs of H 1.0.0, queued or under way"),
                run("b", 1, 10, "the coordinator, to finish the phase")
            ]),
        );
        let figures = Figures::of(&look, None);
        let [handler] = figures.handlers.as_slice() else { panic!("{figures:?}") };
        assert_eq!((handler.runs, handler.backlog, handler.in_flight), (1, 6, 6));
        assert_eq!((handler.workers, handler.slots, handler.busy), (1, 8, 3));
        assert_eq!((handler.jobs_per_s, figures.runs.started_per_s), (None, None));
        assert_eq!((figures.workers[0].silent_s, figures.workers[1].state), (3, "lost"));
        let expected = [Waiting { what: "jobs", runs: 1 }, Waiting { what: "the coordinator", runs: 1 }];
        assert_eq!(figures.waiting_for, expected);
    }

    #[test]
    fn lists_that_are_made_are_counted() {
        let mut lists = run("a", 1, 0, "H's list of jobs: 12000 jobs so far");
        lists["handlers"] = json!([{ "name": "H", "version": "1.0.0", "listed": 12_000, "done": 0, "in_flight": 1 }]);
        let figures = Figures::of(&look(0, 5, json!([lists, run("b", 1, 4, "")])), None);
        let handler = &figures.handlers[0];
        assert_eq!((handler.listing, handler.listed, handler.backlog, handler.runs), (1, 12_000, 6, 2));
        let rows: Vec<_> = figures.live_runs.iter().map(|run| (run.done, run.total, run.is_listing)).collect();
        assert_eq!(rows, [(0, 12_000, true), (4, 10, false)]);
    }

    #[test]
    fn two_looks_make_rates() {
        // `a` goes on, `b` enters another phase, `c` ends, `d` is started.
        let before = look(0, 5, json!([run("a", 1, 4, ""), run("b", 1, 8, ""), run("c", 1, 7, "")]));
        let after = look(2, 6, json!([run("d", 1, 1, ""), run("b", 2, 3, ""), run("a", 1, 6, "")]));
        let figures = Figures::of(&after, Some(&before));
        assert_eq!((figures.runs.started_per_s, figures.runs.ended_per_s), (Some(0.5), Some(0.5)));
        // 2 of `a`, 2 and 3 of `b`, 3 of `c`, 1 of `d`.
        assert_eq!(figures.runs.jobs_per_s, Some(5.5));
        assert_eq!(figures.handlers[0].jobs_per_s, Some(5.5));
    }

    #[test]
    fn runs_that_come_into_sight_are_not_taken_for_new() {
        let mut before = look(0, 5, json!([run("a", 1, 4, "")]));
        let mut after = look(1, 5, json!([run("b", 1, 9, "")]));
        (before.counts.live, after.counts.live) = (500, 500);
        assert_eq!(Figures::of(&after, Some(&before)).runs.jobs_per_s, Some(0.0));
    }

    #[test]
    fn waits_are_told_apart() {
        for (words, expected) in [
            ("a worker that hosts H ~> 1.2", "a worker"),
            ("3 jobs of H 1.2.0, queued or under way; a worker that hosts G", "a worker"),
            ("3 jobs of H 1.2.0, under way with a lease", "jobs"),
            ("a retry at 2026-01-31T12:00:00.000Z of 3 jobs of H", "a retry"),
            ("an order: it is paused, and goes on when it is told to resume", "an order"),
            ("2 jobs to stop, as it is being canceled, until 2026", "jobs to stop"),
            ("the list of jobs of H to be made", "a list of jobs"),
            ("H's list of jobs: 12000 jobs so far", "a list of jobs"),
            ("a retry at 2026-01-31T12:00:00.000Z of H's list of jobs", "a retry"),
            ("a worker that hosts H 1.2.3, to make its list of jobs", "a worker"),
            ("the coordinator, to let out jobs of H", "the coordinator"),
            ("the coordinator, to have H make its list of jobs", "the coordinator"),
            ("the end of the world", "something else"),
        ] {
            assert_eq!(kind_of_wait(words), expected, "{words}");
        }
    }
}
