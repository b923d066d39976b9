//! Plays many seeds on all cores, and sums up. What never happened in all of them was not tested: that is a failure too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use phasework_tests::sim::{Break, Fault, Outcome, Recipe, simulate};

use crate::explain::{explain, problem};

/// With so many seeds everything has to have happened that is to happen at all.
const ENOUGH: u64 = 500;

/// A simulation that takes longer than this hangs, however busy the machine is.
const HANGS: Duration = Duration::from_secs(300);

/// After so many failures no further seed is begun.
const MOST_FAILURES: usize = 3;

/// What has to happen in every large batch: an event that changed a run, or a message.
const MUST_HAPPEN: [&str; 28] = [
    "event JobsFinished",
    "event Leases",
    "event ProbeReturned",
    "event PhaseFinished",
    "event Resolved",
    "event Enumerated",
    "event Concluded",
    "event Wake",
    "event Recover",
    "event cancel",
    "event pause",
    "event resume",
    "event retry",
    "event rerun",
    "ignored JobsFinished: other-entry",
    "event JobsListed",
    "ignored JobsListed: stale",
    "message JobsListed",
    "message ListAnswered",
    "message StartRun",
    "message Jobs",
    "message JobsFinished",
    "message PhaseFinished",
    "message CancelJobs",
    "message Probe",
    "message Leases",
    "message Tick",
    "message Accepted",
];

#[derive(Default)]
struct Total {
    played: u64,
    executions: u64,
    calls: (u64, u64),
    simulated: Duration,
    /// The faults that were to be met.
    wanted: BTreeSet<Fault>,
    struck: BTreeMap<Fault, u64>,
    happened: BTreeMap<String, u64>,
    failures: Vec<(Recipe, Outcome)>,
}

impl Total {
    fn add(&mut self, recipe: Recipe, outcome: Outcome) {
        self.played += 1;
        self.wanted.extend(&recipe.faults);
        self.executions += outcome.executions;
        self.calls.0 += outcome.calls.0;
        self.calls.1 += outcome.calls.1;
        self.simulated += outcome.length;
        for (fault, times) in &outcome.struck {
            *self.struck.entry(*fault).or_default() += times;
        }
        for (what, times) in &outcome.happened {
            *self.happened.entry(what.clone()).or_default() += times;
        }
        if problem(&outcome, &recipe).is_some() {
            self.failures.push((recipe, outcome));
        }
    }

    /// What never happened.
    fn missed(&self) -> Vec<String> {
        let faults = self.wanted.iter().filter(|fault| !self.struck.contains_key(fault)).map(ToString::to_string);
        let events = MUST_HAPPEN.into_iter().filter(|what| !self.happened.contains_key(*what)).map(str::to_owned);
        faults.chain(events).collect()
    }
}

/// Plays `count` seeds from `first` on. Whether all is well.
pub(crate) fn play_many(first: u64, count: u64, broken: Option<Break>, recipe: impl Fn(u64) -> Recipe + Sync) -> bool {
    let began = Instant::now();
    let total = Mutex::new(Total::default());
    let next = AtomicU64::new(first);
    let playing = Arc::new(Mutex::new(BTreeMap::new()));
    watch_the_clock(&playing);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_enough = lock(&total).failures.len() >= MOST_FAILURES;
                    if seed >= first.saturating_add(count) || is_enough {
                        return;
                    }
                    let recipe = recipe(seed);
                    lock(&playing).insert(seed, Instant::now());
                    let outcome = simulate(&recipe, broken);
                    lock(&playing).remove(&seed);
                    if let Some(problem) = problem(&outcome, &recipe) {
                        println!("seed {seed}: {problem}");
                    }
                    let mut total = lock(&total);
                    total.add(recipe, outcome);
                    show_progress(total.played, count);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.failures.sort_by_key(|(recipe, _)| recipe.seed);
    for (recipe, outcome) in &total.failures {
        explain(recipe, broken, outcome);
    }
    report(&total, began.elapsed());
    let missed = if count >= ENOUGH && total.failures.is_empty() { total.missed() } else { Vec::new() };
    if !missed.is_empty() {
        println!("FAILED: never happened: {}", missed.join(", "));
    }
    total.failures.is_empty() && missed.is_empty()
}

/// Ends the program when a seed takes so long that it must hang: nothing else would ever say which it is.
fn watch_the_clock(playing: &Arc<Mutex<BTreeMap<u64, Instant>>>) {
    let playing = Arc::downgrade(playing);
    thread::spawn(move || {
        while let Some(playing) = playing.upgrade() {
            let hung = lock(&playing).iter().find(|(_, began)| began.elapsed() > HANGS).map(|(seed, _)| *seed);
            if let Some(seed) = hung {
                println!("FAILED: seed {seed} hangs: cargo xtask simulate --seed {seed} --trace");
                std::process::exit(1);
            }
            drop(playing);
            thread::park_timeout(Duration::from_secs(5));
        }
    });
}

/// On a terminal a line that changes, elsewhere a line now and then.
fn show_progress(played: u64, count: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{played} of {count} seeds{}", if played == count { "\n" } else { "" });
    } else if played.is_multiple_of(250) {
        eprintln!("{played} of {count} seeds");
    }
}

fn report(total: &Total, took: Duration) {
    let Total { played, executions, calls, simulated, struck, happened, failures, .. } = total;
    println!(
        "\n{played} seeds in {took:.0?}: {} hours of simulated time, {executions} executions, {} calls ({} failed)",
        simulated.as_secs() / 3600,
        calls.0 + calls.1,
        calls.1
    );
    let list = |items: Vec<String>| items.join(", ");
    println!("faults: {}", list(struck.iter().map(|(fault, times)| format!("{fault} {times}")).collect()));
    println!("happened: {}", list(happened.iter().map(|(what, times)| format!("{what} {times}")).collect()));
    if !failures.is_empty() {
        let seeds = failures.iter().map(|(recipe, _)| recipe.seed.to_string()).collect();
        println!("FAILED: seeds {}", list(seeds));
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
