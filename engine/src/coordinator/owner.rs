//! The owner of a coordinator queue and of the shards that map onto it: takes what the queue delivers, batch by
//! batch, and does what is due. Who is served by the queue is the owner; ticks tell it so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, BrokerError, Consumer, Delivery, DeliveryTag, Subscription};
use phasework_store::StoreError;
use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::message::event::Tick;
use phasework_workflows::run::Event;
use phasework_workflows::time::{Millis, Timestamp};
use tokio_util::sync::CancellationToken;

use super::aside::Asides;
use super::carry::Left;
use super::hot::HotRuns;
use super::intake::{Happening, Intake, What};
use super::newer::{self, ForNewer};
use super::outbox::Pages;
use super::recover::Recovery;
use super::unsent::Clogged;
use crate::engine::Engine;
use crate::{dead, supervisor, watch};

/// How many runs are woken, swept or removed in one pass.
pub(super) const PASS: usize = 256;

/// How long after a pass what is due is looked at again.
const OVERDUE_AGAIN: Millis = Millis(20);

/// How often an owner sweeps for what was left unpublished, and for ended runs whose time is over.
const SWEEP: Millis = Millis::from_secs(30);

/// The owner of a coordinator queue.
pub(crate) struct Owner {
    pub(super) engine: Engine,
    pub(super) queue: u16,
    pub(super) shards: Vec<Shard>,
    /// The numbers of queues by which these shards map onto this one.
    mappings: BTreeSet<u16>,
    pub(super) hot: HotRuns,
    /// The current epoch.
    pub(super) timeline: watch::Receiver<Option<Arc<str>>>,
    pub(super) recovery: Recovery,
    pub(super) pages: Pages,
    workers: watch::Receiver<u64>,
    /// Runs that cannot be woken because they cannot be read, and when to try again.
    pub(super) shunned: BTreeMap<RunId, Timestamp>,
    /// Where messages got stuck.
    pub(super) clogged: Clogged,
    /// What is for a newer coordinator.
    pub(super) newer: ForNewer,
    pub(super) swept: Timestamp,
    /// When something is due next, as far as is known.
    pub(super) next_due: Option<Timestamp>,
}

/// Why an owner no longer works.
pub(super) enum Stopped {
    /// It was told to.
    Asked,
    /// The broker took the queue away, or the store did not come back.
    Lost,
    /// The queue is for the next in line: this coordinator has more than its share, or is too old for what is in it.
    HandedOver,
    /// So much of what the queue has is for a newer coordinator that nothing else would come.
    Outdated,
}

impl Owner {
    pub(crate) fn new(engine: Engine, queue: u16) -> Self {
        let config = &engine.parts.config;
        Self {
            hot: HotRuns::new(config.cached_runs),
            workers: engine.registry.changes(),
            queue,
            shards: Vec::new(),
            mappings: BTreeSet::new(),
            timeline: engine.timeline.epoch.clone(),
            recovery: Recovery::default(),
            pages: Pages::default(),
            shunned: BTreeMap::new(),
            clogged: Clogged::default(),
            newer: ForNewer::default(),
            swept: Timestamp::default(),
            next_due: None,
            engine,
        }
    }

