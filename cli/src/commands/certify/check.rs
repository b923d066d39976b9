//! One promise of the wire format, and how a worker is tried for it.

use std::pin::Pin;

use super::stage::{Fault, Stage};
use super::{faults, leases, lists, manners, outcomes, values};

/// A promise that was kept, perhaps with something worth knowing.
pub(super) type Kept = Result<Option<String>, Fault>;

/// Kept, with nothing to add.
pub(super) const KEPT: Kept = Ok(None);

type Trying<'a> = Pin<Box<dyn Future<Output = Kept> + Send + 'a>>;

/// A promise, and how it is tried.
pub(super) struct Check {
    /// Its name, as `--only` takes it.
    pub(super) name: &'static str,
    /// What is promised.
    pub(super) promise: &'static str,
    /// Tries it, with a worker that runs.
    pub(super) tried: for<'a> fn(&'a mut Stage) -> Trying<'a>,
}

macro_rules! check {
    ($name:literal, $promise:literal, $tried:path) => {
        Check { name: $name, promise: $promise, tried: |stage| Box::pin($tried(stage)) }
    };
}

/// Every promise, in the order in which they are tried: those that end the worker last.
pub(super) const CHECKS: &[Check] = &[
    check!("announced", "announces itself every 5 seconds, and when asked", manners::announced),
    check!("echo", "repeats run, entry, nonce, handler, index and attempt, with the output", values::echo),
    check!("unicode", "passes text on as it is, in any script", values::unicode),
    check!("big-numbers", "keeps numbers, up to 2^53 at least", values::big_numbers),
    check!("inputs", "takes a job's input from the job, the run's data, or the index", values::inputs),
    check!("groups", "answers each group on the coordinator queue that it names", values::groups),
    check!("unknown-fields", "passes over fields that it does not know", values::unknown_fields),
    check!("fails", "tells a failure with its message, to be tried again", outcomes::fails),
    check!("fails-for-good", "tells a failure for good", outcomes::fails_for_good),
    check!("timeout", "ends an attempt that takes too long", outcomes::timeout),
    check!("oversize", "tells an output that is too large as a failure, and lives on", outcomes::oversize),
    check!("other-handler", "hands back what it has no handler for", outcomes::other_handler),
    check!("canceled", "stops and hands back what was canceled", outcomes::canceled),
    check!("twice", "answers for the same message each time that it comes", manners::twice),
    check!("garbage", "sets aside what it cannot read, with the reason, and lives on", manners::garbage),
    check!("probe", "sends a probe back at once", manners::probe),
    check!("lease", "takes a lease on a long job, renews it, and stops where it gets none", leases::lease),
    check!("lists", "lists its jobs page by page and seals the list once, or says that it lists none", lists::lists),
    check!("unanswered", "has few pages unanswered, publishes them again, and stops when told to", lists::unanswered),
    check!("one-list", "asked twice for a list, makes one, or has the other give way", lists::one_list),
    check!("lists-apart", "never goes on with a list of another attempt", lists::lists_apart),
    check!("confirmed", "publishes again what was not confirmed, and acknowledges only then", manners::confirmed),
    check!("redelivered", "hands back what was delivered before, and returns such probes", faults::redelivered),
    check!("acknowledged", "acknowledges each message once all of its jobs are told of", faults::acknowledged),
    check!("killed", "acknowledges a job only when its outcome is told: a crash loses nothing", faults::killed),
    check!("drain", "stops in good order when told to: nothing is lost, and it says goodbye", faults::drain),
];
