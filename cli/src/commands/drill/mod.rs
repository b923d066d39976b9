//! `phasework drill`: runs a workflow with the user's own worker on an engine in memory that delivers jobs twice, kills
//! the worker after it has done its work, and lets outcomes arrive late; and says whether the results stayed the same.
//!
//! In reading order: `fault` is what goes wrong, `round` what a round sees, `disturbed` lets it go wrong, `held` says whether
//! the worker may die; `ledger` is what came of every job, `site` what a round runs on; here rounds are played and told.

mod disturbed;
mod fault;
mod held;
mod ledger;
mod round;
mod site;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use phasework_engine::{Submission, ToRun};
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, IdSource as _, SystemIds};
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::RunState;
use serde::Serialize;
use serde_json::{Value, json};

use self::fault::Fault;
use self::ledger::{Difference, JobName, Judgement, Ledger, Work};
use self::round::Round;
use self::site::Site;
use super::source;
use super::validate::view;
use crate::failure::{Exit, Failure, Outcome};
use crate::interrupt::Interrupts;
use crate::length::parse_duration;
use crate::output::{Format, Stream, note, say, say_items};
use crate::program::CommandLine;
use crate::session::{Form, Session};

const EXAMPLES: &str = "\
Examples:
  phasework drill order.json --command ./my-worker --data @order-1.json
  phasework drill order.json --command 'python3 http_worker.py' --seed 42
  phasework drill order.json --command ./my-worker --ignore /finished_at --output json

The worker is started with PHASEWORK_URL set to a gateway of the drill's own, and has to host every handler of the workflow. It
is run four times: undisturbed, with every job delivered again after it was done, killed after it has done a job and before that
is known, and with outcomes that arrive late and in another order. What a job gives has to be the same each time, and so has
the run's result. Side effects outside are yours to look at: after a drill each must be there once.
Exit code 0 when everything stayed the same, 1 when something did not, 2 when the command line makes no sense.";

/// Try whether handlers bear faults: jobs that come twice, workers that are killed, outcomes that are late
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DrillArgs {
    /// The definition; - for stdin
    #[arg(value_name = "WORKFLOW")]
    workflow: String,
    /// How to start the worker: a program and its arguments
    #[arg(long, value_name = "COMMAND")]
    command: String,
    /// The run's data: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Chooses what goes wrong; drawn, and told, if not given
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// A part of outputs, and of the run's result, that may differ, as a JSON pointer (/took_ms); may be given several times
    #[arg(long, value_name = "POINTER")]
    ignore: Vec<String>,
    /// How long one of the four runs may take
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5m")]
    patience: Duration,
    #[command(flatten)]
    form: Form,
}

/// What a round came to.
#[derive(Clone, Debug, Serialize)]
struct Played {
    round: &'static str,
    state: RunState,
    /// How often jobs were done.
    done: usize,
    /// How often it went wrong.
    disturbances: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JobError>,
    #[serde(skip)]
    output: Value,
    /// Entries that were left before all of their jobs had come to an end.
    #[serde(skip)]
    cut_short: BTreeSet<EntryNo>,
    /// What is wrong with it, besides results of jobs.
    wrong: Vec<String>,
}

