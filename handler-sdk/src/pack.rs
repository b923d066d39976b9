//! One message of a job queue: understands it, starts its jobs as slots come free, hands back what it cannot start.
//!
//! Nothing here makes a job go round in a hot loop: what is handed back because all slots are taken keeps its message,
//! and with that a place of the prefetch, until a slot is free; what another worker has to do, the coordinator keeps
//! for a while before it sends it again.

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
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::Started;
use crate::batch::{Report, Verdict};
use crate::confirm;
use crate::hosted::{Found, Handlers, Hosted};
use crate::open::{Hold, Open, Ticket};
use crate::slots::Slot;
use crate::stop::Stop;

/// How long after its first job has started the jobs of a pack wait for slots. Then others shall have them.
pub(crate) const PACK_PATIENCE: Duration = Duration::from_millis(50);

/// How long a pack waits for its first slot. Only a handler with several queues holds more packs than it has slots.
pub(crate) const LINE_PATIENCE: Duration = Duration::from_secs(1);

/// The most jobs in one message; more is no message that a coordinator sends.
const MAX_JOBS: u64 = 100_000;

/// What every pack of one queue needs.
pub(crate) struct Packs {
    pub(crate) queue: Arc<str>,
    pub(crate) handlers: Arc<Handlers>,
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
        let Understood { groups, bad } = understand(&delivery);
        if delivery.redelivered {
            self.hand_back_redelivered(groups, &ticket);
        } else {
            self.start(groups, &ticket).await;
        }
        if self.set_aside(&delivery, bad).await.is_none() {
            return; // it was not confirmed, so it comes again
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
        for group in groups {
            let (group, jobs) = take_apart(group);
            match self.handlers.find(&group.handler, &group.version) {
                Found::Handler(hosted) => {
                    let waiting = jobs.into_iter().filter_map(|job| self.take_in(&group, job, ticket));
                    match parts.iter_mut().find(|(of, _)| Arc::ptr_eq(of, hosted)) {
                        Some((_, part)) => part.extend(waiting),
                        None => parts.push((hosted, waiting.collect())),
                    }
                }
                Found::OtherWorker => self.hand_back_for_others(&group, jobs, ticket),
                Found::Nobody => self.refuse(&group, jobs, ticket),
            }
        }
        join_all(parts.into_iter().map(|(hosted, jobs)| self.start_part(hosted, jobs))).await;
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
        let hosted: Vec<String> = self.handlers.hosted.iter().map(|h| format!("{} {}", h.name, h.version)).collect();
        let (handler, queue) = (&group.handler, &self.queue);
        let message =
            format!("no handler `{handler}` in a worker that reads `{queue}`; it hosts {}", hosted.join(", "));
        tracing::warn!(run = %group.run, %handler, "{message}");
        for job in jobs {
            let error = JobError::new("unknown-handler", message.clone()).for_good();
            self.report(group, &job, Verdict::Failed(error), Hold::on(ticket));
        }
    }

    /// A queue of a definition's own can be read by workers with other versions, so somebody else may do these. The
    /// coordinator waits a second before it sends them again.
    fn hand_back_for_others(&self, group: &Arc<JobGroup>, jobs: Vec<Job>, ticket: &Arc<Ticket>) {
        let message = format!("this worker does not host `{}` {}", group.handler, group.version);
        for job in jobs {
            let error = JobError::new("other-version", message.clone());
            self.report(group, &job, Verdict::Returned(error), Hold::on(ticket));
        }
    }

    fn report(&self, group: &Arc<JobGroup>, job: &Job, verdict: Verdict, hold: Hold) {
        let report =
            Report { group: Arc::clone(group), index: job.index, attempt: job.attempt, verdict, service: None, hold };
        self.reports.send(report).ok(); // the reporter is gone when the worker leaves at once
    }

    /// Puts what cannot be understood to the dead letters. `None` when that is not confirmed before the worker leaves.
    async fn set_aside(&self, delivery: &Delivery, bad: Vec<Bad>) -> Option<()> {
        if bad.is_empty() {
            return Some(());
        }
        let letters = bad.into_iter().map(|bad| self.letter(delivery, bad)).collect();
        let results = confirm::publish(&self.broker, letters, &self.stop.leave).await?;
        if results.iter().any(Result::is_err) {
            tracing::error!(queue = %self.queue, "a dead letter is too large for the broker; its message is kept");
            return None;
        }
        Some(())
    }

    fn letter(&self, delivery: &Delivery, bad: Bad) -> Message {
        let Bad { body, reason } = bad;
        tracing::warn!(queue = %self.queue, kind = %delivery.kind, "dead letter: {reason}");
        let letter = DeadLetter {
            id: self.ids.uuid().to_string().into(),
            reason,
            at: self.clock.now(),
            queue: format!("jobs.{}", self.queue),
            kind: delivery.kind.to_string(),
            body: String::from_utf8_lossy(&body[..body.len().min(DeadLetter::MAX_BODY)]).into_owned(),
            size: body.len() as u64,
        };
        Message::new(Address::Dead, DeadLetter::KIND, Bytes::from(message::encode(&letter)))
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

/// What a message asks for, and what of it cannot be understood.
struct Understood {
    groups: Vec<JobGroup>,
    bad: Vec<Bad>,
}

/// A message, or a group of one, that cannot be understood, and why.
struct Bad {
    body: Bytes,
    reason: String,
}

/// Reads a message of a job queue. A bad group does not keep the others from being done.
fn understand(delivery: &Delivery) -> Understood {
    let whole = |reason| Understood { groups: Vec::new(), bad: vec![Bad { body: delivery.body.clone(), reason }] };
    if *delivery.kind != *Jobs::KIND {
        let kind = &delivery.kind;
        return whole(format!("a message of type `{kind}` on a job queue; only `{}` belongs there", Jobs::KIND));
    }
    let (read, unread) = match message::decode_batch::<Jobs>(&delivery.body) {
        Ok(decoded) => decoded,
        Err(error) => return whole(error.to_string()),
    };
    let unread = unread.into_iter().map(|item| Bad { body: item.body.into(), reason: item.reason.to_string() });
    let mut understood = Understood { groups: Vec::new(), bad: unread.collect() };
    let mut jobs = 0;
    for group in read {
        match check(&group, jobs) {
            Ok(count) => {
                jobs += count;
                understood.groups.push(group);
            }
            Err(reason) => {
                let body = message::encode(&Jobs { groups: vec![group] }).into();
                understood.bad.push(Bad { body, reason });
            }
        }
    }
    understood
}

/// How many jobs a group has, when it makes sense after so many others of its message.
fn check(group: &JobGroup, before: u64) -> Result<u64, String> {
    let (first, ranged) = group.range.unwrap_or((0, 0));
    if first.checked_add(ranged).is_none() {
        return Err(format!("a range of jobs that ends nowhere: {ranged} from {first}"));
    }
    if let Some(job) = group.jobs.iter().find(|job| job.attempt == 0 || job.tried == 0) {
        return Err(format!("job {} without an attempt or a try: both are numbered from 1", job.index));
    }
    let count = ranged.saturating_add(group.jobs.len() as u64);
    let all = before.saturating_add(count);
    if all > MAX_JOBS { Err(format!("{all} jobs in one message; at most {MAX_JOBS} are taken")) } else { Ok(count) }
}
