//! Judges one run: its state, its way, its counts, its output, and that the handlers did what it says they did.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Api, Run};
use crate::ledger::{Execution, Job, Ledger};
use crate::load::Submission;
use crate::shapes::{Expected, Jobs, Phase};

/// A run as the API shows it.
pub(super) struct Shown {
    run: Run,
    history: Vec<Value>,
    failures: Vec<Value>,
}

impl Shown {
    /// Asks for all there is.
    pub(super) async fn of(api: &Api, run: &str) -> Result<Self> {
        Ok(Self {
            run: api.get(&format!("/v1/runs/{run}")).await?,
            history: api.pages(&format!("/v1/runs/{run}/history"), "events", "after").await?,
            failures: api.pages(&format!("/v1/runs/{run}/failures"), "failures", "skip").await?,
        })
    }
}

/// What is wrong with a run.
pub(super) fn judge(shown: &Shown, ledger: &Ledger, submission: &Submission) -> Vec<String> {
    let expected = submission.shape.expected(submission.size);
    let Shown { run, history, failures } = shown;
    let mut problems = Vec::new();
    if run.state != expected.state {
        let why = run.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        problems.push(format!("is {} in place of {}{why}", run.state, expected.state));
    }
    problems.extend(judge_history(&expected, history));
    problems.extend(judge_failures(&expected, failures));
    for (entry, phase) in (1..).zip(&expected.phases).filter(|(_, phase)| !phase.fails) {
        for jobs in &phase.handlers {
            let of = |index| (entry, phase.name.to_owned(), jobs.handler.to_owned(), index);
            let executions = |index| ledger.executions_of(&run.run, &of(index));
            problems.extend(judge_jobs(phase, jobs, &executions));
            let output = &run.output[format!("{}/{}", phase.name, jobs.handler)];
            problems.extend(judge_output(phase, jobs, output, &executions));
        }
    }
    problems.extend(beyond(&expected, ledger.of(&run.run)));
    let about = format!("{} (`{}`, {} {})", run.run, submission.key, submission.shape.workflow(), submission.size);
    problems.into_iter().map(|problem| format!("{about}: {problem}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    use crate::shapes::{SHAPES, Shape};

    /// A run as it has to be, and what its handlers wrote.
    fn flawless(shape: Shape, size: u64) -> (Shown, Vec<String>) {
        let (mut history, mut failures, mut lines) = (vec![json!({ "what": "started" })], Vec::new(), Vec::new());
        let mut output = json!({});
        let expected = shape.expected(size);
        for (entry, phase) in (1..).zip(&expected.phases) {
            history.push(json!({ "what": "entered", "entry": entry, "phase": phase.name }));
            let mut tallies = Vec::new();
            for Jobs { handler, is_list, values } in &phase.handlers {
                let mut outputs = Vec::new();
                for (index, value) in values.iter().enumerate() {
                    let stamp = format!("w-{}", lines.len());
                    let result = if value.is_some() { "done" } else { "failed" };
                    lines.push(format!("{stamp} r {entry} {} {handler} {index} 1 {result}\n", phase.name));
                    outputs.push(value.as_ref().map(|value| json!({ "value": value, "stamp": stamp })));
                    if value.is_none() {
                        let error = json!({ "kind": "error", "message": "a 3" });
                        failures
                            .push(json!({ "phase": phase.name, "handler": handler, "index": index, "error": error }));
                    }
                }
                let failed = values.iter().filter(|value| value.is_none()).count();
                let (total, done) = (values.len(), values.len() - failed);
                tallies.push(json!({ "name": handler, "total": total, "done": done, "failed": failed }));
                let name = format!("{}/{handler}", phase.name);
                output[name] = if *is_list { json!(outputs) } else { json!(outputs[0]) };
            }
            let status = if phase.fails { "failed" } else { "succeeded" };
            history.push(json!({ "what": "finished", "entry": entry, "status": status, "handlers": tallies }));
        }
        history.push(json!({ "what": "ended", "state": expected.state }));
        (1..).zip(&mut history).for_each(|(n, event)| event["n"] = json!(n));
        let run = json!({ "run": "r", "workflow": shape.workflow(), "state": expected.state, "phase": "b",
                          "created_at": "2026-01-31T12:00:00Z", "output": output });
        (Shown { run: serde_json::from_value(run).unwrap(), history, failures }, lines)
    }

    #[track_caller]
    fn check(shape: Shape, spoil: impl FnOnce(&mut Shown, &mut Vec<String>), want: &[&str]) {
        let (mut shown, mut lines) = flawless(shape, 14);
        spoil(&mut shown, &mut lines);
        let mut ledger = Ledger::default();
        lines.iter().for_each(|line| ledger.take(line));
        assert_eq!(ledger.torn, [""; 0]);
        let submission = Submission { key: "k".into(), shape, size: 14, tries: 1 };
        let problems = judge(&shown, &ledger, &submission);
        assert_eq!(problems.len(), want.len(), "{problems:#?}");
        for (problem, want) in problems.iter().zip(want) {
            assert!(problem.contains(want), "{want} in {problem}");
        }
    }

    #[test]
    fn what_went_well_is_no_problem() {
        SHAPES.into_iter().for_each(|shape| check(shape, |_, _| (), &[]));
        // Once more does no harm.
        check(Shape::Count, |_, lines| lines.push("w-x r 1 a Count 7 2 done\n".into()), &[]);
        // What fails a phase cuts off the rest of it.
        check(Shape::Mend, |_, lines| drop(lines.drain(5..14)), &[]);
    }

    #[test]
    fn what_was_lost_is_found() {
        check(
            Shape::Count,
            |_, lines| drop(lines.remove(7)),
            &["jobs [7] of Count in a were never done", "job 7 is from"],
        );
        check(Shape::Tolerate, |_, lines| drop(lines.remove(3)), &["jobs [3] of Picky in a were never done"]);
        let forget = |shown: &mut Shown, _: &mut Vec<String>| shown.run.output["a/Count"][7] = Value::Null;
        check(Shape::Count, forget, &["the output of Count in a is wrong for job 7: null"]);
        let shorten =
            |shown: &mut Shown, _: &mut Vec<String>| drop(shown.run.output["a/Count"].as_array_mut().unwrap().pop());
        check(Shape::Count, shorten, &["has 13 items in place of 14"]);
        check(Shape::Tolerate, |shown, _| shown.failures.clear(), &["0 jobs failed for good in place of 2"]);
        let gap = |shown: &mut Shown, _: &mut Vec<String>| drop(shown.history.remove(0));
        check(Shape::Chain, gap, &["its history is numbered"]);
    }

    #[test]
    fn what_was_counted_twice_is_found() {
        let more = |shown: &mut Shown, _: &mut Vec<String>| shown.history[2]["handlers"][0]["done"] = json!(15);
        check(Shape::Count, more, &["the counts of Count in a"]);
        let more = |shown: &mut Shown, _: &mut Vec<String>| shown.history[2]["handlers"][0]["done"] = json!(13);
        check(Shape::Mend, more, &["the counts of Picky in a"]);
        let again = |shown: &mut Shown, _: &mut Vec<String>| shown.failures.push(shown.failures[0].clone());
        check(Shape::Tolerate, again, &["a job failed for good twice"]);
        let again = |shown: &mut Shown, _: &mut Vec<String>| {
            let (n, mut end) = (shown.history.len() + 1, shown.history.last().unwrap().clone());
            end["n"] = json!(n);
            shown.history.push(end);
        };
        check(Shape::Chain, again, &["it ended so"]);
    }

    #[test]
    fn what_should_not_be_is_found() {
        check(Shape::Chain, |shown, _| shown.run.state = "failed".into(), &["is failed in place of succeeded"]);
        let wrong = |shown: &mut Shown, _: &mut Vec<String>| shown.run.output["b/Sum"]["value"] = json!(90);
        check(Shape::Count, wrong, &["the output of Sum in b is wrong for job 0"]);
        let lent = |shown: &mut Shown, _: &mut Vec<String>| {
            let other = shown.run.output["a/Count"][6]["stamp"].clone();
            shown.run.output["a/Count"][7]["stamp"] = other;
        };
        check(Shape::Count, lent, &["for job 7 is from \"w-6\", which did no such job"]);
        check(Shape::Count, |_, lines| lines.push("w-x r 1 a Count 14 1 done\n".into()), &["there is no such job"]);
        check(Shape::Count, |_, lines| lines.push("w-x r 3 a Count 1 1 done\n".into()), &["there is no such job"]);
        let lost = |shown: &mut Shown, _: &mut Vec<String>| {
            shown.failures[0]["error"]["message"] = json!("its worker was lost");
        };
        check(Shape::Tolerate, lost, &["a job failed for good that was not to"]);
        let away = |shown: &mut Shown, _: &mut Vec<String>| shown.history[3]["phase"] = json!("c");
        check(Shape::Count, away, &["it went the way"]);
    }
}
