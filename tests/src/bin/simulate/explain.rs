//! Makes a failure readable: the least that has to go wrong for it, the last of what happened, and the command that
//! shows it again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use phasework_tests::sim::{Break, Fault, Outcome, Recipe, simulate};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// How many lines of what happened are shown.
const LAST: usize = 30;

/// The longest line that is shown whole.
const WIDTH: usize = 240;

/// Plays one recipe, telling all that happens if that is wanted. Whether all is well.
pub(crate) fn play_one(recipe: &Recipe, broken: Option<Break>, trace: bool) -> bool {
    let outcome = if trace { traced(recipe, broken, Arc::new(Stdout)) } else { simulate(recipe, broken) };
    println!("{recipe}");
    println!("  {}", summary(&outcome));
    match problem(&outcome, recipe) {
        None => {
            println!("all is well");
            true
        }
        Some(_) => {
            explain(recipe, broken, &outcome);
            false
        }
    }
}

/// What is wrong with what came of a recipe.
pub(crate) fn problem(outcome: &Outcome, recipe: &Recipe) -> Option<String> {
    if let Some(broken) = &outcome.broken {
        return Some(broken.to_string());
    }
    let (done, failed) = outcome.calls;
    if done < failed {
        return Some(format!("too little was done: {failed} calls failed, {done} did what they should"));
    }
    // Those that strike at calls may find too few of them; a whole batch has to have met them.
    let mut missed = recipe.faults.iter().filter(|fault| fault.has_a_time() && !outcome.struck.contains_key(fault));
    missed.next().map(|fault| format!("`{fault}` never struck"))
}

fn summary(outcome: &Outcome) -> String {
    let (done, failed) = outcome.calls;
    let struck: u64 = outcome.struck.values().sum();
    let (length, executions) = (outcome.length, outcome.executions);
    format!("{length:.0?} of simulated time, {executions} executions, {done} calls ({failed} failed), {struck} faults")
}

/// Tells of a failure.
pub(crate) fn explain(recipe: &Recipe, broken: Option<Break>, outcome: &Outcome) {
    let Some(found) = problem(outcome, recipe) else { return };
    let least = if broken.is_some() { recipe.clone() } else { shrink(recipe, outcome) };
    let lines = Arc::new(Lines::default());
    let again = traced(&least, broken, Arc::clone(&lines) as Arc<dyn Sink>);
    let text = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    println!("\n{least}\n  {}\n\nthe last of {} lines:", summary(&again), lines.len());
    for line in &lines[lines.len().saturating_sub(LAST)..] {
        let shown: String = line.chars().take(WIDTH).collect();
        println!("  {shown}{}", if shown.len() < line.len() { "…" } else { "" });
    }
    println!("\nFAILED: seed {}: {found}", recipe.seed);
    let mut command = format!("cargo xtask simulate --seed {}", recipe.seed);
    if let Some(broken) = broken {
        let _ = write!(command, " --break {broken}");
    }
    if !least.left_out.is_empty() {
        let names: Vec<_> = least.left_out.iter().map(|fault| fault.name()).collect();
        let _ = write!(command, " --without {}", names.join(","));
    }
    println!("again, from beginning to end: {command} --trace");
}

/// The recipe with less going wrong, where the same failure does not need it: one fault after the other is left out.
fn shrink(recipe: &Recipe, outcome: &Outcome) -> Recipe {
    let invariant = |outcome: &Outcome| outcome.broken.as_ref().map(|broken| broken.invariant);
    let wanted = invariant(outcome);
    let mut without: BTreeSet<Fault> = BTreeSet::new();
    if wanted.is_some() {
        for &fault in &recipe.faults {
            without.insert(fault);
            if invariant(&simulate(&recipe.clone().without(&without), None)) != wanted {
                without.remove(&fault);
            }
        }
    }
    recipe.clone().without(&without)
}

/// Where a trace goes.
trait Sink: Send + Sync + 'static {
    fn take(&self, bytes: &[u8]) -> io::Result<()>;
}

struct Stdout;

impl Sink for Stdout {
    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().write_all(bytes)
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<u8>>);

impl Sink for Lines {
    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }
}

#[derive(Clone)]
struct ToSink(Arc<dyn Sink>);

impl io::Write for ToSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for ToSink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The time since the simulation began.
struct SimulatedTime(Mutex<Option<Instant>>);

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        let now = Instant::now();
        let begin = *self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        write!(w, "{:9.3}s", now.duration_since(begin).as_secs_f64())
    }
}

/// Plays a recipe and tells all that happens.
fn traced(recipe: &Recipe, broken: Option<Break>, sink: Arc<dyn Sink>) -> Outcome {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_timer(SimulatedTime(Mutex::default()))
        .with_ansi(false)
        .with_target(false)
        .with_writer(ToSink(sink))
        .finish();
    tracing::subscriber::with_default(subscriber, || simulate(recipe, broken))
}