/// Drills a worker.
pub(crate) async fn run(args: DrillArgs, session: &Session) -> Outcome {
    let format = session.format(&args.form)?;
    let definition = source::read(&args.workflow)?;
    if let Err(problems) = phasework_workflows::definition::parse(&definition.text) {
        let mut failure = Failure::usage(format!("{} is no valid definition", definition.name));
        failure.problems = problems.iter().map(view).collect();
        return Err(failure.in_source(&definition.name, &definition.text));
    }
    if let Some(wrong) = args.ignore.iter().find(|pointer| !pointer.starts_with('/')) {
        return Err(Failure::usage(format!("`{wrong}` is no JSON pointer")).hint(format!("perhaps /{wrong}")));
    }
    let command = CommandLine::read(&args.command)?;
    let data = args.data.as_deref().map(|data| source::read_json("--data", data)).transpose()?;
    let data = data.map(|data| Payload::from_json(data.get().to_owned())).transpose();
    let data = data.map_err(|error| Failure::usage(error.to_string()))?;
    let seed = args.seed.unwrap_or_else(|| SystemIds.uuid().as_u64_pair().1 % 1_000_000);
    note(&format!("seed {seed}: the same seed makes the same things go wrong (--seed {seed})"));
    let submission = Submission { what: ToRun::Definition(definition.text), data, key: None };
    let mut interrupts = Interrupts::listen()?;
    let (ledger, played) = tokio::select! {
        biased;
        _ = interrupts.next() => return Err(Failure::silent(Exit::Interrupted)),
        played = play_all(&args, &command, &submission, seed) => played?,
    };
    tell(&ledger, &played, seed, format)
}

async fn play_all(
    args: &DrillArgs,
    command: &CommandLine,
    submission: &Submission,
    seed: u64,
) -> Result<(Ledger, Vec<Played>), Failure> {
    let mut ledger = Ledger::new(args.ignore.clone());
    let mut played: Vec<Played> = Vec::new();
    for fault in Fault::ALL {
        let round = Round::new(fault, seed, ledger);
        let site = Site::build(&round).await?;
        let ended = site.play(command, submission.clone(), &round, args.patience).await;
        site.strike().await;
        let ended = ended.map_err(|failure| in_round(failure, fault))?;
        let disturbances = round.disturbances();
        ledger = round.into_ledger();
        let judged = judged(fault, ended, disturbances, &ledger, played.first());
        show(&judged);
        played.push(judged);
    }
    Ok((ledger, played))
}

fn in_round(mut failure: Failure, fault: Fault) -> Failure {
    failure.message = format!("in the round `{fault}` ({}): {}", fault.words(), failure.message);
    failure
}

/// What a round came to, beside how it should have been.
fn judged(fault: Fault, ended: site::Played, disturbances: usize, ledger: &Ledger, first: Option<&Played>) -> Played {
    let site::Played { detail, cut_short } = ended;
    let mut output = detail.output.as_ref().map_or(Value::Null, Payload::to_value);
    ledger.leave_out(&mut output);
    let state = detail.head.state;
    let mut wrong = Vec::new();
    if let Some(first) = first {
        if state != first.state {
            wrong.push(format!("the run is {}; undisturbed it is {}", state.as_str(), first.state.as_str()));
        } else if output != first.output {
            wrong.push(format!("the run's result is {output}; undisturbed it is {}", first.output));
        }
        let left_off = &first.cut_short | &cut_short;
        for (jobs, words) in [
            (ledger.only_in(Fault::None, fault, &left_off), "not done"),
            (ledger.only_in(fault, Fault::None, &left_off), "done that are not there undisturbed"),
        ] {
            if let Some(job) = jobs.first() {
                wrong.push(format!("{} jobs were {words}, the first is {}", jobs.len(), job_text(job)));
            }
        }
        if disturbances == 0 {
            wrong.push("nothing went wrong, so nothing is proved: are there jobs?".to_owned());
        }
    }
    let error = detail.head.cause.as_ref().map(|cause| cause.error.clone());
    Played { round: fault.name(), state, done: ledger.times(fault), disturbances, error, output, cut_short, wrong }
}

fn job_text(JobName { handler, work, .. }: &JobName) -> String {
    match work {
        Work::List => format!("the list of {handler}"),
        Work::Job(index) => format!("job {index} of {handler}"),
    }
}

