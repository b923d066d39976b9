//! `phasework runs failures`: the jobs of a run that failed for good.

use clap::Args;
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::RunId;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Failure, Outcome};
use crate::http::read;
use crate::pages::{Turn, gather};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field};
use crate::views::FailureView;
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework runs failures 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework runs failures ID --limit 1000 --output jsonl | jq -r .error.message | sort | uniq -c

Oldest first; of each handler and entry the first 1000 are kept.";

/// List the jobs of a run that failed for good
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FailuresArgs {
    /// The run
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::runs))]
    run: RunId,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// How many of the oldest to pass over
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Lists failed jobs.
pub(crate) async fn run(args: FailuresArgs, session: &Session) -> Outcome {
    let (api, run) = (session.api(&args.server)?, args.run.to_string());
    let ask = async || {
        let route = (&routes::FAILURES, &[run.as_str()][..]);
        let page = gather(&api, route, "failures", &[], Turn::Skip(args.skip), args.limit).await?;
        let whole = json!({ "failures": &page.items, "next": page.next });
        Ok(Answer { whole, items: Some(page.items), is_final: false })
    };
    show(session, &args.form, "", ask, |answer, times| tell(&answer.whole, times)).await
}

fn tell(answer: &Value, times: Times) -> Result<Page, Failure> {
    let failures: Vec<FailureView> = read(answer["failures"].clone())?;
    if failures.is_empty() {
        return Ok(Page { note: Some("no job has failed for good".to_owned()), ..Page::default() });
    }
    let next = answer["next"].as_u64();
    let more = next.map(|next| format!("there are more; --skip {next} shows them, or a higher --limit"));
    Ok(Page { text: failures_table(&failures, times).text(), more, note: None })
}

/// Failed jobs, a row each.
pub(super) fn failures_table(failures: &[FailureView], times: Times) -> Table {
    let mut table = Table::new(&[
        column("PHASE").keep(4).least(8),
        column("HANDLER").keep(7).least(8),
        column("JOB").keep(8).right(),
        column("TRIED").keep(2).right(),
        column("WHEN").keep(1),
        column("WHY").keep(3).least(16),
    ]);
    for failure in failures {
        let handler = failure.handler.as_ref().map(|handler| match handler {
            Value::String(name) => name.clone(),
            other => format!("#{other}"),
        });
        let why = match &failure.error {
            Value::String(message) => message.clone(),
            error => error.get("message").and_then(Value::as_str).unwrap_or("?").to_owned(),
        };
        table.add(vec![
            field(failure.phase.as_deref().unwrap_or("-")),
            field(handler.unwrap_or_default()),
            field(failure.index),
            field(failure.attempt),
            field(times.tell(failure.at)),
            field(why).bad(),
        ]);
    }
    table
}
