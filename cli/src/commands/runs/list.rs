//! `phasework runs list`: which runs there are.

use clap::{Args, ValueEnum};
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::http::read;
use crate::length::words;
use crate::pages::{Turn, gather};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field, state_field};
use crate::views::{RunView, RunsPage};
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework runs list                       the newest 20
  phasework runs list --state live --watch
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
    #[command(flatten)]
    form: WatchedForm,
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
pub(crate) async fn run(args: ListArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    let ask = async || {
        let query = [("state", args.state.as_str().to_owned())];
        let page = gather(&api, (&routes::RUNS, &[]), "runs", &query, Turn::Next("before"), args.limit).await?;
        let counts = page.last.get("counts").cloned().unwrap_or_default();
        let whole = json!({ "runs": &page.items, "next": page.next, "counts": counts });
        Ok(Answer { whole, items: Some(page.items), is_final: false })
    };
    show(session, &args.form, "run", ask, |answer, times| tell(&answer.whole, times)).await
}

fn tell(answer: &Value, times: Times) -> Result<Page, Failure> {
    let page: RunsPage = read(answer.clone())?;
    if page.runs.is_empty() {
        return Ok(Page { note: Some("no runs; `phasework run FILE` starts one".to_owned()), ..Page::default() });
    }
    let (shown, live, ended) = (page.runs.len(), page.counts.live, page.counts.ended);
    let more = || format!("the newest {shown} of {live} live and {ended} ended runs; --limit shows more");
    Ok(Page { text: table(&page.runs, times).text(), more: page.next.is_some().then(more), note: None })
}

fn table(runs: &[RunView], times: Times) -> Table {
    let now = SystemClock.now();
    let mut table = Table::new(&[
        column("RUN"),
        column("WORKFLOW").keep(7).least(8),
        column("STATE").keep(8),
        column("PHASE").keep(5).least(8),
        column("STARTED").keep(4),
        column("TOOK").keep(3).right(),
        column("NOTE").keep(1).least(40),
    ]);
    for run in runs {
        let took = if run.ended_at.is_some() { words(run.took(now)) } else { String::new() };
        let error = run.error.as_ref().map(|error| field(error.words()).bad());
        let waits = run.waiting_for.as_ref().map(|waits| field(format!("waits for {waits}")).faint());
        let note = waits.or(error).unwrap_or_else(|| field(""));
        let (workflow, phase) = (field(&run.workflow), field(&run.phase));
        let started = field(times.tell(run.created_at));
        table.add(vec![field(&run.run), workflow, state_field(&run.state), phase, started, field(took), note]);
    }
    table
}

#[cfg(test)]
mod tests {
    use phasework_workflows::time::Timestamp;

    use super::*;
    use crate::output::Paint;

    #[test]
    fn runs_fit_narrow_and_wide_terminals() {
        let runs: Vec<RunView> = read(json!([
            { "run": "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b", "workflow": "thumbnails-of-everything", "revision": "r",
              "state": "running", "phase": "fetching-pages", "created_at": "2026-01-31T12:00:00Z",
              "waiting_for": "3 jobs of PageDownloader 1.2.0, queued or under way" },
            { "run": "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5c", "workflow": "search", "revision": "r",
              "state": "failed", "phase": "error", "created_at": "2026-01-31T11:00:00Z",
              "ended_at": "2026-01-31T11:02:05Z",
              "error": { "phase": "searching", "handler": "GoogleSearcher", "index": 0, "message": "no\nway" } },
            { "run": "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5d", "state": "damaged", "created_at": "2026-01-31T10:00:00Z",
              "error": { "kind": "damaged", "message": "damaged state: EOF while parsing an object" } },
        ]))
        .unwrap();
        let times = Times::Ago(Timestamp::from_millis(1_769_861_000_000));
        let table = table(&runs, times);
        let shown: String =
            [60, 100, 200].map(|width| format!("{width}\n{}", table.text_for(Some(width), Paint(false)))).concat();
        insta::assert_snapshot!(shown);
    }
}
