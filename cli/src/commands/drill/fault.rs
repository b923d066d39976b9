//! What goes wrong in a round, and for which jobs: chosen by the seed and by what a job is called, so that the same seed
//! makes the same choices whatever happens when.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::ledger::JobName;

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Nothing: how it should be.
    None,
    /// Jobs are delivered again after they were done.
    Twice,
    /// The worker is killed when it has done a job and before that is known.
    Killed,
    /// Outcomes arrive late, and in another order.
    Late,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Twice, Self::Killed, Self::Late];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "undisturbed",
            Self::Twice => "twice",
            Self::Killed => "killed",
            Self::Late => "late",
        }
    }

    /// What happens, in words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::None => "nothing goes wrong",
            Self::Twice => "jobs are delivered again after they were done",
            Self::Killed => "the worker is killed after it has done a job, before that is known",
            Self::Late => "outcomes arrive late and in another order",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest that an outcome is held back.
const LATEST: Duration = Duration::from_millis(800);

/// What the seed says of each job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate(pub(super) u64);

impl Fate {
    fn draw(self, job: &JobName, what: &str) -> u64 {
        // Its keys are fixed: the same values give the same hash in every process of one version of Rust.
        let mut hasher = DefaultHasher::new();
        (self.0, job.entry, &job.phase, &job.handler, job.work, what).hash(&mut hasher);
        hasher.finish()
    }

    /// How long its outcome is held back.
    pub(super) fn delay(self, job: &JobName) -> Duration {
        LATEST * u32::try_from(self.draw(job, "late") % 1000).unwrap_or(0) / 1000
    }

    /// Whether the worker is killed over it, if it still may be: the first of its kind always, of the others a third.
    pub(super) fn is_deadly(self, job: &JobName, so_far: usize) -> bool {
        so_far == 0 || self.draw(job, "killed").is_multiple_of(3)
    }
}
