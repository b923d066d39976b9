//! One message of a job queue: understands it, starts its jobs as slots come free, hands back what it cannot start.
//!
//! Nothing here can make a job go round in a hot loop: what is handed back because this worker cannot do it now keeps
//! its message, and with that a place of the prefetch, until a slot is free or a pause is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use phasework_broker::{Address, Delivery, DeliveryTag, Message, SharedBroker};
use phasework_workflows::id::SharedIds;
use phasework_workflows::message::job::{Job, JobGroup, Jobs};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::message::{self, Body as _};
use phasework_workflows::time::SharedClock;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::Started;
use crate::batch::{Report, Verdict};
use crate::confirm;
use crate::hosted::{Found, Hosted, find};
use crate::open::{Hold, Open, Ticket};
use crate::slots::Slot;
use crate::stop::Stop;

/// How long after its first job has started the jobs of a pack wait for slots. Then others shall have them.
pub(crate) const PACK_PATIENCE: Duration = Duration::from_millis(50);

/// How long a pack waits for its first slot. Only a handler with several queues holds more packs than it has slots.
pub(crate) const LINE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a job for another version is kept before it is handed back.
pub(crate) const OTHER_VERSION_PAUSE: Duration = Duration::from_secs(1);

/// The most jobs in one message; more is no message that a coordinator sends.
const MAX_JOBS: u64 = 100_000;

/// What every pack of one queue needs.
pub(crate) struct Packs {
    pub(crate) queue: Arc<str>,
    pub(crate) hosted: Arc<[Arc<Hosted>]>,
    pub(crate) open: Arc<Open>,
    pub(crate) reports: UnboundedSender<Report>,
    pub(crate) stop: Stop,
    pub(crate) broker: SharedBroker,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) max_output: usize,
}

/// A job that waits for a slot.
struct Waiting {
    group: Arc<JobGroup>,
    job: Job,
    hold: Hold,
    canceled: CancellationToken,
}

impl Packs {
    /// Does what one message asks for. The message is acknowledged through `settled`, once everything is.
    pub(crate) async fn work(self: Arc<Self>, delivery: Delivery, settled: UnboundedSender<DeliveryTag>) {
        let ticket = Ticket::new(delivery.tag, settled);
        match understand(&delivery) {
            Ok(groups) if delivery.redelivered => self.hand_back_redelivered(groups, &ticket),
            Ok(groups) => self.start(groups, &ticket).await,
            Err(reason) => {
                if self.set_aside(&delivery, reason).await.is_none() {
                    return; // it was not confirmed, so it comes again
                }
            }
        }
        ticket.settle();
    }

    /// A message that was delivered before may have done its work, or have killed the worker that had it. The
    /// coordinator decides: it dispatches again what is not done.
    fn hand_back_redelivered(&self, groups: Vec<JobGroup>, ticket: &Arc<Ticket>) {
        for group in groups {
            let (group, jobs) = take_apart(group);
            for job in jobs {
                // After a lost connection the message of a job that still runs here comes again.
                if !self.open.join(&group, job.index, job.attempt, ticket) {
                    let error = JobError::new("redelivered", "the message came twice");
                    self.report(&group, &job, Verdict::Returned(error), Hold::on(ticket));
                }
            }
        }
    }

    async fn start(&self, groups: Vec<JobGroup>, ticket: &Arc<Ticket>) {
        let mut parts: Vec<(&Arc<Hosted>, VecDeque<Waiting>)> = Vec::new();
        let mut other_versions = Vec::new();
        for group in groups {
            let (group, jobs) = take_apart(group);
            match find(&self.hosted, &group.handler, &group.version) {
                Found::Handler(hosted) => {
                    let waiting = jobs.into_iter().filter_map(|job| self.take_in(&group, job, ticket));
                    match parts.iter_mut().find(|(of, _)| Arc::ptr_eq(of, hosted)) {
                        Some((_, part)) => part.extend(waiting),
                        None => parts.push((hosted, waiting.collect())),
                    }
                }
                Found::OtherVersion => other_versions.push((group, jobs)),
                Found::Nobody => self.refuse(&group, jobs, ticket),
            }
        }
        let starting = join_all(parts.into_iter().map(|(hosted, jobs)| self.start_part(hosted, jobs)));
        tokio::join!(starting, self.hand_back_other_versions(other_versions, ticket));
    }

