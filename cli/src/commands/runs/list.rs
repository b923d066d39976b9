//! `phasework runs list`: which runs there are.

use clap::{Args, ValueEnum};
use phasework_workflows::time::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::{ago, words};
use crate::output::{Format, Rows, cell, note, number, say, say_items, state_cell};
use crate::views::{RunView, RunsPage};

/// How many runs are asked for at once.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  phasework runs list                       the newest 20
  phasework runs list --state live
  phasework runs list --state ended --limit 1000 --output jsonl | jq -r .run";

/// List runs, newest first
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// Which runs
    #[arg(long, value_enum, default_value_t)]
    state: Which,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Which runs to list.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Which {
    /// Those that have not ended
    Live,
    /// Those that have
    Ended,
    /// Both
    #[default]
    All,
}

impl Which {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ended => "ended",
            Self::All => "all",
        }
    }
}

/// Lists runs.
pub(crate) async fn run(args: ListArgs) -> Outcome {
    let api = Api::new(&args.server)?;
    let mut runs: Vec<Value> = Vec::new();
    let mut next: Option<String> = None;
    let counts = loop {
        let limit = (args.limit - runs.len()).min(PAGE);
        let mut query = vec![("state", args.state.as_str().to_owned()), ("limit", limit.to_string())];
        query.extend(next.take().map(|before| ("before", before)));
        let page: Value = api.get(&["v1", "runs"], Ask { query, ..Ask::default() }).await?;
        let items = page.get("runs").and_then(Value::as_array).cloned().unwrap_or_default();
        let got = items.len();
        runs.extend(items);
        next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if next.is_none() || got == 0 || runs.len() >= args.limit {
            break page.get("counts").cloned().unwrap_or_default();
        }
    };
    if args.output != Format::Table {
        say_items(&json!({ "runs": &runs, "next": next, "counts": counts }), &runs, args.output)?;
        return Ok(Exit::Good);
    }
    let page: RunsPage = read(json!({ "runs": runs, "next": next, "counts": counts }))?;
    if page.runs.is_empty() {
        note("no runs; `phasework run FILE` starts one");
        return Ok(Exit::Good);
    }
    say(&table(&page.runs, SystemClock.now()))?;
    if page.next.is_some() {
        let (shown, live, ended) = (page.runs.len(), page.counts.live, page.counts.ended);
        note(&format!("the newest {shown} of {live} live and {ended} ended runs; --limit shows more"));
    }
    Ok(Exit::Good)
}

fn table(runs: &[RunView], now: Timestamp) -> String {
    let mut rows = Rows::new(&["RUN", "WORKFLOW", "STATE", "PHASE", "STARTED", "TOOK"]);
    for run in runs {
        let took = if run.ended_at.is_some() { words(run.took(now)) } else { String::new() };
        let (workflow, phase) = (cell(&run.workflow), cell(&run.phase));
        let started = cell(ago(run.created_at, now));
        rows.add(vec![cell(&run.run), workflow, state_cell(&run.state), phase, started, number(took)]);
    }
    rows.text(&[0, 2])
}
