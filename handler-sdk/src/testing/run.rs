//! Setting up a run to be tested: its definition, its data, its handlers. Running it is the driver's.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use phasework_broker::memory::MemoryBroker;
use phasework_workflows::Payload;
use phasework_workflows::definition::{Document, parse};
use phasework_workflows::id::HandlerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::driver::Driver;
use super::ended::EndedRun;
use super::given::{Failing, Given, Mock};
use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::untyped;
use crate::worker::{Worker, WorkerError};

/// Why a run could not be tested. Tests may return it, or unwrap it: its message is the same either way.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// The definition is not sound.
    #[error("the definition has {0}")]
    Definition(String),
    /// What was set up makes no sense. Every problem is named.
    #[error("the test is not set up right: {}", .0.join("; "))]
    Setup(Vec<String>),
    /// The run does not go on, and has not ended.
    #[error("the run waits for something that a test cannot give: {0}")]
    Stuck(String),
}

impl fmt::Debug for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A run of a workflow, in memory.
///
/// What happens next in it is decided by the state machine that coordinators use, and each attempt is made by the code
/// that workers use. What is not there is what lies between them: queues, a store, leases, and whatever fails of that.
///
/// While no handler is at work the run's time moves to when the next thing is due, so that retries after hours take no
/// time. Handlers that wait themselves wait in tokio's time; with `#[tokio::test(start_paused = true)]`, which needs
/// tokio's feature `test-util`, that takes no time either. The same setup gives the same run: no chance is involved.
#[must_use]
pub struct TestRun {
    definition: String,
    data: Option<Payload>,
    key: Option<String>,
    worker: Worker,
    mocks: Vec<Mock>,
    failing: Vec<Failing>,
    last: Option<HandlerName>,
    problems: Vec<String>,
}

impl TestRun {
    /// A run of this definition: its text, or a [`serde_json::Value`].
    #[expect(clippy::needless_pass_by_value, reason = "`json!` at the call should do")]
    pub fn of(definition: impl ToString) -> Self {
        Self {
            definition: definition.to_string(),
            data: None,
            key: None,
            worker: Worker::new(Arc::new(MemoryBroker::new())),
            mocks: Vec::new(),
            failing: Vec::new(),
            last: None,
            problems: Vec::new(),
        }
    }

    /// With this data, in place of what the definition may bring.
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Self {
        match Payload::of(data) {
            Ok(data) => self.data = Some(data),
            Err(error) => self.problems.push(format!("the data cannot be written as JSON: {error}")),
        }
        self
    }

    /// Submitted with this key, which expressions see as `run.key`.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// With this handler, as [`Worker::handler`] takes it.
    pub fn handler<I, O, F, Fut>(mut self, name: &str, version: &str, handler: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        self.worker = self.worker.handler(name, version, handler);
        self.last = HandlerName::new(name).ok();
        self
    }

    /// With the handlers that a program gives to its worker.
    ///
    /// ```
    /// # use phasework_sdk::{Context, HandlerError, Worker, testing::TestRun};
    /// # async fn greet(name: String, _: Context) -> Result<String, HandlerError> { Ok(name) }
    /// fn handlers(worker: Worker) -> Worker {
    ///     worker.handler("Greeter", "1.0.0", greet).concurrency(64)
    /// }
    ///
    /// # const DEFINITION: &str = "";
    /// let test = TestRun::of(DEFINITION).worker(handlers); // and handlers(Worker::from_env()?).run() in main
    /// ```
    pub fn worker(mut self, handlers: impl FnOnce(Worker) -> Worker) -> Self {
        self.worker = handlers(self.worker);
        self.last = None;
        self
    }

    /// With a made-up handler, whatever version is wanted: its input in, its output out. It goes before a real one of
    /// the same name.
    pub fn mock(self, name: &str, output: impl Fn(Value) -> Value + Send + Sync + 'static) -> Self {
        self.mock_with(name, move |input, _| Ok(output(input)))
    }

    /// With a made-up handler that may look at its [`Context`], and fail.
    pub fn mock_with(
        mut self,
        name: &str,
        result: impl Fn(Value, Context) -> Result<Value, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        match HandlerName::new(name) {
            Ok(name) => {
                let handler = untyped(move |input: Value, context| std::future::ready(result(input, context)));
                self.last = Some(name.clone());
                self.mocks.push(Mock { name, handler });
            }
            Err(error) => self.problems.push(error.to_string()),
        }
        self
    }

    /// Has each job of the handler just added fail at its first tries, so many, before the handler is asked.
    pub fn failing(mut self, tries: u32, error: HandlerError) -> Self {
        match &self.last {
            Some(name) => self.failing.push(Failing { name: name.clone(), tries, error }),
            None => self.problems.push("`failing` is said before any handler".to_owned()),
        }
        self
    }

    /// Runs it until it has ended or halted.
    ///
    /// # Errors
    /// When the definition is not sound, a handler that it needs is not given, or the run waits for what cannot come.
    pub async fn run(mut self) -> Result<EndedRun, TestError> {
        let document = parse(&self.definition).map_err(|problems| TestError::Definition(problems.to_string()))?;
        let Document { workflow, data, .. } = document;
        let mut problems = std::mem::take(&mut self.problems);
        let hosted = match self.worker.handlers_for_test() {
            Ok(hosted) => hosted,
            Err(WorkerError::Setup(more)) => {
                problems.extend(more);
                Vec::new()
            }
            Err(other) => {
                problems.push(other.to_string());
                Vec::new()
            }
        };
        let (mocks, failing) = (self.mocks, self.failing);
        let mut given = Given { hosted, mocks, failing, found: BTreeMap::new() };
        if !problems.is_empty() {
            return Err(TestError::Setup(problems));
        }
        given.find_all(&workflow).map_err(TestError::Setup)?;
        Driver::start(workflow, given, self.data.or(data), self.key.as_deref()).run().await
    }
}

impl fmt::Debug for TestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestRun({})", self.definition)
    }
}
