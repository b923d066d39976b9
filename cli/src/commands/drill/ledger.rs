//! What workers said of each job, over all rounds, and whether it was the same each time. The list of a handler that lists
//! its jobs itself is judged by what is on it.

use std::collections::{BTreeMap, BTreeSet};

use phasework_workflows::id::{Attempt, EntryNo, JobIndex};
use serde_json::Value;

use super::fault::Fault;

/// What a worker is asked for, the same in every round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobName {
    pub(super) entry: EntryNo,
    pub(super) phase: String,
    pub(super) handler: String,
    pub(super) work: Work,
}

/// What it is of the handler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Work {
    /// The making of its list of jobs.
    List,
    /// This job.
    Job(JobIndex),
}

/// One time that a job was done, or a list made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) round: Fault,
    pub(super) attempt: Attempt,
    /// Of a list, what is on it.
    pub(super) output: Value,
    /// Of a list, whether it was left off before it was whole.
    is_part: bool,
}

/// Every time that every job was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    done: BTreeMap<JobName, Vec<Done>>,
    /// The most tries that a job took when nothing went wrong.
    tries: BTreeMap<JobName, u32>,
    /// Parts of outputs that may differ.
    ignored: Vec<String>,
}

/// What is to be said of one handler.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judgement {
    pub(super) jobs: usize,
    /// How often its jobs were done, all rounds together.
    pub(super) times: usize,
    /// How many lists of jobs it made, and how often.
    pub(super) lists: usize,
    pub(super) listed: usize,
    /// The first jobs whose results were not always the same.
    pub(super) differs: Vec<Difference>,
}

/// A job whose results were not the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) job: JobName,
    pub(super) first: Done,
    pub(super) other: Done,
}

/// So many differences of a handler are told.
const TOLD: usize = 3;

impl Ledger {
    pub(super) fn new(ignored: Vec<String>) -> Self {
        Self { ignored, ..Self::default() }
    }

    /// Takes what may differ out of the comparison.
    pub(super) fn leave_out(&self, output: &mut Value) {
        self.ignored.iter().for_each(|pointer| blank(output, pointer));
    }

    /// Notes what came of a job that was done.
    pub(super) fn note(&mut self, round: Fault, job: JobName, attempt: Attempt, mut output: Value) {
        self.leave_out(&mut output);
        self.done.entry(job).or_default().push(Done { round, attempt, output, is_part: false });
    }

    /// Notes what is on a list, or on what there is of it.
    pub(super) fn note_list(
        &mut self,
        round: Fault,
        job: JobName,
        attempt: Attempt,
        mut items: Vec<Value>,
        is_part: bool,
    ) {
        for item in &mut items {
            self.leave_out(item);
        }
        self.done.entry(job).or_default().push(Done { round, attempt, output: Value::Array(items), is_part });
    }

    /// Notes which try of a job it was that came to an end, when nothing goes wrong.
    pub(super) fn note_try(&mut self, job: JobName, tried: u32) {
        let most = self.tries.entry(job).or_default();
        *most = tried.max(*most);
    }

    /// How often a job failed by itself when nothing went wrong.
    pub(super) fn own_failures(&self, job: &JobName) -> u32 {
        self.tries.get(job).map_or(0, |tries| tries.saturating_sub(1))
    }

    /// How often any job was done in a round.
    pub(super) fn times(&self, round: Fault) -> usize {
        let jobs = self.done.iter().filter(|(job, _)| job.work != Work::List);
        jobs.flat_map(|(_, times)| times).filter(|done| done.round == round).count()
    }

    /// What is to be said of each handler.
    pub(super) fn judge(&self) -> BTreeMap<String, Judgement> {
        let mut judgements = BTreeMap::<String, Judgement>::new();
        for (job, times) in &self.done {
            let judgement = judgements.entry(job.handler.clone()).or_default();
            let whole = times.iter().filter(|done| !done.is_part).count();
            match job.work {
                Work::List => {
                    judgement.lists += 1;
                    judgement.listed += whole;
                }
                Work::Job(_) => {
                    judgement.jobs += 1;
                    judgement.times += whole;
                }
            }
            let first = times.iter().find(|done| !done.is_part).unwrap_or(&times[0]);
            let other = times.iter().find(|done| !agree(first, done));
            if let (Some(other), true) = (other, judgement.differs.len() < TOLD) {
                let (first, other) = (first.clone(), other.clone());
                judgement.differs.push(Difference { job: job.clone(), first, other });
            }
        }
        judgements
    }

