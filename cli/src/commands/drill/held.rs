//! What the worker holds, and whether it may die now: not when that would take a job's last try, so that the run failed of
//! the drill and not of the handler.

use std::collections::BTreeMap;

use phasework_workflows::id::Attempt;

use super::ledger::{JobName, Ledger};

/// Attempts that the worker was given and has not reported.
#[derive(Debug, Default)]
pub(super) struct Held {
    jobs: BTreeMap<(JobName, Attempt), HeldJob>,
    /// How many attempts at a job were lost with a worker.
    losses: BTreeMap<JobName, u32>,
}

#[derive(Clone, Copy, Debug)]
struct HeldJob {
    tried: u32,
    max_attempts: u32,
    /// Whether it was lost already, and is only to be handed back.
    is_lost: bool,
}

impl Held {
    /// An attempt was given to the worker.
    pub(super) fn take(&mut self, job: JobName, attempt: Attempt, tried: u32, max_attempts: u32, is_lost: bool) {
        self.jobs.insert((job, attempt), HeldJob { tried, max_attempts, is_lost });
    }

    /// What try an attempt is that the worker holds.
    pub(super) fn tried(&self, job: &JobName, attempt: Attempt) -> Option<u32> {
        self.jobs.get(&(job.clone(), attempt)).map(|held| held.tried)
    }

    /// It is known what became of an attempt.
    pub(super) fn settle(&mut self, job: &JobName, attempt: Attempt) {
        self.jobs.remove(&(job.clone(), attempt));
    }

    /// Whether every job that the worker holds has a try left after its death. What a job failed by itself when nothing
    /// went wrong, it may fail again.
    pub(super) fn may_be_lost(&self, ledger: &Ledger) -> bool {
        self.jobs.iter().filter(|(_, held)| !held.is_lost).all(|((job, _), held)| {
            let losses = self.losses.get(job).copied().unwrap_or(0);
            let failed = held.tried.saturating_sub(1);
            let own = failed.saturating_sub(losses.saturating_sub(1));
            let to_come = ledger.own_failures(job).saturating_sub(own);
            // The first loss of a job does not count as a try: another job may have been to blame.
            failed + u32::from(losses > 0) + to_come < held.max_attempts
        })
    }

    /// The worker dies, with all that it holds.
    pub(super) fn lose(&mut self) {
        for ((job, _), held) in std::mem::take(&mut self.jobs) {
            if !held.is_lost {
                *self.losses.entry(job).or_default() += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Work;
    use super::*;

    fn job() -> JobName {
        JobName { entry: 1, phase: "p".into(), handler: "H".into(), work: Work::Job(0) }
    }

    /// How often a worker may die that holds one job, which takes so many tries by itself.
    fn deaths(max_attempts: u32, tries: u32) -> u32 {
        let (mut held, mut ledger) = (Held::default(), Ledger::default());
        ledger.note_try(job(), tries);
        let (mut tried, mut deaths) = (1, 0);
        for attempt in 1.. {
            held.take(job(), attempt, tried, max_attempts, false);
            if !held.may_be_lost(&ledger) {
                break;
            }
            held.lose();
            deaths += 1;
            // Its message comes again to the next worker, which hands it back; its death then costs nothing more.
            held.take(job(), attempt, tried, max_attempts, true);
            assert!(held.may_be_lost(&ledger));
            held.lose();
            tried += u32::from(deaths > 1);
        }
        deaths
    }

    #[test]
    fn a_job_keeps_as_many_tries_as_it_needs() {
        for (max_attempts, tries, expected) in [(1, 1, 1), (2, 1, 2), (3, 1, 3), (3, 2, 2), (3, 3, 1)] {
            assert_eq!(deaths(max_attempts, tries), expected, "{tries} of {max_attempts}");
        }
    }

    #[test]
    fn what_is_settled_is_not_lost() {
        let (mut held, ledger) = (Held::default(), Ledger::default());
        held.take(job(), 1, 1, 1, false);
        held.lose();
        held.take(job(), 2, 1, 1, false);
        assert!(!held.may_be_lost(&ledger));
        assert_eq!(held.tried(&job(), 2), Some(1));
        held.settle(&job(), 2);
        assert!(held.may_be_lost(&ledger));
    }
}
