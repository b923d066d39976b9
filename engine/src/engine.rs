//! The one door into an engine, for the API, the command line and programs that embed it: submit, cancel, look, wait.
//! It never writes a run itself: what changes one goes as a message to the run's owner, and is answered after the
//! commit.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, SharedBroker};
use phasework_store::{ListedRun, RunCounts, RunFilter, SharedStore, StoreError, StoredWorkflow};
use phasework_workflows::Payload;
use phasework_workflows::definition::{Problems, Workflow};
use phasework_workflows::id::{Revision, RunId, SharedIds, WorkflowName};
use phasework_workflows::message::event::{Accepted, StartRun};
use phasework_workflows::run::{Event, FailureRecord, Head, HistoryEvent, Moment, Run, RunState, Step, Unreadable};
use phasework_workflows::time::{SharedClock, Timestamp};

use crate::answers::{Ask, Asker};
use crate::config::EngineConfig;
use crate::coordinator::{Audited, Packing, Peer, SharedShare, audit_page};
use crate::ends::EndWatch;
use crate::registry::Registry;
use crate::timeline::Timeline;
use crate::trace;
use crate::workflows::Workflows;

/// The namespace of all runs until there are tenants.
pub const NAMESPACE: &str = "default";

/// The longest key of a submission, in bytes.
pub const MAX_KEY_BYTES: usize = 200;

/// What says what an event makes of a run.
pub type Decide = fn(&Workflow, &mut Run, &Event, Moment) -> Step;

/// The parts an engine is put together from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where runs are kept.
    pub store: SharedStore,
    /// How messages travel.
    pub broker: SharedBroker,
    /// What time it is.
    pub clock: SharedClock,
    /// Where ids come from.
    pub ids: SharedIds,
    /// What decides about runs: [`apply`](phasework_workflows::run::apply()), around which a simulation may look on.
    pub decide: Decide,
    /// The settings.
    pub config: Arc<EngineConfig>,
}

/// The one door in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) parts: Parts,
    pub(crate) workflows: Workflows,
    pub(crate) registry: Registry,
    pub(crate) asker: Asker,
    pub(crate) ends: EndWatch,
    pub(crate) share: SharedShare,
    pub(crate) timeline: Timeline,
    pub(crate) packing: Packing,
}

/// A request for a run.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// What is to run.
    pub what: ToRun,
    /// The run's data; in place of what a definition brings along.
    pub data: Option<Payload>,
    /// Makes the submission safe to repeat.
    pub key: Option<Arc<str>>,
}

/// What is to run.
#[derive(Clone, Debug, Default)]
pub enum ToRun {
    /// Nothing was said.
    #[default]
    Nothing,
    /// A stored workflow; without a revision, the latest.
    Workflow(WorkflowName, Option<Revision>),
    /// A definition, which is stored.
    Definition(String),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no such thing. The text says what, and the nearest there is.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be. The text says why.
    #[error("{0}")]
    Invalid(String),
    /// The definition cannot be. Every problem is listed.
    #[error("the definition has {} problem{}", .0.problems.len(), if .0.problems.len() == 1 { "" } else { "s" })]
    InvalidDefinition(Problems),
    /// It is larger than is taken.
    #[error("{what} of {size} bytes is too large; at most {limit} are taken")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// What is stored of a run is damaged, so nothing can be done about it.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be done now. It may or may not have been done; with a key it is safe to repeat.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(_) => Self::Damaged(error.to_string()),
            StoreError::Unavailable(_)
            | StoreError::Full(_)
            | StoreError::TooLarge { .. }
            | StoreError::Unusable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<Unreadable> for EngineError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Newer { .. } => Self::Unavailable(unreadable.to_string()),
            Unreadable::Damaged(reason) => Self::Damaged(reason),
        }
    }
}

/// A run in a list.
#[derive(Clone, Debug)]
pub struct RunInList {
    /// Which.
    pub run: RunId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its state, or why that cannot be read.
    pub head: Result<Head, Unreadable>,
}

/// A run, looked at closely.
#[derive(Clone, Debug)]
pub struct RunDetail {
    /// Its state.
    pub head: Head,
    /// Its result, once it has one.
    pub output: Option<Payload>,
}

