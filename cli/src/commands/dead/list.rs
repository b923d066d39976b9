//! `phasework dead list`: which messages were set aside, and why.

use clap::Args;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::ago;
use crate::output::{Format, Rows, cell, note, number, say, say_items};
use crate::views::DeadPage;

const EXAMPLES: &str = "\
Examples:
  phasework dead list
  phasework dead list --skip 50 --limit 50
  phasework dead list --output jsonl | jq -r .reason | sort | uniq -c";

/// List dead letters, newest first
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// How many of the newest to pass over
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Lists dead letters.
pub(crate) async fn run(args: ListArgs) -> Outcome {
    let query = vec![("skip", args.skip.to_string()), ("limit", args.limit.to_string())];
    let answer: Value = Api::new(&args.server)?.get(&["v1", "dead"], Ask { query, ..Ask::default() }).await?;
    if args.output != Format::Table {
        let items = answer.get("dead").and_then(Value::as_array).cloned().unwrap_or_default();
        say_items(&answer, &items, args.output)?;
        return Ok(Exit::Good);
    }
    let page: DeadPage = read(answer)?;
    if page.dead.is_empty() {
        note("no dead letters");
        return Ok(Exit::Good);
    }
    let now = SystemClock.now();
    let mut rows = Rows::new(&["ID", "WHEN", "QUEUE", "KIND", "SIZE", "REASON"]);
    for letter in &page.dead {
        let when = cell(ago(letter.at, now));
        let (queue, kind) = (cell(&letter.queue), cell(&letter.kind));
        rows.add(vec![cell(&letter.id), when, queue, kind, number(letter.size), cell(&letter.reason)]);
    }
    say(&rows.text(&[0]))?;
    if page.count > (args.skip + page.dead.len()) as u64 {
        note(&format!("{} of {}; --skip and --limit show more", page.dead.len(), page.count));
    }
    Ok(Exit::Good)
}