    /// Works until `shutdown`. A batch under way is finished first.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let config = Arc::clone(&self.engine.parts.config);
        let subscription = Subscription { from: Address::Coordinator(self.queue), prefetch: config.prefetch };
        loop {
            self.disown();
            self.wait_for_store(&shutdown).await;
            let Some(consumer) = supervisor::subscribe(&self.engine.parts.broker, &subscription, &shutdown).await
            else {
                return;
            };
            self.engine.share.lines_up(self.queue);
            match self.serve(consumer, &shutdown).await {
                Stopped::Asked => return,
                Stopped::Lost | Stopped::HandedOver => {}
                Stopped::Outdated => {
                    self.disown();
                    newer::stand_back(self.queue, &shutdown).await;
                }
            }
        }
    }

    fn disown(&mut self) {
        self.engine.share.lock().lost(self.queue);
        self.next_due = None;
        self.hot.clear();
        self.newer.forget();
    }

    async fn wait_for_store(&self, shutdown: &CancellationToken) {
        while let Err(error) = self.engine.parts.store.check().await {
            if let StoreError::Full(_) = error {
                return; // runs that have had their time can be removed, which may be all that helps
            }
            tracing::warn!(queue = self.queue, %error, "the store is away; nothing is taken from the queue meanwhile");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Takes what the queue delivers, until it must not any more. The consumer goes last: what is published is cleared
    /// from the store by then, so that the next owner does not publish it again.
    async fn serve(&mut self, mut consumer: Box<dyn Consumer>, shutdown: &CancellationToken) -> Stopped {
        let parts = &self.engine.parts;
        let mut asides = Asides::new(self.queue, Arc::clone(&parts.broker), parts.config.batch, shutdown.child_token());
        let stopped = self.serve_until(consumer.as_mut(), &mut asides, shutdown).await;
        asides.end(consumer.as_ref()).await;
        self.clear_published().await;
        stopped
    }

    async fn serve_until(
        &mut self,
        consumer: &mut dyn Consumer,
        asides: &mut Asides,
        shutdown: &CancellationToken,
    ) -> Stopped {
        let batch = self.engine.parts.config.batch;
        loop {
            let now = self.engine.parts.clock.now();
            if self.is_owner(now)
                && self.next_due.is_some_and(|due| due <= now)
                && let Err(stopped) = self.wake_due(now, shutdown).await
            {
                return stopped;
            }
            if self.is_owner(now)
                && self.recovery.is_due()
                && let Err(stopped) = self.recover_some(shutdown).await
            {
                return stopped;
            }
            asides.begin();
            // One pass at a time: deliveries and the order to stop come between, however much is due.
            let until_due = self.next_due.filter(|_| self.is_owner(now)).map(|due| due.since(now));
            let until_due = [until_due.map(Duration::from), self.recovery.pause()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Stopped::Asked,
                Some(done) = asides.done() => asides.settle(consumer, done).await,
                // Before deliveries: of those there may be some at any time.
                () = self.timeline.changed(), if self.is_owner(now) => self.begin_anew().await,
                () = self.workers.changed(), if self.is_owner(now) => {
                    if let Err(stopped) = self.wake_awaiting(shutdown).await {
                        return stopped;
                    }
                }
                deliveries = consumer.next(batch) => match deliveries {
                    Ok(deliveries) => if let Err(stopped) = self.take(consumer, &deliveries, asides, shutdown).await {
                        return stopped;
                    },
                    Err(BrokerError::Closed) => return Stopped::Asked,
                    Err(error) => {
                        tracing::warn!(queue = self.queue, %error, "the queue cannot be read");
                        return Stopped::Lost;
                    }
                },
                // The timer of the loop: until the first thing that is due.
                () = tokio::time::sleep(until_due.unwrap_or(Duration::from_secs(3600))) => {}
            }
        }
    }

    fn is_owner(&self, now: Timestamp) -> bool {
        self.engine.share.lock().owns(self.queue, now)
    }

    /// Carries out a batch of deliveries: commit, publish, acknowledge.
    async fn take(
        &mut self,
        consumer: &dyn Consumer,
        deliveries: &[Delivery],
        asides: &mut Asides,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        let parts = &self.engine.parts;
        metrics::counter!("phasework_coordinator_messages_total").increment(deliveries.len() as u64);
        let Intake { happenings, mut dead, services, ticks } = Intake::read(parts, self.queue, deliveries);
        let is_new = self.own(&ticks).await;
        for service in services {
            self.engine.packing.learn(service.handler, service.jobs, service.total_us);
        }
        let Left { unfit, for_newer } = self.carry_out(happenings, shutdown).await?;
        // Of what a newer coordinator takes up, that one sets aside what makes no sense.
        dead.retain(|(place, _)| !for_newer.contains(place));
        for (place, reason) in unfit.into_iter().filter(|(place, _)| !for_newer.contains(place)) {
            let from = Address::Coordinator(self.queue);
            dead.push((place, dead::letter(&self.engine.parts, &from, &deliveries[place], reason)));
        }
        let kept = asides.hold(deliveries, dead);
        let is_kept = |place: &usize| kept.contains(place) || for_newer.contains(place);
        let done = deliveries.iter().enumerate().filter(|(place, _)| !is_kept(place));
        let tags: Vec<DeliveryTag> = done.map(|(_, delivery)| delivery.tag).collect();
        if let Err(error) = consumer.ack(&tags).await {
            // They come again, and change nothing then.
            tracing::debug!(queue = self.queue, %error, "a batch could not be acknowledged");
        }
        self.newer.hold(consumer, deliveries, for_newer).await;
        if self.newer.is_too_much(self.engine.parts.config.prefetch) {
            return Err(Stopped::Outdated);
        }
        let now = self.engine.parts.clock.now();
        if is_new {
            self.wake_awaiting(shutdown).await?;
        }
        if self.engine.share.lock().to_hand_over(self.queue, now) {
            tracing::debug!(queue = self.queue, "the queue is handed over to the next in line");
            self.engine.share.lock().hand_over(self.queue, now);
            return Err(Stopped::HandedOver);
        }
        if is_new || self.clogged.is_over(now) || now.since(self.swept) >= SWEEP {
            self.sweep(now, shutdown).await?;
        }
        Ok(())
    }

    /// Who is served by the queue owns it, for now. Whether that is new: then nothing in memory is believed any more.
    async fn own(&mut self, ticks: &[Tick]) -> bool {
        let now = self.engine.parts.clock.now();
        let (is_new, mappings) = {
            let mut share = self.engine.share.lock();
            ticks.iter().for_each(|tick| share.heard(tick, now));
            (share.served(self.queue, now), share.mappings(now))
        };
        let is_new = is_new || mappings != self.mappings;
        if is_new {
            tracing::debug!(queue = self.queue, "this coordinator owns the queue");
            // What we published ourselves must not be taken for something that was left behind.
            self.clear_published().await;
            self.hot.clear();
            self.hot.listening_since = now;
            self.next_due = Some(now);
            let ours = |shard: &Shard| mappings.iter().any(|queues| shard.queue(*queues) == self.queue);
            self.shards = Shard::all().filter(ours).collect();
            self.mappings = mappings;
            self.look_for_losses().await;
        }
        is_new
    }

    /// Wakes runs whose timer is due.
    async fn wake_due(&mut self, now: Timestamp, shutdown: &CancellationToken) -> Result<(), Stopped> {
        let store = Arc::clone(&self.engine.parts.store);
        self.shunned.retain(|_, until| *until > now);
        let due = match store.due(&self.shards, now, PASS + self.shunned.len()).await {
            Ok(due) => due,
            Err(error) => return self.look_later(now, &error),
        };
        let is_full = due.len() >= PASS;
        self.wake(due.into_iter().filter(|run| !self.shunned.contains_key(run)).collect(), shutdown).await?;
        self.next_due = match store.next_due(&self.shards).await {
            Ok(next) if is_full => next,
            // What is overdue still could not be moved: looked at again, and not at once.
            Ok(next) => next.map(|next| next.max(now.plus(OVERDUE_AGAIN))),
            Err(error) => return self.look_later(now, &error),
        };
        Ok(())
    }

    fn look_later(&mut self, now: Timestamp, error: &StoreError) -> Result<(), Stopped> {
        tracing::warn!(queue = self.queue, %error, "due timers could not be read; trying again");
        self.next_due = Some(now.plus(Millis::from_secs(1)));
        Ok(())
    }

    /// Wakes runs that wait for a worker: one may have come.
    async fn wake_awaiting(&mut self, shutdown: &CancellationToken) -> Result<(), Stopped> {
        match self.engine.parts.store.awaiting_worker(&self.shards, usize::MAX).await {
            Ok(runs) => {
                for runs in runs.chunks(PASS) {
                    self.wake(runs.to_vec(), shutdown).await?;
                }
            }
            // They look for themselves every so often.
            Err(error) => tracing::warn!(queue = self.queue, %error, "runs that wait for a worker could not be read"),
        }
        Ok(())
    }

    pub(super) async fn wake(&mut self, runs: Vec<RunId>, shutdown: &CancellationToken) -> Result<(), Stopped> {
        let wake = || Happening { what: What::Event(Event::Wake), reply: None, delivery: None };
        let happenings = runs.into_iter().map(|run| (run, vec![wake()])).collect();
        self.carry_out(happenings, shutdown).await.map(drop)
    }
}