/// As whom they act who submit runs through a queue: the broker tells nobody who published a message.
pub(crate) const AMQP: &str = "amqp";

/// What is known of a request besides what it asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The W3C trace context that it is a part of. One that makes no sense is passed over.
    pub trace: Option<&'a str>,
    /// Who asks, for the history.
    pub actor: Option<&'a str>,
}

impl Engine {
    /// Has a run started; returns once that is durable.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, EngineError> {
        self.submit_as(submission, Request::default()).await
    }

    /// The same, with what else is known of the request.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn submit_as(&self, submission: Submission, request: Request<'_>) -> Result<Accepted, EngineError> {
        let start = self.prepare(submission, request).await?;
        let run = start.run;
        self.asker.ask(run, Ask::Start(start)).await
    }

    /// Turns a request into an order to the run's owner: the workflow is found or stored, the run's id chosen.
    pub(crate) async fn prepare(
        &self,
        submission: Submission,
        Request { trace, actor }: Request<'_>,
    ) -> Result<StartRun, EngineError> {
        let Submission { what, data, key } = submission;
        let (workflow, revision, brought) = match what {
            ToRun::Nothing => {
                return Err(EngineError::Invalid("say what to run: a workflow's name, or a definition".into()));
            }
            ToRun::Workflow(name, revision) => {
                let stored = self.workflows.find(&name, revision.as_ref()).await?;
                (stored.name.clone(), stored.revision.clone(), None)
            }
            ToRun::Definition(text) => {
                let document = self.workflows.check(&text)?;
                let (workflow, _) = self.workflows.put(&document.workflow, self.parts.clock.now()).await?;
                (workflow.name.clone(), workflow.revision.clone(), document.data)
            }
        };
        let data = data.or(brought);
        let limit = self.parts.config.max_payload_bytes;
        if let Some(size) = data.as_ref().map(Payload::len).filter(|&size| size > limit) {
            return Err(EngineError::TooLarge { what: "run data", size, limit });
        }
        if let Some(Err(words)) = data.as_ref().map(|data| data.check(limit)) {
            return Err(EngineError::Invalid(format!("`data` {words}")));
        }
        let run = match &key {
            Some(key) if key.is_empty() || key.len() > MAX_KEY_BYTES => {
                return Err(EngineError::Invalid(format!(
                    "a key has 1 to {MAX_KEY_BYTES} bytes; this one has {}",
                    key.len()
                )));
            }
            Some(key) => RunId::from_key(NAMESPACE, &workflow, key),
            None => RunId::new(self.parts.ids.uuid()),
        };
        let trace = trace.and_then(trace::sound);
        let traceparent = self.parts.config.submitted(run, &workflow, trace, self.parts.clock.now());
        let actor = actor.map(Arc::from);
        Ok(StartRun { run, workflow, revision, key, data, reply: None, traceparent, actor })
    }

    /// A run.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such run.
    pub async fn run(&self, run: RunId) -> Result<RunDetail, EngineError> {
        let stored = self.parts.store.load(&[run]).await?.pop().flatten();
        let stored = stored.ok_or_else(|| EngineError::NotFound(format!("there is no run {run}")))?;
        let head = Head::from_json(&stored.head)?;
        let output = if head.has_output { self.parts.store.output(run).await? } else { None };
        Ok(RunDetail { head, output })
    }

    /// A run, once it has ended or halted, or as it is after `timeout`.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such run.
    pub async fn wait(&self, run: RunId, timeout: Duration) -> Result<RunDetail, EngineError> {
        /// How often to look besides being told: an announcement may be lost.
        const LOOK: Duration = Duration::from_secs(1);
        let deadline = tokio::time::Instant::now() + timeout;
        let mut told = self.ends.watch(run);
        loop {
            let detail = self.run(run).await?;
            let is_over = detail.head.state.is_ended() || detail.head.state == RunState::Halted;
            if is_over || tokio::time::Instant::now() >= deadline {
                return Ok(detail);
            }
            let look = deadline.min(tokio::time::Instant::now() + LOOK);
            tokio::select! {
                biased;
                () = told.ended() => {}
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    /// Runs, newest first, those that cannot be read among them.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunInList>, EngineError> {
        let runs = self.parts.store.runs(filter).await?;
        let read = |ListedRun { run, created_at, head }| RunInList { run, created_at, head: Head::from_json(&head) };
        Ok(runs.into_iter().map(read).collect())
    }

    /// How many runs there are.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn run_counts(&self) -> Result<RunCounts, EngineError> {
        Ok(self.parts.store.run_counts().await?)
    }

    /// What happened to a run, after event number `after`.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn history(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<HistoryEvent>, EngineError> {
        Ok(self.parts.store.history(run, after, limit).await?)
    }

    /// The jobs of a run that failed for good.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn failures(&self, run: RunId, skip: usize, limit: usize) -> Result<Vec<FailureRecord>, EngineError> {
        Ok(self.parts.store.failures(run, skip, limit).await?)
    }

    /// The data a run was given.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn run_data(&self, run: RunId) -> Result<Option<Payload>, EngineError> {
        Ok(self.parts.store.data(run).await?)
    }

    /// Checks a definition without storing it.
    ///
    /// # Errors
    /// [`EngineError::InvalidDefinition`] with every problem.
    pub fn validate(&self, text: &str) -> Result<phasework_workflows::definition::Document, EngineError> {
        self.workflows.check(text)
    }

    /// Stores a definition; whether its revision is new.
    ///
    /// # Errors
    /// [`EngineError::InvalidDefinition`] with every problem.
    pub async fn apply_workflow(&self, text: &str) -> Result<(Arc<Workflow>, bool), EngineError> {
        let document = self.workflows.check(text)?;
        self.workflows.put(&document.workflow, self.parts.clock.now()).await
    }

    /// The latest definition of every name.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn workflows(&self) -> Result<Vec<StoredWorkflow>, EngineError> {
        Ok(self.parts.store.workflows().await?)
    }

    /// A definition; the latest when no revision is given.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], with the nearest name.
    pub async fn workflow(
        &self,
        name: &WorkflowName,
        revision: Option<&Revision>,
    ) -> Result<StoredWorkflow, EngineError> {
        self.workflows.find(name, revision).await
    }

    /// The parts this engine is put together from.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The workers that are known, live ones and those lately gone.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many messages wait in a job queue (`PageDownloader.1.2.0`).
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn queue_depth(&self, queue: &str) -> Result<u64, EngineError> {
        let depth = self.parts.broker.depth(&Address::Jobs(queue.into())).await;
        depth.map_err(|error| EngineError::Unavailable(error.to_string()))
    }

    /// How many coordinator queues are served by this engine right now.
    pub fn queues_owned(&self) -> usize {
        self.share.owned(self.parts.clock.now())
    }

    /// The coordinators that live, as far as this one knows.
    pub(crate) fn coordinators(&self) -> Vec<Peer> {
        self.share.peers(self.parts.clock.now())
    }

    /// Looks at live runs, the one made last first, and tells what breaks an invariant.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn audit(&self, before: Option<(Timestamp, RunId)>, limit: usize) -> Result<Audited, EngineError> {
        Ok(audit_page(self, before, limit, |_| true).await?)
    }

    /// Whether this engine can work right now; otherwise every reason why not.
    pub async fn readiness(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(error) = self.parts.broker.health() {
            reasons.push(format!("broker: {error}"));
        }
        if let Err(error) = self.parts.store.check().await {
            reasons.push(format!("store: {error}"));
        }
        if reasons.is_empty() && self.is_starting() {
            reasons.push("starting: broker and store are being compared".to_owned());
        }
        reasons
    }

    /// What should be seen to although this engine works.
    pub fn warnings(&self) -> Vec<String> {
        let newer = self.share.newest_met().map(|format| Unreadable::Newer { format });
        newer.map(|newer| format!("runs wait for a newer coordinator: their {newer}")).into_iter().collect()
    }

    /// Whether this engine has not begun to work: broker and store have to be compared first, which takes a moment once
    /// both are there.
    pub fn is_starting(&self) -> bool {
        self.timeline.epoch.get().is_none()
    }

    /// Returns once this engine works: what is submitted then is taken at once.
    pub async fn until_ready(&self) {
        /// How often to look whether broker and store are there.
        const LOOK: Duration = Duration::from_millis(100);
        let mut epoch = self.timeline.epoch.clone();
        while epoch.see().is_none() {
            epoch.changed().await;
        }
        while !self.readiness().await.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