    /// What was done in the first of these rounds and not in the other, but for entries that were cut short.
    pub(super) fn only_in(&self, round: Fault, other: Fault, cut_short: &BTreeSet<EntryNo>) -> Vec<&JobName> {
        let is_in = |times: &[Done], round| times.iter().any(|done| done.round == round && !done.is_part);
        let jobs = self.done.iter().filter(|(job, _)| !cut_short.contains(&job.entry));
        jobs.filter(|(_, times)| is_in(times, round) && !is_in(times, other)).map(|(job, _)| job).collect()
    }
}

/// Whether two results are the same, as far as there are two.
fn agree(first: &Done, other: &Done) -> bool {
    match (&first.output, &other.output) {
        (Value::Array(a), Value::Array(b)) if first.is_part || other.is_part => a.iter().zip(b).all(|(a, b)| a == b),
        (a, b) => a == b,
    }
}

/// Takes what a JSON pointer points to out of the comparison.
fn blank(output: &mut Value, pointer: &str) {
    if let Some(part) = output.pointer_mut(pointer) {
        *part = Value::Null;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(work: Work) -> JobName {
        JobName { entry: 1, phase: "p".into(), handler: "H".into(), work }
    }

    fn job(index: JobIndex) -> JobName {
        name(Work::Job(index))
    }

    #[test]
    fn what_differs_is_found_and_what_may_differ_is_not() {
        let mut ledger = Ledger::new(vec!["/at".into()]);
        ledger.note(Fault::None, job(0), 1, json!({ "n": 1, "at": 5 }));
        ledger.note(Fault::Twice, job(0), 1, json!({ "n": 1, "at": 6 }));
        ledger.note(Fault::None, job(1), 1, json!(1));
        ledger.note(Fault::Killed, job(1), 1, json!(2));
        let judged = &ledger.judge()["H"];
        assert_eq!((judged.jobs, judged.times, judged.differs.len()), (2, 4, 1));
        assert_eq!((judged.differs[0].job.work, &judged.differs[0].other.output), (Work::Job(1), &json!(2)));
        assert_eq!(ledger.times(Fault::Killed), 1);
    }

    #[test]
    fn jobs_are_missed_and_others_are_too_many() {
        let mut ledger = Ledger::default();
        ledger.note(Fault::None, job(0), 1, json!(0));
        ledger.note(Fault::None, job(1), 1, json!(1));
        ledger.note(Fault::Late, job(1), 1, json!(1));
        ledger.note(Fault::Late, job(2), 1, json!(2));
        let none = BTreeSet::new();
        assert_eq!(ledger.only_in(Fault::None, Fault::Late, &none), [&job(0)]);
        assert_eq!(ledger.only_in(Fault::Late, Fault::None, &none), [&job(2)]);
        assert_eq!(ledger.only_in(Fault::None, Fault::Late, &[1].into()), Vec::<&JobName>::new());
    }

    #[test]
    fn lists_are_compared_as_far_as_they_went() {
        for (other, is_part, is_same) in [
            (json!([1, 2, 3]), false, true),
            (json!([1, 2]), false, false),
            (json!([1, 2]), true, true),
            (json!([]), true, true),
            (json!([1, 3]), true, false),
        ] {
            let mut ledger = Ledger::new(vec!["/at".into()]);
            let items = |value: &Value| value.as_array().unwrap().clone();
            ledger.note_list(Fault::None, name(Work::List), 1, items(&json!([1, 2, 3])), false);
            ledger.note_list(Fault::Killed, name(Work::List), 2, items(&other), is_part);
            let judged = &ledger.judge()["H"];
            assert_eq!(judged.differs.is_empty(), is_same, "{other} {is_part}");
            assert_eq!((judged.jobs, judged.lists, judged.listed), (0, 1, 1 + usize::from(!is_part)));
        }
        let mut ledger = Ledger::new(vec!["/at".into()]);
        ledger.note_list(Fault::None, name(Work::List), 1, vec![json!({ "at": 1 })], false);
        ledger.note_list(Fault::Late, name(Work::List), 1, vec![json!({ "at": 2 })], false);
        assert!(ledger.judge()["H"].differs.is_empty());
    }
}
