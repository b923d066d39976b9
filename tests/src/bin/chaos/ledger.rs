//! What the handlers did, as they wrote it down: every line of every file, by the job it is of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A job of a run: entry, phase, handler, index.
pub(crate) type Job = (u64, String, String, u64);

/// An execution of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Execution {
    /// Names it.
    pub(crate) stamp: String,
    /// Whether the handler gave an output.
    pub(crate) done: bool,
}

/// All executions of all runs.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    runs: BTreeMap<String, BTreeMap<Job, Vec<Execution>>>,
    /// How many executions there were.
    pub(crate) executions: usize,
    /// Lines that make no sense.
    pub(crate) torn: Vec<String>,
}

impl Ledger {
    /// Reads all files of a directory.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut ledger = Self::default();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let content = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            content.split_inclusive('\n').for_each(|line| ledger.take(line));
        }
        Ok(ledger)
    }

    /// Takes a line of a file in.
    pub(crate) fn take(&mut self, line: &str) {
        let Some((run, job, execution)) = read(line) else {
            self.torn.push(line.to_owned());
            return;
        };
        self.executions += 1;
        self.runs.entry(run).or_default().entry(job).or_default().push(execution);
    }

    /// The runs of which anything was done.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &String> {
        self.runs.keys()
    }

    /// What was done of a run.
    pub(crate) fn of(&self, run: &str) -> impl Iterator<Item = (&Job, &Vec<Execution>)> {
        self.runs.get(run).into_iter().flatten()
    }

    /// The executions of a job.
    pub(crate) fn executions_of(&self, run: &str, job: &Job) -> &[Execution] {
        self.runs.get(run).and_then(|jobs| jobs.get(job)).map_or(&[], Vec::as_slice)
    }

    /// How many jobs were done.
    pub(crate) fn jobs(&self) -> usize {
        self.runs.values().map(BTreeMap::len).sum()
    }
}

fn read(line: &str) -> Option<(String, Job, Execution)> {
    let fields: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
    let [stamp, run, entry, phase, handler, index, _attempt, result] = fields[..] else { return None };
    let job = (entry.parse().ok()?, phase.to_owned(), handler.to_owned(), index.parse().ok()?);
    let execution = Execution { stamp: stamp.to_owned(), done: result == "done" };
    Some((run.to_owned(), job, execution))
}
