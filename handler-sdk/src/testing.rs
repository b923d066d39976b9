//! For the tests of handlers: a [`Context`] without a worker. Nothing here talks to a broker.
//!
//! ```
//! # use phasework_sdk::{Context, HandlerError, testing::TestContext};
//! async fn greet(name: String, ctx: Context) -> Result<String, HandlerError> {
//!     Ok(format!("{} {name}", ctx.data::<String>()?))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let ctx = TestContext::new("Greeter").data("Hello").build();
//! assert_eq!(greet("Ada".into(), ctx).await, Ok("Hello Ada".to_owned()));
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use phasework_workflows::id::{HandlerName, JobIndex, Nonce, PhaseName, RunId, WorkflowName};
use phasework_workflows::message::job::{InputSource, JobGroup};
use phasework_workflows::time::Millis;
use phasework_workflows::{Payload, Version};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Current};
use crate::lease::Progress;

/// Builds a [`Context`]: job 0 of the first entry of a run, at its first try, with a minute to go.
#[derive(Clone, Debug)]
#[must_use]
pub struct TestContext {
    group: JobGroup,
    index: JobIndex,
    tried: u32,
    canceled: CancellationToken,
}

impl TestContext {
    /// A context for the handler `name`.
    ///
    /// # Panics
    /// When no handler can have that name.
    pub fn new(name: &str) -> Self {
        Self { group: group(name), index: 0, tried: 1, canceled: CancellationToken::new() }
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

    /// With so much time to go. Nothing is done to the handler when it is over.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.group.timeout = Millis::from(timeout);
        self
    }

    /// Canceled when `token` is.
    pub fn canceled_by(mut self, token: CancellationToken) -> Self {
        self.canceled = token;
        self
    }

    /// The context.
    pub fn build(self) -> Context {
        let deadline = Instant::now() + Duration::from(self.group.timeout);
        let (index, tried, canceled, progress) = (self.index, self.tried, self.canceled, Progress::new(Arc::default()));
        Context::new(Current {
            group: Arc::new(self.group),
            index,
            attempt: tried,
            tried,
            deadline,
            canceled,
            progress,
        })
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
        data: None,
        range: None,
        jobs: Vec::new(),
    }
}
