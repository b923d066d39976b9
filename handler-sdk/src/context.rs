//! What a handler may know about the job it works on. It reports nothing and changes nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, PhaseName, RunId, WorkflowName};
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::lease::MAX_DETAILS_BYTES;
use phasework_workflows::{Payload, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::HandlerError;
use crate::handler::read_input;
use crate::lease::Progress;

/// The job that a handler works on. Cheap to clone; may be moved into other tasks.
#[derive(Clone)]
pub struct Context {
    job: Arc<Current>,
}

pub(crate) struct Current {
    /// What the job shares with others of its message; its own list of jobs is empty.
    pub(crate) group: Arc<JobGroup>,
    pub(crate) index: JobIndex,
    pub(crate) attempt: Attempt,
    pub(crate) tried: u32,
    pub(crate) details: Option<Payload>,
    pub(crate) deadline: Instant,
    pub(crate) canceled: CancellationToken,
    pub(crate) progress: Arc<Progress>,
}

impl Context {
    pub(crate) fn new(job: Current) -> Self {
        Self { job: Arc::new(job) }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.job.group.run
    }

    /// The run's workflow.
    pub fn workflow(&self) -> &WorkflowName {
        &self.job.group.workflow
    }

    /// The phase the run is in.
    pub fn phase(&self) -> &PhaseName {
        &self.job.group.phase
    }

    /// Which entry of the run this is: 1 for its first phase, and one more with every phase it goes to.
    pub fn entry(&self) -> EntryNo {
        self.job.group.entry
    }

    /// The handler, as it was registered.
    pub fn handler(&self) -> &HandlerName {
        &self.job.group.handler
    }

    /// The handler's version.
    pub fn version(&self) -> &Version {
        &self.job.group.version
    }

    /// Which job of the handler and entry this is, from 0.
    pub fn index(&self) -> JobIndex {
        self.job.index
    }

    /// Which dispatch of the job this is, from 1. More than [`Context::try_number`] when the job was handed back.
    pub fn attempt(&self) -> Attempt {
        self.job.attempt
    }

    /// Which try this is, from 1 to [`Context::max_attempts`].
    pub fn try_number(&self) -> u32 {
        self.job.tried
    }

    /// How many tries the job gets.
    pub fn max_attempts(&self) -> u32 {
        self.job.group.max_attempts
    }

    /// Whether the job fails for good when it fails now.
    pub fn is_last_try(&self) -> bool {
        self.job.tried >= self.job.group.max_attempts
    }

    /// When the handler's future is dropped and the try counts as failed with `timeout`.
    pub fn deadline(&self) -> Instant {
        self.job.deadline
    }

    /// How long until [`Context::deadline`].
    pub fn time_left(&self) -> Duration {
        self.job.deadline.saturating_duration_since(Instant::now())
    }

    /// Names the job, the same at every attempt: send it along where a service takes an idempotency key. After a
    /// fault a job can run twice, even at the same time.
    pub fn idempotency_key(&self) -> String {
        let group = &self.job.group;
        if group.enumerate {
            return format!("{}/{}/{}/list", group.run, group.entry, group.handler);
        }
        format!("{}/{}/{}/{}", group.run, group.entry, group.handler, self.job.index)
    }

    /// The run's data, read as a `T`. A run without data has `null`.
    ///
    /// # Errors
    /// When the data has another shape; the job then fails for good.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        let json = self.job.group.data.as_ref().map_or("null", |data| data.as_json());
        read_input(json).map_err(|error| HandlerError::input(format!("the run's data: {error}")))
    }

    /// Says how far the job is, in percent. Shown with the run once the job has run for half a minute; costs next to
    /// nothing, so say it as often as you like.
    pub fn progress(&self, percent: u8) {
        self.job.progress.tell(percent);
    }

    /// Leaves what the job has come to for its next attempt, should there be one, in place of what was left before. For
    /// long jobs that can go on from somewhere: a page number, an offset, the name of an upload.
    ///
    /// It travels with the job's lease, so within a second or so once the job has run for half a minute, and with the
    /// outcome when the job fails or is handed back, as when the worker stops. A worker that dies before that takes it
    /// along: what a job finds is *a* checkpoint of its, not always the last. Costs little; at most 16 KiB of JSON.
    ///
    /// ```
    /// # use phasework_sdk::{Context, HandlerError, testing::TestContext};
    /// async fn import(pages: u32, ctx: Context) -> Result<u32, HandlerError> {
    ///     let first = ctx.last_checkpoint::<u32>()?.unwrap_or(0);
    ///     for page in first..pages {
    ///         // … import the page, in a way that may happen twice …
    ///         ctx.checkpoint(&(page + 1))?;
    ///     }
    ///     Ok(pages - first)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let call = TestContext::new("Importer").tries(2, 3).checkpoint(&7).call(import, &9).await;
    /// assert_eq!((call.output::<u32>(), call.checkpoints::<u32>()), (2, vec![8, 9]));
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it cannot be written as JSON, or is too large; the job then fails for good.
    pub fn checkpoint(&self, details: &(impl Serialize + ?Sized)) -> Result<(), HandlerError> {
        let wrong = |words: String| HandlerError::output(format!("the checkpoint {words}"));
        let details = Payload::of(details).map_err(|error| wrong(format!("cannot be written as JSON: {error}")))?;
        details.check(MAX_DETAILS_BYTES).map_err(wrong)?;
        self.job.progress.leave(details);
        Ok(())
    }

    /// What an attempt before this one left with [`Context::checkpoint`]; none when none did, or it was lost.
    ///
    /// # Errors
    /// When it has another shape; the job then fails for good.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>, HandlerError> {
        let left = self.job.details.as_ref().map(|left| read_input(left.as_json()));
        left.transpose().map_err(|error| HandlerError::input(format!("the last checkpoint: {error}")))
    }

    /// Done when the result no longer matters: the run was canceled or left the phase, the deadline has passed, or the
    /// worker stops for good. The future of the handler is dropped soon after. An output that it still returns before
    /// that counts, an error does not.
    pub async fn canceled(&self) {
        self.job.canceled.cancelled().await;
    }

    /// Whether the result no longer matters. For loops in [`tokio::task::spawn_blocking`], which cannot be dropped.
    pub fn is_canceled(&self) -> bool {
        self.job.canceled.is_cancelled()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} attempt {})", self.idempotency_key(), self.job.attempt)
    }
}