    fn take_in(&self, group: &Arc<JobGroup>, job: Job, ticket: &Arc<Ticket>) -> Option<Waiting> {
        let (hold, canceled) = self.open.begin(group, job.index, job.attempt, ticket)?;
        Some(Waiting { group: Arc::clone(group), job, hold, canceled })
    }

    /// Starts the jobs of one handler, in order, as its slots come free.
    async fn start_part(&self, hosted: &Arc<Hosted>, mut jobs: VecDeque<Waiting>) {
        let why = self.start_in_turn(hosted, &mut jobs).await;
        let Some(error) = why else { return };
        let busy = &*error.kind == "busy";
        for Waiting { group, job, hold, canceled } in jobs {
            if canceled.is_cancelled() {
                hold.settle();
            } else {
                self.report(&group, &job, Verdict::Returned(error.clone()), hold);
            }
        }
        if busy {
            tokio::select! {
                biased;
                () = self.stop.drain.cancelled() => {}
                _slot = hosted.slots.take() => {}
            }
        }
    }

    /// Starts jobs until none is left, or says why the rest shall be handed back.
    async fn start_in_turn(&self, hosted: &Arc<Hosted>, jobs: &mut VecDeque<Waiting>) -> Option<JobError> {
        let mut patience = Instant::now() + LINE_PATIENCE;
        let mut has_started = false;
        let _turn = tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => return Some(draining()),
            turn = hosted.slots.turn() => turn,
            () = sleep_until(patience) => return Some(busy()),
        };
        while let Some(waiting) = jobs.pop_front() {
            if waiting.canceled.is_cancelled() {
                waiting.hold.settle();
                continue;
            }
            match self.wait_for_slot(hosted, patience).await {
                Ok(slot) => self.spawn(hosted, waiting, slot),
                Err(why) => {
                    jobs.push_front(waiting);
                    return Some(why);
                }
            }
            if !std::mem::replace(&mut has_started, true) {
                patience = Instant::now() + PACK_PATIENCE;
            }
        }
        None
    }

    async fn wait_for_slot(&self, hosted: &Hosted, patience: Instant) -> Result<Slot, JobError> {
        if self.stop.drain.is_cancelled() {
            return Err(draining());
        }
        if let Some(slot) = hosted.slots.try_take() {
            return Ok(slot);
        }
        tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => Err(draining()),
            slot = hosted.slots.take() => Ok(slot),
            () = sleep_until(patience) => Err(busy()),
        }
    }

    fn spawn(&self, hosted: &Arc<Hosted>, waiting: Waiting, slot: Slot) {
        let Waiting { group, job, hold, canceled } = waiting;
        let started = Started {
            hosted: Arc::clone(hosted),
            group,
            job,
            slot,
            hold,
            canceled,
            abandon: self.stop.abandon.clone(),
            max_output: self.max_output,
            reports: self.reports.clone(),
        };
        tokio::spawn(started.run());
    }

    /// Jobs of a handler that is not hosted here fail for good: whoever has the queue read by this worker has to
    /// register the handler with it.
    fn refuse(&self, group: &Arc<JobGroup>, jobs: Vec<Job>, ticket: &Arc<Ticket>) {
        let hosted: Vec<String> =
            self.hosted.iter().map(|hosted| format!("{} {}", hosted.name, hosted.version)).collect();
        let (handler, queue) = (&group.handler, &self.queue);
        let message =
            format!("no handler `{handler}` in a worker that reads `{queue}`; it hosts {}", hosted.join(", "));
        tracing::warn!(run = %group.run, %handler, "{message}");
        for job in jobs {
            let error = JobError::new("unknown-handler", message.clone()).for_good();
            self.report(group, &job, Verdict::Failed(error), Hold::on(ticket));
        }
    }

    /// A queue of a definition's own can be read by workers of several versions, so somebody else may do these.
    async fn hand_back_other_versions(&self, groups: Vec<(Arc<JobGroup>, Vec<Job>)>, ticket: &Arc<Ticket>) {
        if groups.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => {}
            () = sleep(OTHER_VERSION_PAUSE) => {}
        }
        for (group, jobs) in groups {
            let message = format!("this worker has `{}` in other versions than {}", group.handler, group.version);
            for job in jobs {
                let error = JobError::new("other-version", message.clone());
                self.report(&group, &job, Verdict::Returned(error), Hold::on(ticket));
            }
        }
    }

    fn report(&self, group: &Arc<JobGroup>, job: &Job, verdict: Verdict, hold: Hold) {
        let report =
            Report { group: Arc::clone(group), index: job.index, attempt: job.attempt, verdict, service: None, hold };
        self.reports.send(report).ok(); // the reporter is gone when the worker leaves at once
    }

    /// Puts a message that cannot be understood to the dead letters. `None` when the worker leaves before that is
    /// confirmed.
    async fn set_aside(&self, delivery: &Delivery, reason: String) -> Option<()> {
        let queue = format!("jobs.{}", self.queue);
        tracing::warn!(%queue, kind = %delivery.kind, "dead letter: {reason}");
        let kept = &delivery.body[..delivery.body.len().min(DeadLetter::MAX_BODY)];
        let letter = DeadLetter {
            id: self.ids.uuid().to_string().into(),
            reason,
            at: self.clock.now(),
            queue,
            kind: delivery.kind.to_string(),
            body: String::from_utf8_lossy(kept).into_owned(),
            size: delivery.body.len() as u64,
        };
        let letter = Message::new(Address::Dead, DeadLetter::KIND, Bytes::from(message::encode(&letter)));
        let results = confirm::publish(&self.broker, vec![letter], &self.stop.leave).await?;
        if results.iter().any(Result::is_err) {
            tracing::error!("the dead letter is too large for the broker; the message stays unacknowledged");
            return None;
        }
        Some(())
    }
}