fn show(played: &Played) {
    let paint = Stream::Err.paint();
    let mark = if played.wrong.is_empty() { paint.green("✔") } else { paint.red("✘") };
    let words = match (played.round, played.disturbances) {
        ("undisturbed", _) => String::new(),
        ("twice", count) => format!(", {count} delivered again"),
        ("killed", count) => format!(", the worker killed {count} times"),
        (_, count) => format!(", {count} reports late"),
    };
    let (round, state) = (played.round, played.state.as_str());
    note(&format!("{mark} {round:<12} the run {state}, jobs done {} times{words}", played.done));
    played.wrong.iter().for_each(|wrong| note(&paint.red(&format!("  → {wrong}"))));
}

fn tell(ledger: &Ledger, played: &[Played], seed: u64, format: Format) -> Outcome {
    let judged = ledger.judge();
    let is_same = judged.values().all(|judgement| judgement.differs.is_empty());
    let is_well = is_same && played.iter().all(|played| played.wrong.is_empty());
    let exit = if is_well { Exit::Good } else { Exit::Bad };
    if format != Format::Table {
        let handlers: Vec<_> = judged.iter().map(|(name, judgement)| handler_json(name, judgement)).collect();
        let whole = json!({ "seed": seed, "same": is_well, "rounds": played, "handlers": handlers });
        say_items(&whole, &handlers, format)?;
        return Ok(exit);
    }
    let paint = Stream::Out.paint();
    let mut text = String::new();
    for (name, Judgement { jobs, times, lists, listed, differs }) in &judged {
        let lists = if *lists == 0 { String::new() } else { format!("listed {listed} times, ") };
        let words = format!("{name}: {jobs} jobs, {lists}done {times} times, ");
        if differs.is_empty() {
            text += &format!("{} {words}always with the same result\n", paint.green("✔"));
        } else {
            text += &format!("{} {words}not always with the same result\n", paint.red("✘"));
            differs.iter().for_each(|difference| text += &format!("    {}\n", difference_text(difference)));
        }
    }
    if !is_well {
        text += &format!("again: --seed {seed}\n");
    }
    say(&text)?;
    Ok(exit)
}

fn difference_text(Difference { job, first, other }: &Difference) -> String {
    let (what, phase) = (work_text(job.work), &job.phase);
    let (at, one, another) = first_difference(job.work, &first.output, &other.output);
    let (one, another) = (shortened(one), shortened(another));
    format!("{what} in `{phase}`{at}: {one} in round `{}`, {another} in round `{}`", first.round, other.round)
}

fn work_text(work: Work) -> String {
    match work {
        Work::List => "its list".to_owned(),
        Work::Job(index) => format!("job {index}"),
    }
}

/// Where results differ, and what is there: of lists the first item that is another, or is missing.
fn first_difference<'a>(work: Work, one: &'a Value, another: &'a Value) -> (String, &'a Value, &'a Value) {
    const NOTHING: &Value = &Value::Null;
    let (Work::List, Value::Array(one), Value::Array(another)) = (work, one, another) else {
        return (String::new(), one, another);
    };
    let at = one.iter().zip(another).take_while(|(one, another)| one == another).count();
    let item = |list: &'a [Value]| list.get(at).unwrap_or(NOTHING);
    (format!(", of {} and {} jobs, differs at job {at}", one.len(), another.len()), item(one), item(another))
}

/// An output, cut where it is long.
fn shortened(output: &Value) -> String {
    const MOST: usize = 200;
    let text = output.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn handler_json(name: &str, judgement: &Judgement) -> Value {
    let differs = judgement.differs.iter().map(|Difference { job, first, other }| {
        let told =
            |done: &ledger::Done| json!({ "round": done.round.name(), "attempt": done.attempt, "output": done.output });
        let (index, is_list) = match job.work {
            Work::List => (None, true),
            Work::Job(index) => (Some(index), false),
        };
        json!({
            "phase": job.phase, "entry": job.entry, "index": index, "list": is_list,
            "first": told(first), "other": told(other),
        })
    });
    let differs: Vec<_> = differs.collect();
    let Judgement { jobs, times, lists, listed, .. } = judgement;
    json!({ "handler": name, "jobs": jobs, "times": times, "lists": lists, "listed": listed, "differs": differs })
}
