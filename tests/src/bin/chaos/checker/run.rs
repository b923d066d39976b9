//! Judges one run: its state, its way, its counts, its output, and that the handlers did what it says they did.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Api, Run};
use crate::ledger::{Execution, Job, Ledger};
use crate::load::Submission;
use crate::shapes::{Expected, Jobs, Phase};

/// What is wrong with a run.
pub(super) async fn judge(api: &Api, ledger: &Ledger, run: &str, submission: &Submission) -> Result<Vec<String>> {
    let expected = submission.shape.expected(submission.size);
    let view: Run = api.get(&format!("/v1/runs/{run}")).await?;
    let history = api.pages(&format!("/v1/runs/{run}/history"), "events", "after").await?;
    let failures = api.pages(&format!("/v1/runs/{run}/failures"), "failures", "skip").await?;
    let mut problems = Vec::new();
    if view.state != expected.state {
        let why = view.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        problems.push(format!("is {} in place of {}{why}", view.state, expected.state));
    }
    problems.extend(judge_history(&expected, &history));
    problems.extend(judge_failures(&expected, &failures));
    for (entry, phase) in (1..).zip(&expected.phases) {
        for jobs in &phase.handlers {
            let of = |index| (entry, phase.name.to_owned(), jobs.handler.to_owned(), index);
            let executions = |index| ledger.executions_of(run, &of(index));
            if !phase.fails {
                problems.extend(judge_jobs(phase, jobs, &executions));
                let output = &view.output[format!("{}/{}", phase.name, jobs.handler)];
                problems.extend(judge_output(phase, jobs, output, &executions));
            }
        }
    }
    problems.extend(beyond(&expected, ledger.of(run)));
    let about = format!("{run} (`{}`, {} {})", submission.key, submission.shape.workflow(), submission.size);
    Ok(problems.into_iter().map(|problem| format!("{about}: {problem}")).collect())
}

/// Every job was done at least once, or failed at least once if it has to.
fn judge_jobs<'a>(phase: &Phase, jobs: &Jobs, executions: &impl Fn(u64) -> &'a [Execution]) -> Vec<String> {
    let missing = (0..).zip(&jobs.values).filter(|(index, value)| {
        let is_done = value.is_some();
        !executions(*index).iter().any(|execution| execution.done == is_done)
    });
    let missing: Vec<u64> = missing.map(|(index, _)| index).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![format!("jobs {missing:?} of {} in {} were never done", jobs.handler, phase.name)]
}

/// Every output has its value, and is from an execution of that very job.
fn judge_output<'a>(
    phase: &Phase,
    jobs: &Jobs,
    output: &Value,
    executions: &impl Fn(u64) -> &'a [Execution],
) -> Vec<String> {
    let name = format!("the output of {} in {}", jobs.handler, phase.name);
    let one;
    let given = if jobs.is_list {
        match output {
            Value::Array(all) => all.as_slice(),
            _ => return vec![format!("{name} is no list: {output}")],
        }
    } else {
        one = [output.clone()];
        &one[..]
    };
    if given.len() != jobs.values.len() {
        return vec![format!("{name} has {} items in place of {}", given.len(), jobs.values.len())];
    }
    let mut problems = Vec::new();
    for ((index, given), expected) in (0..).zip(given).zip(&jobs.values) {
        let value = given.get("value");
        if value != expected.as_ref() {
            problems.push(format!("{name} is wrong for job {index}: {given} in place of {expected:?}"));
            continue;
        }
        let stamp = given["stamp"].as_str().unwrap_or_default();
        let is_known = executions(index).iter().any(|execution| execution.done && execution.stamp == stamp);
        if expected.is_some() && !is_known {
            problems.push(format!("{name} for job {index} is from {stamp:?}, which did no such job"));
        }
    }
    problems
}

