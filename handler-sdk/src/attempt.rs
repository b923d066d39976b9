//! One attempt at one job, or at a list of jobs: asks the handler, with a deadline, and makes a verdict of whatever it does.
//! It reports nothing by itself and acknowledges nothing; a panic of the handler ends here.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use phasework_workflows::Payload;
use phasework_workflows::message::job::{Job, JobGroup};
use phasework_workflows::message::listing::OTHER_LIST;
use phasework_workflows::message::outcome::JobError;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::batch::{Report, Verdict};
use crate::context::{Context, Current};
use crate::error::HandlerError;
use crate::hosted::{Hosted, Outcome};
use crate::lease::Progress;
use crate::list::Pages;
use crate::open::Hold;
use crate::panics;
use crate::slots::Slot;
use crate::trace;

/// How long a handler may go on after its job was canceled, to clean up.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// As a job is handed back that no longer matters. Whoever canceled it need not wait for it any more.
pub(crate) fn canceled() -> JobError {
    JobError::new("canceled", "it was canceled")
}

/// As a list is handed back in whose place another of the same attempt is taken. Nobody else is to make it.
fn other_list() -> JobError {
    JobError::new(OTHER_LIST, "another list of this attempt is taken: it was asked for twice")
}

/// An attempt that has its slot.
pub(crate) struct Started {
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) group: Arc<JobGroup>,
    pub(crate) job: Job,
    pub(crate) slot: Slot,
    pub(crate) hold: Hold,
    pub(crate) canceled: CancellationToken,
    pub(crate) progress: Arc<Progress>,
    pub(crate) abandon: CancellationToken,
    pub(crate) max_output: usize,
    /// Of an attempt at a list: where its jobs go.
    pub(crate) list: Option<Arc<Pages>>,
    pub(crate) reports: UnboundedSender<Report>,
}

/// How an attempt ended.
enum Ended {
    Verdict(Verdict),
    Canceled,
}

impl Started {
    /// Runs the handler, and hands its verdict to the reporter.
    pub(crate) async fn run(self) {
        let span = self.span();
        if let Some(traceparent) = &self.group.traceparent {
            trace::follow(&span, traceparent);
        }
        let began = Instant::now();
        // Caught here and not around the handler alone, as its future can panic when it is dropped, too.
        let handling = AssertUnwindSafe(self.handle(began)).catch_unwind().instrument(span.clone());
        let ended = handling.await.unwrap_or_else(|caught| self.panicked(&*caught));
        let service = began.elapsed();
        let Self { hosted, group, job, slot, hold, progress, list, reports, .. } = self;
        span.in_scope(|| note(&hosted, &ended, service));
        if let Ended::Verdict(Verdict::Failed(error)) = &ended {
            trace::failed(&span, &error.message);
        }
        drop(span); // over before its run can end, and the program with it
        drop(slot);
        let verdict = match ended {
            Ended::Verdict(verdict) => verdict,
            Ended::Canceled if list.is_some_and(|list| list.is_other()) => Verdict::Returned(other_list()),
            Ended::Canceled => Verdict::Returned(canceled()),
        };
        // How long a list takes says nothing about the jobs.
        let counts = !matches!(verdict, Verdict::Returned(_)) && !group.enumerate;
        let service = counts.then_some(service);
        service.into_iter().for_each(|service| hosted.quick.learn(service));
        let left = if matches!(verdict, Verdict::Done(_)) { None } else { progress.left() };
        let report = Report { group, index: job.index, attempt: job.attempt, verdict, left, service, hold };
        reports.send(report).ok(); // the reporter is gone when the worker leaves at once
    }

    fn span(&self) -> tracing::Span {
        let JobGroup { run, workflow, phase, entry, handler, version, .. } = &*self.group;
        let Job { index, attempt, .. } = self.job;
        // Of the highest level, so that warnings keep their run and job when nothing less is logged.
        tracing::error_span!("job", %run, %workflow, %phase, entry, %handler, %version, job = index, attempt)
    }

