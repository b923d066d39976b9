//! `phasework runs history`: what happened to a run, event by event, as it happens if wanted.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::RunId;
use phasework_workflows::time::{Millis, Timestamp};
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Ask, read};
use crate::interrupt::Interrupts;
use crate::length::{stamp, words};
use crate::output::{Format, note, say, say_items, say_json};
use crate::pages::{Gathered, Turn, gather};
use crate::routes;
use crate::session::{Form, Server, Session, Times};
use crate::table::{Table, column, field, one_line};
use crate::timeline::Event;
use crate::views::RunView;

/// How long a server is asked to wait for the end of a run before its history is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How much is asked for at once while following.
const ALL: usize = usize::MAX;

const EXAMPLES: &str = "\
Examples:
  phasework runs history 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework runs history ID --follow                 what happens, until the run has ended
  phasework runs history --file run.jsonl            what `runs export` wrote
  phasework runs history ID --after 200 --limit 50
  phasework runs history ID --output jsonl | jq 'select(.what == \"lost\")'

Events are numbered without gaps, oldest first. Ctrl-C ends --follow; the run goes on.";

/// List what happened to a run
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HistoryArgs {
    /// The run
    #[arg(value_name = "ID", required_unless_present = "file", add = ArgValueCandidates::new(complete::runs))]
    run: Option<RunId>,
    /// Read an exported run, and ask no server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "follow"], value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Only events behind this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Go on as long as something can happen
    #[arg(long, short, conflicts_with = "limit")]
    follow: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Lists events.
pub(crate) async fn run(args: HistoryArgs, session: &Session) -> Outcome {
    let format = session.format(&args.form)?;
    if let Some(file) = &args.file {
        let whole = crate::file::summary(file)?;
        let started = read::<RunView>(whole.clone())?.created_at;
        let behind = |event: &&Value| event["n"].as_u64() > Some(args.after);
        let events: Vec<Value> = whole["history"].as_array().into_iter().flatten().filter(behind).cloned().collect();
        let next = if events.len() > args.limit { events[args.limit.max(1) - 1]["n"].clone() } else { Value::Null };
        let items = events.into_iter().take(args.limit).collect();
        return tell(&Gathered { items, next, last: Value::Null }, started, format, session.times());
    }
    let (api, run) = (session.api(&args.server)?, args.run.map(|run| run.to_string()).unwrap_or_default());
    if !args.follow {
        let page = events(&api, &run, args.after, args.limit).await?;
        let started = read::<RunView>(api.get(&routes::RUN, &[&run], Ask::default()).await?)?.created_at;
        return tell(&page, started, format, session.times());
    }
    if format == Format::Json {
        let failure = Failure::usage("--follow does not go with one JSON document");
        return Err(failure.hint("--output jsonl prints an event a line"));
    }
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        biased;
        _ = interrupts.next() => Ok(Exit::Interrupted),
        outcome = follow(&api, &run, args.after, format) => outcome,
    }
}

async fn events(api: &Api, run: &str, after: u64, limit: usize) -> Result<Gathered, Failure> {
    let route = (&routes::HISTORY, &[run][..]);
    gather(api, route, "events", &[], Turn::From("after", after), limit).await
}

fn tell(page: &Gathered, started: Timestamp, format: Format, times: Times) -> Outcome {
    if format != Format::Table {
        let whole = json!({ "events": &page.items, "next": page.next });
        say_items(&whole, &page.items, format)?;
    } else {
        say(&history_table(&events_of(&page.items), started, Some(times)).text())?;
    }
    if let Some(next) = page.next.as_u64() {
        note(&format!("there are more; --after {next} shows them, or a higher --limit"));
    }
    Ok(Exit::Good)
}

/// Prints events as they happen.
async fn follow(api: &Api, run: &str, mut after: u64, format: Format) -> Outcome {
    loop {
        let query = vec![("wait", Millis::from(LOOK_EVERY).to_string())];
        let seen: Value = api.get(&routes::RUN, &[run], Ask { query, wait: LOOK_EVERY }).await?;
        let has_ended = read::<RunView>(seen)?.has_ended();
        let page = events(api, run, after, ALL).await?;
        for value in &page.items {
            let Some(event) = Event::read(value) else { continue };
            after = after.max(event.n);
            match format {
                Format::Table => say(&line(&event))?,
                format => say_json(value, format)?,
            }
        }
        if has_ended {
            return Ok(Exit::Good);
        }
        if page.items.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await; // one that has halted is not waited for
        }
    }
}

/// An event as it is told while it is followed.
fn line(event: &Event) -> String {
    let (actor, what) = (one_line(event.actor.as_deref().unwrap_or("-")), one_line(&event.words()));
    format!("{:>5}  {}  {actor:<10}  {what}\n", event.n, stamp(event.at))
}

/// Events as they are read; what a newer server may tell besides is passed over.
pub(super) fn events_of(values: &[Value]) -> Vec<Event> {
    values.iter().filter_map(Event::read).collect()
}

/// Events, a row each, with how long after the start of the run each was, and when if wanted.
pub(super) fn history_table(events: &[Event], started: Timestamp, times: Option<Times>) -> Table {
    let mut columns = vec![
        column("#").right(),
        column("AFTER").keep(3).right(),
        column("ACTOR").keep(1).least(8),
        column("WHAT").keep(5).least(20),
    ];
    if times.is_some() {
        columns.insert(1, column("TIME").keep(2));
    }
    let mut table = Table::new(&columns);
    for event in events {
        let after = words(event.at.since(started));
        let actor = field(event.actor.as_deref().unwrap_or("-")).faint();
        let mut row = vec![field(event.n), field(after), actor, field(event.words())];
        if let Some(times) = times {
            row.insert(1, field(times.tell(event.at)));
        }
        table.add(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_says_nothing_to_the_terminal() {
        let what = json!({ "canceling": { "reason": "\u{1b}]0;mine\u{7}\nand more" } });
        let value = json!({ "n": 7, "at": "2026-01-02T03:04:05Z", "actor": "al\u{1b}[2Jice", "what": what });
        let line = line(&Event::read(&value).unwrap());
        assert!(line.ends_with('\n') && !line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
        assert!(line.contains("and more") && line.contains("al [2Jice"), "{line:?}");
    }
}
