//! `phasework runs show`: all that is known of a run.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::RunId;
use phasework_workflows::time::{Clock as _, SystemClock, Timestamp};
use serde_json::Value;

use super::failures::failures_table;
use super::history::{events_of, history_table};
use crate::complete;
use crate::failure::{Failure, Outcome};
use crate::http::{Api, Ask, read};
use crate::length::{moment, words};
use crate::output::{Paint, Stream, state_text};
use crate::pages::{Turn, gather};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, failed_field, field, one_line, retried_field, with_lines};
use crate::views::{FailureView, HandlerView, RunView};
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework runs show 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework runs show ID --watch
  phasework runs show --file run.jsonl       what `runs export` wrote
  phasework runs show ID --output json | jq .output";

/// Show a run: where it is, what it waits for, what happened, what failed
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The run
    #[arg(value_name = "ID", required_unless_present = "file", add = ArgValueCandidates::new(complete::runs))]
    run: Option<RunId>,
    /// Read an exported run, and ask no server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "watch"], value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// How much of the history to show, and how many failures
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Shows a run.
pub(crate) async fn run(args: ShowArgs, session: &Session) -> Outcome {
    if let Some(file) = &args.file {
        let whole = crate::file::summary(file)?;
        let ask = async || Ok(Answer { whole: whole.clone(), items: None, is_final: true });
        return show(session, &args.form, "run", ask, |answer, times| tell(&answer.whole, times, usize::MAX)).await;
    }
    let (api, run) = (session.api(&args.server)?, args.run.map(|run| run.to_string()).unwrap_or_default());
    let ask = async || ask(&api, &run, args.limit).await;
    show(session, &args.form, "run", ask, |answer, times| tell(&answer.whole, times, args.limit)).await
}

async fn ask(api: &Api, run: &str, limit: usize) -> Result<Answer, Failure> {
    let mut whole: Value = api.get(&routes::RUN, &[run], Ask::default()).await?;
    let history = gather(api, (&routes::HISTORY, &[run]), "events", &[], Turn::Next("after"), limit).await?;
    let failures = gather(api, (&routes::FAILURES, &[run]), "failures", &[], Turn::Skip(0), limit).await?;
    let is_final = read::<RunView>(whole.clone())?.has_ended();
    if let Some(fields) = whole.as_object_mut() {
        fields.insert("history".into(), history.items.into());
        fields.insert("failures".into(), failures.items.into());
    }
    Ok(Answer { whole, items: None, is_final })
}

fn tell(answer: &Value, times: Times, limit: usize) -> Result<Page, Failure> {
    let run: RunView = read(answer.clone())?;
    let failures: Vec<FailureView> = read(answer["failures"].clone())?;
    let history = events_of(answer["history"].as_array().map_or(&[][..], Vec::as_slice));
    let paint = Stream::Out.paint();
    let mut text = about(&run, SystemClock.now(), paint);
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            write!(text, "\n{}\n{body}", paint.bold(title)).expect("writing to memory");
        }
    };
    section("Handlers of this phase", handlers(&run.handlers));
    if !history.is_empty() {
        section("History", history_table(&history, run.created_at, None).text() + &more(history.len(), limit));
    }
    if !failures.is_empty() {
        section("Failed jobs", failures_table(&failures, times).text() + &more(failures.len(), limit));
    }
    let output = run.output.as_ref().filter(|output| !output.is_null());
    section("Output", output.map(|output| with_lines(&format!("{output:#}\n"))).unwrap_or_default());
    Ok(Page { text, ..Page::default() })
}

fn about(run: &RunView, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<9}"))).expect("writing to memory");
    };
    line("run", paint.bold(&run.run));
    line("workflow", format!("{} (revision {})", run.workflow, run.revision));
    if let Some(key) = &run.key {
        line("key", one_line(key));
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
        line("waits for", paint.yellow(&one_line(waits)));
    }
    if let Some(error) = &run.error {
        line("error", paint.red(&one_line(&error.words())));
    }
    text
}

fn handlers(handlers: &[HandlerView]) -> String {
    if handlers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        column("HANDLER").keep(9).least(10),
        column("VERSION").keep(1).least(5),
        column("DONE").keep(8).right(),
        column("OF").keep(8).right(),
        column("FAILED").keep(7).right(),
        column("RETRIED").keep(6).right(),
        column("OUT").keep(5).right(),
        column("LEASED").keep(3).right(),
        column("WAITING").keep(4).right(),
    ]);
    for handler in handlers {
        table.add(vec![
            field(&handler.name),
            field(handler.version.as_deref().unwrap_or("-")),
            field(handler.done),
            field(of(handler)),
            failed_field(handler.failed),
            retried_field(handler.retried),
            field(handler.in_flight),
            field(handler.leased),
            field(handler.waiting),
        ]);
    }
    table.text()
}

/// How many jobs a handler has, as far as that is known: `12000+` while it lists them.
fn of(handler: &HandlerView) -> String {
    let listed = handler.listed.map(|listed| format!("{listed}+"));
    handler.total.map(|total| total.to_string()).or(listed).unwrap_or_else(|| "?".to_owned())
}

fn more(shown: usize, limit: usize) -> String {
    if shown < limit { String::new() } else { format!("(the first {shown}; --limit shows more)\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_wrote_says_nothing_to_the_terminal() {
        let evil = "a\x1b]0;b\x07\r\u{9b}2J\nstate     succeeded";
        let run = json!({
            "run": "r", "workflow": "w", "revision": "v", "state": "failed", "phase": "p", "key": evil,
            "created_at": Timestamp::from_millis(0), "waiting_for": evil, "error": { "phase": "p", "message": evil },
        });
        let text = about(&read(run).unwrap(), Timestamp::from_millis(1), Paint(false));
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("state ")).count(), 1, "{text}");
    }
}
