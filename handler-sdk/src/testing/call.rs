//! One attempt at one job, as a test sees it: what the handler was given, and what it made of that. Run by the same code
//! as in a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phasework_broker::DeliveryTag;
use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, PhaseName};
use phasework_workflows::message::job::{Job, JobGroup};
use phasework_workflows::message::outcome::{JobError, Outcome};
use phasework_workflows::{Payload, Version};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::attempt::Started;
use crate::batch::Verdict;
use crate::handler::read_input;
use crate::hosted::Hosted;
use crate::lease::Progress;
use crate::list::Pages;
use crate::open::Hold;
use crate::ticket::Ticket;

/// One call of a handler: an attempt at a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The handler.
    pub handler: HandlerName,
    /// Its version.
    pub version: Version,
    /// The phase the run was in.
    pub phase: PhaseName,
    /// Which entry of the run.
    pub entry: EntryNo,
    /// Which job.
    pub index: JobIndex,
    /// Which dispatch of the job, from 1.
    pub attempt: Attempt,
    /// Which try, from 1.
    pub try_number: u32,
    /// What it was given to work on.
    pub given: Payload,
    /// What came of it; none when it was still under way when the run ended.
    pub verdict: Option<Verdict>,
    pub(super) progress: Vec<u8>,
    pub(super) checkpoints: Vec<Payload>,
}

impl Call {
    /// Its input, read as a `T`.
    ///
    /// # Panics
    /// When the input has another shape.
    #[track_caller]
    pub fn input<T: DeserializeOwned>(&self) -> T {
        read_input(self.given.as_json()).unwrap_or_else(|error| panic!("the input of {}: {error}", self.name()))
    }

    /// Its output, read as a `T`.
    ///
    /// # Panics
    /// When it did not do its job, or the output has another shape.
    #[track_caller]
    pub fn output<T: DeserializeOwned>(&self) -> T {
        match &self.verdict {
            Some(Verdict::Done(output)) => read_input(output.as_json())
                .unwrap_or_else(|error| panic!("the output of {}, {output}: {error}", self.name())),
            other => panic!("{} has no output: {other:?}", self.name()),
        }
    }

    /// Why it failed, or was handed back.
    ///
    /// # Panics
    /// When it did its job.
    #[track_caller]
    pub fn error(&self) -> &JobError {
        match &self.verdict {
            Some(Verdict::Failed(error) | Verdict::Returned(error)) => error,
            other => panic!("{} did not fail: {other:?}", self.name()),
        }
    }

    /// Whether it did its job.
    pub fn is_done(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Done(_)))
    }

    /// What it said with [`Context::progress`](crate::Context::progress), in order.
    pub fn progress(&self) -> &[u8] {
        &self.progress
    }

    /// What it left with [`Context::checkpoint`](crate::Context::checkpoint), in order, read as `T`s.
    ///
    /// # Panics
    /// When one has another shape.
    #[track_caller]
    pub fn checkpoints<T: DeserializeOwned>(&self) -> Vec<T> {
        let read = |left: &Payload| read_input(left.as_json());
        let read: Result<_, _> = self.checkpoints.iter().map(read).collect();
        read.unwrap_or_else(|error| panic!("a checkpoint of {}: {error}", self.name()))
    }

    fn name(&self) -> String {
        format!("{} {} attempt {}", self.handler, self.index, self.attempt)
    }
}

/// An attempt that was made.
pub(super) struct Made {
    pub(super) call: Call,
    /// As a worker reports it.
    pub(super) outcome: Outcome,
    /// Of an attempt at a list: its jobs.
    pub(super) listed: Option<Vec<Payload>>,
}

/// An attempt that is about to be made.
pub(super) struct Trial {
    hosted: Arc<Hosted>,
    group: Arc<JobGroup>,
    job: Job,
    canceled: CancellationToken,
    /// Whether it has a slot, and is under way.
    pub(super) has_started: Arc<AtomicBool>,
}

impl Trial {
    pub(super) fn new(hosted: Arc<Hosted>, group: Arc<JobGroup>, job: Job, canceled: CancellationToken) -> Self {
        Self { hosted, group, job, canceled, has_started: Arc::default() }
    }

    /// The call, before anything came of it.
    pub(super) fn call(&self) -> Call {
        Call {
            handler: self.group.handler.clone(),
            version: self.group.version.clone(),
            phase: self.group.phase.clone(),
            entry: self.group.entry,
            index: self.job.index,
            attempt: self.job.attempt,
            try_number: self.job.tried,
            given: self.group.input_of(&self.job),
            verdict: None,
            progress: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Makes the attempt, once it has a slot. The call.
    pub(super) async fn run(self, max_output: usize) -> Call {
        self.report(max_output).await.call
    }

    /// Makes the attempt, once it has a slot. The call, and the outcome as a worker reports it.
    pub(super) async fn report(self, max_output: usize) -> Made {
        let mut call = self.call();
        let slot = self.hosted.slots.take().await;
        self.has_started.store(true, Ordering::Relaxed);
        let list = self.group.enumerate.then(|| Pages::kept(max_output));
        let listed = list.clone();
        let (progress, (reports, mut reported), (settle, _settled)) =
            (Progress::kept(), unbounded_channel(), unbounded_channel());
        let started = Started {
            hosted: self.hosted,
            group: self.group,
            job: self.job,
            slot,
            hold: Hold::on(&Ticket::new(DeliveryTag { generation: 0, number: 0 }, settle)),
            canceled: self.canceled,
            progress: Arc::clone(&progress),
            abandon: CancellationToken::new(),
            max_output,
            list,
            reports,
        };
        started.run().await;
        let report = reported.recv().await.expect("an attempt that has ended is reported");
        let kept = progress.take_kept();
        (call.progress, call.checkpoints) = (kept.percents, kept.checkpoints);
        call.verdict = Some(report.verdict.clone());
        let listed = match listed {
            Some(list) => Some(list.take().await),
            None => None,
        };
        Made { call, outcome: report.outcome(), listed }
    }
}
