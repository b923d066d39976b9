//! `phasework runs show`: all that is known of a run.

use std::fmt::Write as _;

use clap::Args;
use comfy_table::Color;
use phasework_workflows::id::RunId;
use phasework_workflows::time::{Clock as _, SystemClock, Timestamp};
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::{moment, words};
use crate::output::{Format, Paint, Rows, Stream, alarming, cell, number, say, say_json, state_text};
use crate::timeline::Event;
use crate::views::{FailureView, FailuresPage, HandlerView, HistoryPage, RunView};

const EXAMPLES: &str = "\
Examples:
  phasework runs show 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework runs show ID --output json | jq .output";

/// Show a run: where it is, what it waits for, what happened, what failed
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// How much of the history to show, and how many failures
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Shows a run.
pub(crate) async fn run(args: ShowArgs) -> Outcome {
    let api = Api::new(&args.server)?;
    let run = args.run.to_string();
    let limit = || ("limit", args.limit.to_string());
    let mut whole: Value = api.get(&["v1", "runs", &run], Ask::default()).await?;
    let about = |query| Ask { query, ..Ask::default() };
    let history: Value = api.get(&["v1", "runs", &run, "history"], about(vec![limit()])).await?;
    let failures: Value = api.get(&["v1", "runs", &run, "failures"], about(vec![limit()])).await?;
    if args.output == Format::Table {
        let view: RunView = read(whole)?;
        let (history, failures) = (read::<HistoryPage>(history)?.events, read::<FailuresPage>(failures)?.failures);
        let paint = Stream::Out.paint();
        say(&tell(&view, &history, &failures, args.limit, SystemClock.now(), paint))?;
    } else {
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("history".into(), history.get("events").cloned().unwrap_or_default());
            fields.insert("failures".into(), failures.get("failures").cloned().unwrap_or_default());
        }
        say_json(&whole, args.output)?;
    }
    Ok(Exit::Good)
}

fn tell(
    run: &RunView,
    history: &[Value],
    failures: &[FailureView],
    limit: usize,
    now: Timestamp,
    paint: Paint,
) -> String {
    let mut text = about(run, now, paint);
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            write!(text, "\n{}\n{body}", paint.bold(title)).expect("writing to memory");
        }
    };
    section("Handlers of this phase", handlers(&run.handlers));
    section("History", history_table(history, run.created_at, limit));
    section("Failed jobs", failures_table(failures, limit));
    let output = run.output.as_ref().filter(|output| !output.is_null());
    section("Output", output.map(|output| format!("{output:#}\n")).unwrap_or_default());
    text
}

fn about(run: &RunView, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<9}"))).expect("writing to memory");
    };
    line("run", paint.bold(&run.run));
    line("workflow", format!("{} (revision {})", run.workflow, run.revision));
    if let Some(key) = &run.key {
        line("key", key.clone());
    }
    let took = words(run.took(now));
    let lasted = if run.ended_at.is_some() { format!("after {took}") } else { format!("for {took}") };
    line("state", format!("{} {lasted}", state_text(&run.state, paint)));
    line("phase", format!("{} (entry {})", run.phase, run.entry));
    line("started", moment(run.created_at));
    if let Some(ended) = run.ended_at {
        line("ended", moment(ended));
    }
    if let Some(waits) = &run.waiting_for {
        line("waits for", paint.yellow(waits));
    }
    if let Some(error) = &run.error {
        line("error", paint.red(&error.words()));
    }
    text
}

fn handlers(handlers: &[HandlerView]) -> String {
    if handlers.is_empty() {
        return String::new();
    }
    let mut rows = Rows::new(&["HANDLER", "VERSION", "DONE", "OF", "FAILED", "RETRIED", "OUT", "LEASED", "WAITING"]);
    for handler in handlers {
        rows.add(vec![
            cell(&handler.name),
            cell(handler.version.as_deref().unwrap_or("-")),
            number(handler.done),
            number(handler.total.map_or("?".to_owned(), |total| total.to_string())),
            alarming(handler.failed, Color::Red),
            alarming(handler.retried, Color::Yellow),
            number(handler.in_flight),
            number(handler.leased),
            number(handler.waiting),
        ]);
    }
    rows.text(&[])
}

fn history_table(history: &[Value], from: Timestamp, limit: usize) -> String {
    let mut rows = Rows::new(&["#", "AFTER", "WHAT"]);
    for value in history {
        match Event::read(value) {
            Some(event) => {
                let after = words(event.at.since(from));
                rows.add(vec![number(event.n), number(after), cell(event.words())]);
            }
            None => rows.add(vec![cell(""), cell(""), cell(value)]), // of a newer server
        }
    }
    if history.is_empty() { String::new() } else { rows.text(&[0, 1]) + &more(history.len(), limit) }
}

fn failures_table(failures: &[FailureView], limit: usize) -> String {
    let mut rows = Rows::new(&["PHASE", "HANDLER", "JOB", "TRIED", "WHEN", "WHY"]);
    for failure in failures {
        let handler = failure.handler.as_ref().map(|handler| match handler {
            Value::String(name) => name.clone(),
            other => format!("#{other}"),
        });
        let why = match &failure.error {
            Value::String(message) => message.clone(),
            error => error.get("message").and_then(Value::as_str).unwrap_or("?").to_owned(),
        };
        rows.add(vec![
            cell(failure.phase.as_deref().unwrap_or("-")),
            cell(handler.unwrap_or_default()),
            number(failure.index),
            number(failure.attempt),
            cell(moment(failure.at)),
            cell(why),
        ]);
    }
    if failures.is_empty() { String::new() } else { rows.text(&[2, 3, 4]) + &more(failures.len(), limit) }
}

fn more(shown: usize, limit: usize) -> String {
    if shown < limit { String::new() } else { format!("(the first {shown}; --limit shows more)\n") }
}