fn busy() -> JobError {
    JobError::new("busy", "no slot came free for it in time")
}

fn draining() -> JobError {
    JobError::new("draining", "the worker stops")
}

/// What the jobs share, and the jobs.
fn take_apart(mut group: JobGroup) -> (Arc<JobGroup>, Vec<Job>) {
    let jobs = group.each().collect();
    group.range = None;
    group.jobs = Vec::new();
    (Arc::new(group), jobs)
}

/// Reads a message of a job queue, or says why it is none.
fn understand(delivery: &Delivery) -> Result<Vec<JobGroup>, String> {
    if *delivery.kind != *Jobs::KIND {
        return Err(format!(
            "a message of type `{}` on a job queue; only `{}` belongs there",
            delivery.kind,
            Jobs::KIND
        ));
    }
    let jobs: Jobs = message::decode(&delivery.body).map_err(|error| error.to_string())?;
    let mut count = 0_u64;
    for group in &jobs.groups {
        let (first, ranged) = group.range.unwrap_or((0, 0));
        if first.checked_add(ranged).is_none() {
            return Err(format!("a range of jobs that ends nowhere: {ranged} from {first}"));
        }
        if let Some(job) = group.jobs.iter().find(|job| job.attempt == 0 || job.tried == 0) {
            return Err(format!("job {} without an attempt or a try: both are numbered from 1", job.index));
        }
        count = count.saturating_add(ranged).saturating_add(group.jobs.len() as u64);
    }
    if count > MAX_JOBS {
        return Err(format!("{count} jobs in one message; at most {MAX_JOBS} are taken"));
    }
    Ok(jobs.groups)
}
