//! Judges what became of everything. It knows only what was submitted, what the handlers wrote down and what the HTTP
//! API says, and asks the broker how long its queues are; it shares no code with what it judges.

mod queues;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use phasework_workflows::time::{Clock as _, Millis, SystemClock, Timestamp};
use serde_json::Value;
use tokio::time::sleep;

use crate::api::{Api, Run, Runs};
use crate::faults::Struck;
use crate::ledger::Ledger;
use crate::load::Submitted;
use crate::report::Report;
use crate::site::Site;

/// How many runs are looked at side by side.
const SIDE_BY_SIDE: usize = 8;

/// How many problems are told in full.
const TOLD: usize = 20;

/// Waits until no run is live, at the longest until `limit` after `over`; a problem for each that is.
pub(crate) async fn await_ends(api: &Api, over: Timestamp, limit: Duration) -> Vec<String> {
    let end = over.plus(Millis::from(limit));
    loop {
        let live = api.try_get::<Runs>("/v1/runs?state=live&limit=1000").await;
        if live.as_ref().is_ok_and(|page| page.counts.live == 0) {
            return Vec::new();
        }
        if SystemClock.now() > end {
            let late = format!("{} s after the last fault", limit.as_secs());
            return match live {
                Err(error) => vec![format!("{late} the API does not answer: {error:#}")],
                Ok(page) => page.runs.iter().map(|run| format!("{late} {}", stuck(run))).collect(),
            };
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn stuck(run: &Run) -> String {
    let Run { run, workflow, state, phase, waiting_for, error, .. } = run;
    let error = error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
    let waiting_for = waiting_for.as_deref().unwrap_or("nothing");
    format!("{run} ({workflow}) is {state} in {phase} and waits for {waiting_for}{error}")
}

/// Looks at everything.
pub(crate) async fn judge(site: &Site, submitted: &Submitted, struck: &Struck) -> Result<Report> {
    let api = site.api();
    let listed = api.pages("/v1/runs", "runs", "before").await?;
    let listed: Vec<Run> = listed.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let mut problems = one_run_each(submitted, &listed);

    // Handlers of an abandoned phase may be at it still; their queues tell when they are through.
    problems.extend(queues::not_empty(&site.broker_url()).await?);
    let ledger = Ledger::read(&site.ledgers())?;
    problems.extend(ledger.torn.iter().map(|line| format!("a line of a ledger is torn: {line:?}")));
    let unknown = ledger.runs().filter(|run| !submitted.contains_key(*run));
    problems.extend(unknown.map(|run| format!("handlers worked on {run}, which nobody was told of")));

    let judged = futures::stream::iter(submitted).map(async |(run, submission)| {
        let shown = run::Shown::of(api, run).await?;
        Ok::<_, anyhow::Error>(run::judge(&shown, &ledger, submission))
    });
    let judged: Vec<Vec<String>> = judged.buffered(SIDE_BY_SIDE).try_collect().await?;
    problems.extend(judged.into_iter().flatten());

    let dead: Value = api.get("/v1/dead?limit=10").await?;
    if dead["count"] != 0 {
        problems.push(format!("there are dead letters: {dead}"));
    }
    problems.extend(accepted_again(api, submitted).await?);
    if problems.len() > TOLD {
        let more = problems.len() - TOLD;
        problems.truncate(TOLD);
        problems.push(format!("and {more} more problems"));
    }
    Ok(Report::new(submitted, &listed, &ledger, struck, problems))
}

/// Every submission made one run, and there are no others.
fn one_run_each(submitted: &Submitted, listed: &[Run]) -> Vec<String> {
    let mut problems = Vec::new();
    let keys: BTreeMap<&str, &Run> = listed.iter().map(|run| (run.run.as_str(), run)).collect();
    if keys.len() != listed.len() {
        problems.push(format!("{} runs are listed, of which {} differ", listed.len(), keys.len()));
    }
    for (run, submission) in submitted {
        match keys.get(run.as_str()) {
            None => problems.push(format!("{run} was accepted for `{}` and is not there", submission.key)),
            Some(there) if there.key.as_deref() != Some(&submission.key) => {
                problems.push(format!("{run} has the key {:?} in place of `{}`", there.key, submission.key));
            }
            Some(_) => (),
        }
    }
    let known: BTreeSet<&str> = submitted.keys().map(String::as_str).collect();
    let unknown = keys.keys().filter(|run| !known.contains(*run));
    problems.extend(unknown.map(|run| format!("{run} is there, and nobody was told of it")));
    problems
}

/// Submitting the same once more makes no other run.
async fn accepted_again(api: &Api, submitted: &Submitted) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (run, submission) in submitted.iter().step_by(10) {
        let (again, _) = api.submit(&submission.body()).await?;
        if again != *run {
            problems.push(format!("`{}` became {run}, and {again} when it was submitted again", submission.key));
        }
    }
    Ok(problems)
}