/// The history has no gaps, goes the expected way, and counts every job once.
fn judge_history(expected: &Expected, history: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let numbers: Vec<u64> = history.iter().filter_map(|event| event["n"].as_u64()).collect();
    if !numbers.iter().copied().eq(1..=history.len() as u64) {
        problems.push(format!("its history is numbered {numbers:?}"));
    }
    let of = |what: &str| history.iter().filter(|event| event["what"] == what).cloned().collect::<Vec<_>>();
    let way: Vec<Value> = of("entered").iter().map(|event| event["phase"].clone()).collect();
    if !way.iter().eq(expected.phases.iter().map(|phase| phase.name)) {
        problems.push(format!("it went the way {way:?}"));
    }
    let ends = of("ended");
    let last_is_end = history.last().is_some_and(|event| event["what"] == "ended" && event["state"] == expected.state);
    if ends.len() != 1 || !last_is_end {
        problems.push(format!("it ended so: {ends:?}"));
    }
    let finished = of("finished");
    if finished.len() != expected.phases.len() {
        problems.push(format!("{} phases finished in place of {}", finished.len(), expected.phases.len()));
    }
    for ((entry, phase), event) in (1u64..).zip(&expected.phases).zip(&finished) {
        let status = if phase.fails { "failed" } else { "succeeded" };
        if event["entry"] != entry || event["status"] != status {
            problems.push(format!("{} finished so: {event}", phase.name));
        }
        problems.extend(judge_tallies(phase, &event["handlers"]));
    }
    problems
}

fn judge_tallies(phase: &Phase, tallies: &Value) -> Vec<String> {
    let right = |jobs: &Jobs| {
        let tally = tallies.as_array()?.iter().find(|tally| tally["name"] == jobs.handler)?;
        let [total, done, failed] = ["total", "done", "failed"].map(|count| tally[count].as_u64());
        let (total, done, failed) = (total?, done?, failed?);
        let to_fail = jobs.values.iter().filter(|value| value.is_none()).count() as u64;
        let counts_once = if phase.fails {
            (1..=to_fail).contains(&failed) && done <= total - to_fail
        } else {
            failed == to_fail && done + failed == total
        };
        (total == jobs.values.len() as u64 && counts_once).then_some(())
    };
    let wrong = phase.handlers.iter().filter(|jobs| right(jobs).is_none());
    wrong.map(|jobs| format!("the counts of {} in {} are {tallies}", jobs.handler, phase.name)).collect()
}

/// Those jobs failed for good that have to, and for no other reason than their own.
fn judge_failures(expected: &Expected, failures: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for failure in failures {
        let index = failure["index"].as_u64().unwrap_or(u64::MAX);
        let phase = expected.phases.iter().find(|phase| failure["phase"] == phase.name);
        let jobs = phase.and_then(|phase| phase.handlers.iter().find(|jobs| failure["handler"] == jobs.handler));
        let value = jobs.zip(usize::try_from(index).ok()).and_then(|(jobs, index)| jobs.values.get(index));
        if value != Some(&None) || failure["error"]["message"] != "a 3" {
            problems.push(format!("a job failed for good that was not to: {failure}"));
        }
        if !seen.insert((failure["phase"].to_string(), index)) {
            problems.push(format!("a job failed for good twice: {failure}"));
        }
    }
    let all = |phase: &&Phase| !phase.fails;
    let to_fail = expected.phases.iter().filter(all).flat_map(|phase| &phase.handlers);
    let to_fail = to_fail.flat_map(|jobs| &jobs.values).filter(|value| value.is_none()).count();
    if failures.len() < to_fail {
        problems.push(format!("{} jobs failed for good in place of {to_fail}", failures.len()));
    }
    problems
}

/// Nothing was done that there is no job for.
fn beyond<'a>(expected: &Expected, executed: impl Iterator<Item = (&'a Job, &'a Vec<Execution>)>) -> Vec<String> {
    let is_job = |(entry, phase, handler, index): &Job| {
        let place = usize::try_from(*entry).ok()?.checked_sub(1)?;
        let expected = expected.phases.get(place).filter(|expected| expected.name == phase)?;
        let jobs = expected.handlers.iter().find(|jobs| jobs.handler == handler)?;
        jobs.values.get(usize::try_from(*index).ok()?).map(drop)
    };
    let none = executed.filter(|(job, _)| is_job(job).is_none());
    none.map(|(job, _)| format!("there is no such job, and it was done: {job:?}")).collect()
}
