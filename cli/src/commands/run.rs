//! `phasework run`: starts a run of a file or of a stored workflow, and watches it if asked.

use std::time::Duration;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::WorkflowName;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::source::{self, Source};
use crate::complete;
use crate::failure::{Exit, Failure, Outcome};
use crate::follow::{Watched, follow};
use crate::http::{Api, read};
use crate::interrupt::Interrupts;
use crate::length::{parse_duration, words};
use crate::output::{Format, Stream, note, say, say_json, state_text};
use crate::routes;
use crate::session::{Form, Server, Session};
use crate::table::one_line;
use crate::views::{RunView, Submitted};

const EXAMPLES: &str = "\
Examples:
  phasework run search.json                             start a run of this definition; print the run's id
  phasework run search --data '{\"query\":\"rust\"}'        of a stored workflow, with data
  phasework run search --data @data.json --key order-7  one run for each key, however often it is said
  phasework run search --follow                         watch it; the exit code is the run's
  phasework run search --follow --timeout 10m --output json | jq .output

A FILE has a `.` or a `/` in its name, or exists; anything else is the NAME of a stored workflow.
With --follow: exit code 0 when the run succeeded, 1 when it failed, was canceled, halted, or had not ended in time.
Ctrl-C stops watching; the run goes on.";

/// Start a run, and perhaps watch it
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// A definition (- for stdin), or the name of a stored workflow
    #[arg(value_name = "FILE|NAME", value_hint = ValueHint::AnyPath, add = ArgValueCandidates::new(complete::workflows))]
    what: String,
    /// Which revision of a stored workflow; the latest if not given
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// The run's data: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Makes it safe to say this again: one run for each workflow and key
    #[arg(long, short, value_name = "KEY")]
    key: Option<String>,
    /// Watch the run until it is over, then print its result
    #[arg(long, short)]
    follow: bool,
    /// How long to watch
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "follow")]
    timeout: Option<Duration>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// A submission.
#[derive(Debug, Serialize)]
struct Submission<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

/// Starts a run.
pub(crate) async fn run(args: RunArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let source = if source::is_file(&args.what) { Some(source::read(&args.what)?) } else { None };
    if source.is_none() {
        WorkflowName::new(&args.what).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let answer = submit(&api, &args, source.as_ref()).await?;
    let submitted: Submitted = read(answer.clone())?;
    if args.follow {
        let started = if submitted.created { "started" } else { "was there before" };
        return watch(&api, &submitted.run, started, args.timeout, format).await;
    }
    match format {
        Format::Table => {
            if !submitted.created {
                note(&format!("a run with this key was there before; it is {}", submitted.state));
            }
            say(&format!("{}\n", submitted.run))?;
        }
        format => say_json(&answer, format)?,
    }
    Ok(Exit::Good)
}

async fn submit(api: &Api, args: &RunArgs, source: Option<&Source>) -> Result<Value, Failure> {
    if source.is_some() && args.revision.is_some() {
        return Err(Failure::usage("--revision goes with the name of a stored workflow; a file is its own revision"));
    }
    if args.what == "-" && args.data.as_deref() == Some("-") {
        return Err(Failure::usage("the definition and the data cannot both come from stdin"));
    }
    let data = args.data.as_ref().map(|data| source::read_json("--data", data)).transpose()?;
    let submission = Submission {
        workflow: source.is_none().then_some(&args.what),
        revision: args.revision.as_deref(),
        definition: source.map(|source| source.text.as_str()),
        data,
        key: args.key.as_deref(),
    };
    let answer = api.post(&routes::START_RUN, &[], &submission).await;
    answer.map_err(|failure| match source {
        Some(source) if !failure.problems.is_empty() => {
            let message = format!("{}: {}", source.name, failure.message);
            Failure { message, ..failure.in_source(&source.name, &source.text) }
        }
        None if failure.exit == Exit::NotFound && failure.hint.is_none() => {
            failure.hint("`phasework workflows list` shows what is stored; a file is run by its path")
        }
        _ => failure,
    })
}

/// Watches a run until it is over, and prints its result; the exit code is the run's. `how` it came to be watched is
/// said first.
pub(crate) async fn watch(api: &Api, run: &str, how: &str, timeout: Option<Duration>, format: Format) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let paint = Stream::Err.paint();
    note(&format!("run {} {how}", paint.bold(run)));
    let watched = tokio::select! {
        biased;
        _ = interrupts.next() => None,
        watched = follow(api, run, timeout) => Some(watched?),
    };
    let Some(Watched { answer, run, .. }) = watched else {
        note(&format!("the run goes on; `phasework runs follow {run}` watches it again"));
        return Ok(Exit::Interrupted);
    };
    match format {
        Format::Table => say_result(&run)?,
        format => say_json(&answer, format)?,
    }
    verdict(&run)
}

fn say_result(run: &RunView) -> Result<(), Failure> {
    match run.output.as_ref().filter(|output| !output.is_null()) {
        Some(output) => say_json(output, Format::Json),
        None => Ok(()),
    }
}

/// How the run ended, in words and as an exit code.
pub(crate) fn verdict(run: &RunView) -> Outcome {
    let paint = Stream::Err.paint();
    let (state, took) = (state_text(&run.state, paint), words(run.took(SystemClock.now())));
    let cause = run.error.as_ref().map(|cause| format!(": {}", one_line(&cause.words()))).unwrap_or_default();
    match run.state.as_str() {
        "succeeded" => {
            note(&format!("{} run {state} after {took}", paint.green("✔")));
            Ok(Exit::Good)
        }
        "paused" => {
            let message = format!("the run has not ended after {took}; it is paused in phase `{}`", run.phase);
            Err(Failure::new(Exit::Bad, message).hint(format!("`phasework runs resume {}` lets it go on", run.run)))
        }
        _ if !run.is_over() => {
            let message = format!("the run has not ended after {took}; it is in phase `{}`", run.phase);
            Err(Failure::new(Exit::Bad, message).hint(format!("it goes on; `phasework runs show {}`", run.run)))
        }
        "halted" => {
            let failure = Failure::new(Exit::Bad, format!("the run {state} after {took}{cause}"));
            Err(failure.hint(format!("`phasework runs retry {}` tries again what failed, once it is mended", run.run)))
        }
        _ => {
            let was = if run.state == "canceled" { "was " } else { "" };
            let failure = Failure::new(Exit::Bad, format!("the run {was}{state} after {took}{cause}"));
            Err(failure.hint(format!("`phasework runs show {}` tells more", run.run)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_worker_said_says_nothing_to_the_terminal() {
        let error = json!({ "phase": "p", "message": "a\x1b[2J\nb" });
        let run = json!({
            "run": "r", "workflow": "w", "revision": "v", "state": "failed", "phase": "p", "error": error,
            "created_at": SystemClock.now(),
        });
        let failure = verdict(&read(run).unwrap()).unwrap_err();
        assert!(failure.message.ends_with(": in phase `p`: a [2J b"), "{:?}", failure.message);
    }
}
