//! One message of a job queue: understands it, starts its jobs as slots come free, hands back what it cannot start.
//!
//! Nothing here makes a job go round in a hot loop: what is handed back because all slots are taken keeps its message,
//! and with that a place of the prefetch, until a slot is free and a limit lets one start; what another worker has to do, the coordinator keeps
//! for a while before it sends it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use phasework_broker::{Address, Delivery, DeliveryTag, Message, SharedBroker};
use phasework_workflows::id::{Nonce, SharedIds};
use phasework_workflows::message::job::{Job, JobGroup};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::message::probe::Probe;
use phasework_workflows::message::{self, Body as _};
use phasework_workflows::time::SharedClock;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::asked::{Asked, Bad, Understood, take_apart, understand};
use crate::attempt::{Started, canceled};
use crate::batch::{Report, Verdict};
use crate::confirm;
use crate::hosted::{Found, Handlers, Hosted};
use crate::lease::Progress;
use crate::list::{Heard, Pages, Way};
use crate::open::{Begun, Hold, Open};
use crate::probe;
use crate::rate::{RATE_PATIENCE, Rate};
use crate::slots::Slot;
use crate::stop::Stop;
use crate::ticket::Ticket;

/// How long after its first job has started the jobs of a pack wait for slots. Then others shall have them.
pub(crate) const PACK_PATIENCE: Duration = Duration::from_millis(50);

/// How long a pack waits for its first slot. Only a handler with several queues holds more packs than it has slots.
pub(crate) const LINE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the message of a pack that was handed back keeps its place in the prefetch while no slot comes free. With
/// every slot leased that may be hours, and RabbitMQ takes a message away after 30 minutes, with all others of its
/// queue. After that another pack comes, and goes back; a worker whose slots are all leased does that about once in this
/// time for each slot, and not all the time.
pub(crate) const PLACE_KEPT: Duration = Duration::from_secs(300);

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
    /// The worker, and the full name of its private queue.
    pub(crate) worker: Arc<str>,
    pub(crate) reply: Arc<str>,
}

/// A job that waits for a slot.
struct Waiting {
    group: Arc<JobGroup>,
    job: Job,
    hold: Hold,
    canceled: CancellationToken,
    progress: Arc<Progress>,
    heard: Option<watch::Receiver<Heard>>,
}

impl Packs {
    /// Does what one message asks for. The message is acknowledged through `settled`, once everything is.
    pub(crate) async fn work(self: Arc<Self>, delivery: Delivery, settled: UnboundedSender<DeliveryTag>) {
        let ticket = Ticket::new(delivery.tag, settled);
        let Understood { asked, bad } = understand(&delivery);
        match asked {
            Asked::Jobs(groups) if delivery.redelivered => self.hand_back_redelivered(groups, &ticket),
            Asked::Jobs(groups) => self.start(groups, &ticket).await,
            Asked::Probes(probes) => {
                if self.send_back(probes).await.is_none() {
                    return; // as below
                }
            }
        }
        if self.set_aside(&delivery, bad).await.is_none() {
            return; // it was not confirmed, so it comes again
        }
        ticket.settle();
    }