    async fn handle(&self, began: Instant) -> Ended {
        let allowed = Duration::from(self.group.timeout);
        let deadline = began.checked_add(allowed).unwrap_or_else(|| began + Duration::from_secs(365 * 86_400));
        let context = Context::new(Current {
            group: Arc::clone(&self.group),
            index: self.job.index,
            attempt: self.job.attempt,
            tried: self.job.tried,
            details: self.job.details.clone(),
            deadline,
            canceled: self.canceled.clone(),
            progress: Arc::clone(&self.progress),
        });
        let input = self.group.input_of(&self.job);
        let result = tokio::select! {
            biased;
            result = timeout_at(deadline, async { self.ask(input, context).await }) => result,
            () = self.abandon.cancelled() => {
                self.canceled.cancel();
                let error = JobError::new("draining", "the worker stopped before the handler was done");
                return Ended::Verdict(Verdict::Returned(error));
            }
            () = self.canceled_and_cleaned_up() => return Ended::Canceled,
        };
        // A job that was done all the same is done. Any other end came of the order, and shall not cost a try.
        if self.canceled.is_cancelled() && !matches!(result, Ok(Ok(_))) {
            return Ended::Canceled;
        }
        if result.as_ref().is_ok_and(Result::is_err) && self.list.as_ref().is_some_and(|list| list.is_lost()) {
            self.canceled.cancel();
            let error = JobError::new("list-lost", "what was listed is stored no more");
            return Ended::Verdict(Verdict::Returned(error));
        }
        let result = match result {
            Ok(result) => result.and_then(|output| self.check_size(output)),
            Err(_elapsed) => Err(HandlerError::timeout(self.group.timeout)),
        };
        self.canceled.cancel(); // what the handler has left running is of no use any more
        Ended::Verdict(result.map_or_else(|error| Verdict::Failed(error.into_job_error()), Verdict::Done))
    }

    /// Has the handler do the job, or make its list.
    async fn ask(&self, input: Payload, context: Context) -> Result<Payload, HandlerError> {
        let Some(list) = &self.list else { return (self.hosted.handler)(input, context).await };
        let Some(enumerate) = &self.hosted.enumerate else {
            let Hosted { name, version, .. } = &*self.hosted;
            let words = format!("{name} {version} does not enumerate: its worker has no `.enumerate(…)` for it");
            return Err(HandlerError::no_list(words));
        };
        enumerate(input, Arc::clone(list), context).await?;
        list.seal().await
    }

    fn panicked(&self, caught: &(dyn Any + Send)) -> Ended {
        if self.canceled.is_cancelled() {
            return Ended::Canceled;
        }
        self.canceled.cancel();
        Ended::Verdict(Verdict::Failed(HandlerError::panic(panics::describe(caught)).into_job_error()))
    }

    async fn canceled_and_cleaned_up(&self) {
        self.canceled.cancelled().await;
        sleep(CANCEL_GRACE).await;
    }

    fn check_size(&self, output: Payload) -> Result<Payload, HandlerError> {
        let (size, limit) = (output.len(), self.max_output);
        if size <= limit {
            return Ok(output);
        }
        Err(HandlerError::output(format!(
            "the output has {size} bytes, at most {limit} are taken; store it elsewhere and return where it is"
        )))
    }
}

/// Logs and counts how an attempt ended.
fn note(hosted: &Hosted, ended: &Ended, service: Duration) {
    let outcome = match ended {
        Ended::Canceled => Outcome::Canceled,
        Ended::Verdict(Verdict::Done(_)) => Outcome::Done,
        Ended::Verdict(Verdict::Failed(_)) => Outcome::Failed,
        Ended::Verdict(Verdict::Returned(_)) => Outcome::Returned,
    };
    let (outcome_name, service_ms) = (outcome.as_str(), service.as_secs_f64() * 1e3);
    match ended {
        Ended::Verdict(Verdict::Failed(error) | Verdict::Returned(error)) => {
            tracing::warn!(outcome = outcome_name, kind = %error.kind, retry = error.retry, service_ms, "{}", error.message);
        }
        Ended::Verdict(Verdict::Done(_)) | Ended::Canceled => {
            tracing::debug!(outcome = outcome_name, service_ms, "job ended");
        }
    }
    hosted.meters.ended(outcome, service);
}
