//! The numbers, and whether there were enough of them: a chaos in which too little happened has proved nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use phasework_workflows::time::Timestamp;

use crate::api::Run;
use crate::faults::{Strike, Struck};
use crate::ledger::Ledger;
use crate::load::Submitted;
use crate::schedule::kinds;

/// So many runs at least have to be under way when a fault strikes. Faults that strike together may keep everybody from
/// submitting, so one in so many is let off.
const LEAST_UNDER_WAY: usize = 10;
const ONE_IN: usize = 4;

/// So many runs at least have to be done in each minute of faults.
const LEAST_RUNS_A_MINUTE: f64 = 100.0;

/// What happened.
pub(crate) struct Report {
    /// What is wrong. Nothing else decides.
    pub(crate) problems: Vec<String>,
    faults: BTreeMap<&'static str, usize>,
    under_way: Vec<usize>,
    runs: usize,
    tries: u32,
    jobs: usize,
    executions: usize,
    faults_for: Duration,
    recovery: Duration,
    /// The longest time in which no run ended, and when it began.
    silence: (Duration, Duration),
}

impl Report {
    /// Counts, and adds to the problems where there was too little of something.
    pub(crate) fn new(
        submitted: &Submitted,
        runs: &[Run],
        ledger: &Ledger,
        struck: &Struck,
        mut problems: Vec<String>,
    ) -> Self {
        let mut faults: BTreeMap<_, _> = kinds().into_iter().map(|kind| (kind, 0)).collect();
        for strike in &struck.0 {
            *faults.entry(strike.fault.kind()).or_default() += 1;
        }
        let never = faults.iter().filter(|(_, times)| **times == 0);
        problems.extend(never.map(|(kind, _)| format!("too little happened: no {kind}")));

        let under_way: Vec<usize> = struck.0.iter().map(|strike| under_way_at(runs, strike)).collect();
        let idle = under_way.iter().filter(|count| **count < LEAST_UNDER_WAY).count();
        if idle * ONE_IN > under_way.len() {
            problems
                .push(format!("too little happened: at {idle} faults less than {LEAST_UNDER_WAY} runs were under way"));
        }
        let faults_for = since(struck.began(), struck.over());
        let least = (LEAST_RUNS_A_MINUTE * faults_for.as_secs_f64() / 60.0) as usize;
        if runs.len() < least {
            problems.push(format!("too little happened: {} runs, not {least}", runs.len()));
        }

        let mut ends: Vec<Timestamp> = runs.iter().filter_map(|run| run.ended_at).collect();
        ends.sort_unstable();
        let silences = ends.windows(2).map(|pair| (since(pair[0], pair[1]), since(struck.began(), pair[0])));
        let silence = silences.max().unwrap_or_default();
        let last = ends.last().copied().unwrap_or(Timestamp::from_millis(0));
        Self {
            problems,
            faults,
            under_way,
            runs: runs.len(),
            tries: submitted.values().map(|submission| submission.tries).sum(),
            jobs: ledger.jobs(),
            executions: ledger.executions,
            faults_for,
            recovery: since(struck.over(), last),
            silence,
        }
    }
}

fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.as_millis() - from.as_millis()).unwrap_or(0))
}

fn under_way_at(runs: &[Run], strike: &Strike) -> usize {
    let is_live = |run: &&Run| run.created_at <= strike.at && run.ended_at.is_none_or(|end| end > strike.at);
    runs.iter().filter(is_live).count()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults, in {:.0} s:", self.faults_for.as_secs_f64())?;
        for (kind, times) in &self.faults {
            writeln!(f, "  {times:>5}  {kind}")?;
        }
        let least = self.under_way.iter().min().copied().unwrap_or(0);
        let mean = self.under_way.iter().sum::<usize>() / self.under_way.len().max(1);
        writeln!(
            f,
            "runs: {}, submitted {} times; under way at a fault: {mean}, at least {least}",
            self.runs, self.tries
        )?;
        let again = self.executions - self.jobs;
        let rate = self.jobs as f64 / (self.faults_for + self.recovery).as_secs_f64();
        writeln!(f, "jobs: {}, executed {} times ({again} again); {rate:.0} jobs/s", self.jobs, self.executions)?;
        let [recovery, silence, from] = [self.recovery, self.silence.0, self.silence.1].map(|time| time.as_secs_f64());
        writeln!(
            f,
            "recovery: the last run ended {recovery:.1} s after the last fault; for {silence:.1} s none ended, from {from:.1} s on"
        )?;
        for problem in &self.problems {
            writeln!(f, "PROBLEM: {problem}")?;
        }
        match self.problems.len() {
            0 => write!(f, "nothing was lost, and nothing counted twice"),
            _ => write!(f, "chaos: this did not hold"),
        }
    }
}