    /// Sends probes back, redelivered or not: they ask what has become of the queue, and not of a job. `None` when that
    /// is not confirmed before the worker leaves.
    async fn send_back(&self, probes: Vec<Probe>) -> Option<()> {
        if probes.is_empty() {
            return Some(());
        }
        let results = confirm::publish_all(&self.broker, probe::returned(probes), &self.stop.leave).await?;
        if results.iter().any(Result::is_err) {
            // It came through this broker, so it is not larger than that takes. The coordinator sends another.
            tracing::error!(queue = %self.queue, "a probe is too large to be sent back");
        }
        Some(())
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
        let now = Instant::now();
        let mut parts: Vec<(&Arc<Hosted>, VecDeque<Waiting>)> = Vec::new();
        for group in groups {
            let (group, jobs) = take_apart(group);
            match self.handlers.find(&group.handler, &group.version) {
                Found::Handler(hosted) => {
                    let waiting = jobs.into_iter().filter_map(|job| self.take_in(&group, job, ticket, now));
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

    fn take_in(&self, group: &Arc<JobGroup>, job: Job, ticket: &Arc<Ticket>, now: Instant) -> Option<Waiting> {
        let Begun { hold, canceled, progress, heard } = self.open.begin(group, job.index, job.attempt, ticket, now)?;
        Some(Waiting { group: Arc::clone(group), job, hold, canceled, progress, heard })
    }

    /// Starts the jobs of one handler, in order, as its slots come free.
    async fn start_part(&self, hosted: &Arc<Hosted>, mut jobs: VecDeque<Waiting>) {
        let why = self.start_in_turn(hosted, &mut jobs).await;
        let Some(error) = why else { return };
        let busy = &*error.kind == "busy";
        for Waiting { group, job, hold, canceled: token, .. } in jobs {
            let error = if token.is_cancelled() { canceled() } else { error.clone() };
            self.report(&group, &job, Verdict::Returned(error), hold);
        }
        if busy {
            tokio::select! {
                biased;
                () = self.stop.drain.cancelled() => {}
                () = hosted.room() => {}
                () = sleep(PLACE_KEPT) => {}
            }
        }
    }

    /// Starts jobs until none is left, or says why the rest shall be handed back.
    async fn start_in_turn(&self, hosted: &Arc<Hosted>, jobs: &mut VecDeque<Waiting>) -> Option<JobError> {
        let came = Instant::now();
        let mut patience = came + LINE_PATIENCE;
        // A handler with a limit has packs wait for that longer than for a slot.
        let in_line = if hosted.rate.is_some() { came + RATE_PATIENCE } else { patience };
        let mut has_started = false;
        let _turn = tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => return Some(draining()),
            turn = hosted.slots.turn() => turn,
            () = sleep_until(in_line) => return Some(busy()),
        };
        while let Some(waiting) = jobs.pop_front() {
            let mut room = self.wait_for_slot(hosted, &waiting.canceled, patience).await;
            if let (Ok(_), Some(rate)) = (&room, &hosted.rate) {
                room = self.wait_for_rate(rate, &waiting.canceled, in_line).await.and(room);
                patience = Instant::now() + PACK_PATIENCE;
            }
            match room {
                Ok(slot) => {
                    self.run(hosted, waiting, slot);
                    // Not all of a long pack without a pause, should it be run here.
                    consume_budget().await;
                }
                Err(why) if waiting.canceled.is_cancelled() => {
                    self.report(&waiting.group, &waiting.job, Verdict::Returned(why), waiting.hold);
                    continue;
                }
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

    async fn wait_for_slot(
        &self,
        hosted: &Hosted,
        order: &CancellationToken,
        patience: Instant,
    ) -> Result<Slot, JobError> {
        if order.is_cancelled() {
            return Err(canceled());
        }
        if self.stop.drain.is_cancelled() {
            return Err(draining());
        }
        if let Some(slot) = hosted.slots.try_take() {
            return Ok(slot);
        }
        tokio::select! {
            biased;
            () = order.cancelled() => Err(canceled()),
            () = self.stop.drain.cancelled() => Err(draining()),
            slot = hosted.slots.take() => Ok(slot),
            () = sleep_until(patience) => Err(busy()),
        }
    }

    /// Waits until a limit lets a job start, and counts it; not at all when that is later than `until`.
    async fn wait_for_rate(&self, rate: &Rate, order: &CancellationToken, until: Instant) -> Result<(), JobError> {
        loop {
            let Err(free) = rate.start(Instant::now()) else { return Ok(()) };
            let Some(free) = free.filter(|&free| free <= until) else { return Err(over_the_limit()) };
            tokio::select! {
                biased;
                () = order.cancelled() => return Err(canceled()),
                () = self.stop.drain.cancelled() => return Err(draining()),
                () = sleep_until(free) => {}
            }
        }
    }

    /// Has a job run, in a task of its own unless it is over at once.
    fn run(&self, hosted: &Arc<Hosted>, waiting: Waiting, slot: Slot) {
        let Waiting { group, job, hold, canceled, progress, heard } = waiting;
        let list = heard.map(|heard| {
            let number = Nonce::from_random(self.ids.random());
            hold.makes(number);
            let way = Way {
                broker: Arc::clone(&self.broker),
                group: Arc::clone(&group),
                attempt: job.attempt,
                list: number,
                worker: Arc::clone(&self.worker),
                reply: Arc::clone(&self.reply),
                heard,
                canceled: canceled.clone(),
                leave: self.stop.leave.clone(),
            };
            Pages::sent(way, self.max_output)
        });
        let started = Started {
            hosted: Arc::clone(hosted),
            group,
            job,
            slot,
            hold,
            canceled,
            progress,
            abandon: self.stop.abandon.clone(),
            max_output: self.max_output,
            list,
            reports: self.reports.clone(),
        };
        if !hosted.quick.is_quick() {
            tokio::spawn(started.run());
            return;
        }
        let mut running = Box::pin(started.run());
        if running.as_mut().now_or_never().is_none() {
            tokio::spawn(running);
        }
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
        let (group, left) = (Arc::clone(group), None);
        let report = Report { group, index: job.index, attempt: job.attempt, verdict, left, service: None, hold };
        self.reports.send(report).ok(); // the reporter is gone when the worker leaves at once
    }

    /// Puts what cannot be understood to the dead letters. `None` when that is not confirmed before the worker leaves.
    async fn set_aside(&self, delivery: &Delivery, bad: Vec<Bad>) -> Option<()> {
        if bad.is_empty() {
            return Some(());
        }
        let letters = bad.into_iter().map(|bad| self.letter(delivery, bad)).collect();
        let results = confirm::publish_all(&self.broker, letters, &self.stop.leave).await?;
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

fn over_the_limit() -> JobError {
    JobError::new("busy", "the rate limit of its handler lets it start later only")
}

fn draining() -> JobError {
    JobError::new("draining", "the worker stops")
}
