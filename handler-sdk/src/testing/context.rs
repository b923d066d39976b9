//! A made-up context, and one call of a handler with it. Talks to no broker.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, PhaseName, RunId, WorkflowName};
use phasework_workflows::message::MAX_PAYLOAD_BYTES;
use phasework_workflows::message::job::{InputSource, Job, JobGroup};
use phasework_workflows::time::Millis;
use phasework_workflows::{Payload, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Trial};
use crate::context::{Context, Current};
use crate::error::HandlerError;
use crate::handler::{read_input, untyped};
use crate::hosted::Hosted;
use crate::lease::Progress;
use crate::list::{JobList, Pages};
use crate::panics;

/// Builds a [`Context`]: job 0 of the first entry of a run, at its first try, with a minute to go.
#[derive(Clone, Debug)]
#[must_use]
pub struct TestContext {
    group: JobGroup,
    index: JobIndex,
    attempt: Option<Attempt>,
    tried: u32,
    details: Option<Payload>,
    canceled: CancellationToken,
}

impl TestContext {
    /// A context for the handler `name`.
    ///
    /// # Panics
    /// When no handler can have that name.
    pub fn new(name: &str) -> Self {
        Self {
            group: group(name),
            index: 0,
            attempt: None,
            tried: 1,
            details: None,
            canceled: CancellationToken::new(),
        }
    }

    /// Of this version of the handler; 1.0.0 unless said otherwise.
    ///
    /// # Panics
    /// When that is no version.
    pub fn version(mut self, version: &str) -> Self {
        self.group.version = version.parse().expect("a version such as 1.2.0");
        self
    }

    /// In this phase of this workflow.
    ///
    /// # Panics
    /// When they cannot have those names.
    pub fn within(mut self, workflow: &str, phase: &str) -> Self {
        self.group.workflow = WorkflowName::new(workflow).expect("a name that a workflow can have");
        self.group.phase = PhaseName::new(phase).expect("a name that a phase can have");
        self
    }

    /// In this run, in this entry of it: what the idempotency key names.
    pub fn run(mut self, run: RunId, entry: EntryNo) -> Self {
        (self.group.run, self.group.entry) = (run, entry);
        self
    }

    /// With this as the run's data.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Self {
        self.group.data = Some(Payload::of(data).expect("data that can be written as JSON"));
        self
    }

    /// For the job with this index.
    pub fn index(mut self, index: JobIndex) -> Self {
        self.index = index;
        self
    }

    /// At this try, of so many.
    pub fn tries(mut self, tried: u32, of: u32) -> Self {
        (self.tried, self.group.max_attempts) = (tried, of);
        self
    }

    /// With what an attempt before this one left.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn checkpoint(mut self, left: &(impl Serialize + ?Sized)) -> Self {
        self.details = Some(Payload::of(left).expect("a checkpoint that can be written as JSON"));
        self
    }

    /// At this attempt, when some before it were handed back; as many as tries unless said otherwise.
    pub fn attempt(mut self, attempt: Attempt) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// With so much time to go. [`TestContext::call`] ends the handler when it is over.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.group.timeout = Millis::from(timeout);
        self
    }

    /// Canceled when `token` is.
    pub fn canceled_by(mut self, token: CancellationToken) -> Self {
        self.canceled = token;
        self
    }

    /// The context, for a handler that the test calls by itself.
    pub fn build(self) -> Context {
        let deadline = Instant::now() + Duration::from(self.group.timeout);
        let (index, attempt, tried, canceled) = (self.index, self.attempt_number(), self.tried, self.canceled);
        let (group, details, progress) = (Arc::new(self.group), self.details, Progress::new(Arc::default()));
        Context::new(Current { group, index, attempt, tried, details, deadline, canceled, progress })
    }

    /// Calls a handler as a worker does: the input goes through JSON, and so does the output; a panic is an outcome; the
    /// handler is dropped when its time is over, and five seconds after it was canceled.
    ///
    /// ```
    /// # use phasework_sdk::{Context, HandlerError, testing::TestContext};
    /// async fn halve(number: u32, ctx: Context) -> Result<u32, HandlerError> {
    ///     ctx.progress(50);
    ///     if number % 2 == 1 {
    ///         return Err(HandlerError::fail(format!("{number} is odd")));
    ///     }
    ///     Ok(number / 2)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let call = TestContext::new("Halver").call(halve, &8).await;
    /// assert_eq!((call.output::<u32>(), call.progress()), (4, &[50][..]));
    /// let call = TestContext::new("Halver").call(halve, &7).await;
    /// assert_eq!((call.error().message.as_str(), call.error().retry), ("7 is odd", false));
    /// let call = TestContext::new("Halver").call(halve, &"seven").await;
    /// assert_eq!(&*call.error().kind, "input");
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the input cannot be written as JSON.
    pub async fn call<I, O, F, Fut>(self, handler: F, input: &(impl Serialize + ?Sized)) -> Call
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        panics::remember_places();
        let input = Some(Payload::of(input).expect("an input that can be written as JSON"));
        let job =
            Job { index: self.index, attempt: self.attempt_number(), tried: self.tried, input, details: self.details };
        let hosted = Hosted::new(self.group.handler.clone(), self.group.version.clone(), untyped(handler), 1);
        let trial = Trial::new(Arc::new(hosted), Arc::new(self.group), job, self.canceled);
        trial.run(MAX_PAYLOAD_BYTES).await
    }

    /// Has a function that lists the jobs of a handler ([`Worker::enumerate`](crate::Worker::enumerate)) list all of them, and
    /// reads each as a `T`.
    ///
    /// ```
    /// # use phasework_sdk::{Context, HandlerError, JobList, testing::TestContext};
    /// async fn squares(upto: u32, jobs: JobList<u32>, _: Context) -> Result<(), HandlerError> {
    ///     for n in 1..=upto {
    ///         jobs.push(n * n).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let jobs: Vec<u32> = TestContext::new("Squarer").list(squares, 3).await.unwrap();
    /// assert_eq!(jobs, [1, 4, 9]);
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the function says; or that a job cannot be read as a `T`.
    pub async fn list<I, J, T, F, Fut>(mut self, enumerate: F, input: I) -> Result<Vec<T>, HandlerError>
    where
        J: Serialize,
        T: DeserializeOwned,
        F: FnOnce(I, JobList<J>, Context) -> Fut,
        Fut: Future<Output = Result<(), HandlerError>>,
    {
        self.group.enumerate = true;
        let pages = Pages::kept(MAX_PAYLOAD_BYTES);
        enumerate(input, JobList::of(Arc::clone(&pages)), self.build()).await?;
        let jobs = pages.take().await.into_iter();
        jobs.map(|job| read_input(job.as_json()).map_err(HandlerError::input)).collect()
    }

    fn attempt_number(&self) -> Attempt {
        self.attempt.unwrap_or(self.tried)
    }
}

/// A group of a handler's version 1.0.0, without jobs.
pub(crate) fn group(handler: &str) -> JobGroup {
    JobGroup {
        run: RunId::new(uuid::Uuid::from_u128(7)),
        workflow: WorkflowName::new("test").expect("a name"),
        phase: PhaseName::new("test").expect("a name"),
        entry: 1,
        nonce: Nonce(11),
        handler: HandlerName::new(handler).expect("a name that a handler can have"),
        version: Version::new(1, 0, 0),
        coordinator: 0,
        timeout: Millis::from_secs(60),
        max_attempts: 3,
        input: InputSource::Index,
        enumerate: false,
        traceparent: None,
        data: None,
        range: None,
        jobs: Vec::new(),
    }
}
