//! One shift of a worker, from the first subscription to the goodbye. The only place that knows all of its parts, and
//! the order in which they stop: take nothing new, finish, hand back, report, acknowledge, say goodbye.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, BrokerError, Consumer, SharedBroker, Subscription};
use phasework_workflows::id::SharedIds;
use phasework_workflows::time::SharedClock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::batch::Report;
use crate::connect::reach;
use crate::control;
use crate::health::WorkerHealth;
use crate::hosted::Handlers;
use crate::intake::Intake;
use crate::leasing::Leasing;
use crate::open::Open;
use crate::pack::Packs;
use crate::presence::Presence;
use crate::report::Reporter;
use crate::stop::Stop;
use crate::worker::WorkerError;

type Parts = JoinSet<Result<(), BrokerError>>;

/// How long reports of what was handed back at the drain deadline may take.
pub(crate) const FLUSH_GRACE: Duration = Duration::from_secs(2);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// How many announcements and orders may be held at once.
const NOTICE_PREFETCH: u16 = 256;

pub(crate) struct Shift {
    pub(crate) worker: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) broker: SharedBroker,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) max_output: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) lease_after: Duration,
    pub(crate) health: WorkerHealth,
    pub(crate) stop: Stop,
}

impl Drop for Shift {
    /// Whoever drops a shift wants it to end like a process that died: nothing more is published or acknowledged.
    fn drop(&mut self) {
        self.stop.leave();
    }
}

/// Everything that is read from, subscribed.
struct Subscribed {
    orders: Box<dyn Consumer>,
    questions: Box<dyn Consumer>,
    answers: Box<dyn Consumer>,
    queues: Vec<(Arc<str>, Box<dyn Consumer>)>,
}

impl Shift {
    /// Works until told to stop, and stops.
    ///
    /// # Errors
    /// When the broker refuses, at the start or later. What was taken until then is finished first.
    pub(crate) async fn run(self) -> Result<(), WorkerError> {
        let Some(Subscribed { orders, questions, answers, queues }) = self.subscribe_all().await? else {
            return Ok(()); // told to stop before the broker could be reached
        };
        self.health.subscribed(Arc::clone(&self.broker), self.stop.clone());
        let open = Open::new(self.lease_after);
        let (reports, reported) = unbounded_channel();
        let mut intakes = JoinSet::new();
        for (queue, consumer) in queues {
            intakes.spawn(Intake::new(consumer, self.packs(queue, &open, &reports)).run());
        }
        drop(reports); // from here on only what works on a message keeps the channel open
        let reporter = tokio::spawn(self.reporter(reported).run());
        let (mut notices, done) = (JoinSet::new(), CancellationToken::new());
        let presence = Arc::new(self.presence());
        notices.spawn(self.leasing(&open).run(answers, done.clone()));
        notices.spawn(control::run(orders, open, done.clone()));
        notices.spawn(Arc::clone(&presence).run(questions, self.stop.drain.clone(), done.clone()));
        tracing::info!(worker = %self.worker, handlers = self.handlers.hosted.len(), "the worker is ready");
        let result = tokio::select! {
            biased;
            result = self.finish(intakes, &mut notices, reporter) => result,
            never = self.keep_deadlines() => match never {},
        };
        done.cancel();
        let goodbye = async {
            while notices.join_next().await.is_some() {} // so that nothing is announced after the goodbye
            presence.leave().await;
        };
        timeout(GOODBYE, goodbye).await.ok(); // nobody hears it when the broker is away
        tracing::info!(worker = %self.worker, "the worker has stopped");
        result
    }

    /// Waits until every queue is drained and every outcome reported; begins to drain when a part fails.
    async fn finish(
        &self,
        mut intakes: Parts,
        notices: &mut Parts,
        mut reporter: JoinHandle<()>,
    ) -> Result<(), WorkerError> {
        let mut result = Ok(());
        loop {
            let ended = tokio::select! {
                biased;
                () = self.stop.leave.cancelled() => break,
                ended = intakes.join_next() => match ended {
                    Some(ended) => ended,
                    None => break,
                },
                Some(ended) = notices.join_next() => ended,
            };
            let ended = ended.map_err(|error| WorkerError::Died(error.to_string())).and_then(|r| Ok(r?));
            if ended.is_err() {
                self.stop.drain();
            }
            result = result.and(ended);
        }
        let reported = tokio::select! {
            biased;
            () = self.stop.leave.cancelled() => {
                reporter.abort();
                Err(WorkerError::LeftAtOnce)
            }
            ended = &mut reporter => ended.map_err(|error| WorkerError::Died(error.to_string())),
        };
        result.and(reported)
    }

    /// Makes a drain end in time.
    async fn keep_deadlines(&self) -> Infallible {
        self.stop.drain.cancelled().await;
        tracing::info!(timeout = ?self.drain_timeout, "draining: what runs is finished, nothing new is taken");
        sleep(self.drain_timeout).await;
        tracing::warn!("the drain timeout has passed: what still runs is handed back");
        self.stop.abandon();
        sleep(FLUSH_GRACE).await;
        tracing::warn!("outcomes could not be reported in time: their messages will come again");
        self.stop.leave();
        pending().await
    }

    /// Subscribes to everything; `None` when told to stop meanwhile.
    async fn subscribe_all(&self) -> Result<Option<Subscribed>, BrokerError> {
        let Some(orders) = self.subscribe(Address::Control, NOTICE_PREFETCH).await? else { return Ok(None) };
        let Some(questions) = self.subscribe(Address::Presence, NOTICE_PREFETCH).await? else { return Ok(None) };
        let Some(answers) = self.subscribe(self.private(), NOTICE_PREFETCH).await? else { return Ok(None) };
        let mut prefetch: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for hosted in &self.handlers.hosted {
            for queue in hosted.queues() {
                let slots = prefetch.entry(queue).or_default();
                *slots = slots.saturating_add(hosted.slots.size());
            }
        }
        let mut queues = Vec::new();
        for (queue, slots) in prefetch {
            let prefetch = u16::try_from(slots).unwrap_or(u16::MAX);
            let Some(consumer) = self.subscribe(Address::Jobs(Arc::clone(&queue)), prefetch).await? else {
                return Ok(None);
            };
            queues.push((queue, consumer));
        }
        Ok(Some(Subscribed { orders, questions, answers, queues }))
    }

    /// Subscribes, however long the broker is away; `None` when told to stop meanwhile.
    async fn subscribe(&self, from: Address, prefetch: u16) -> Result<Option<Box<dyn Consumer>>, BrokerError> {
        reach(&self.stop, || self.broker.subscribe(Subscription { from: from.clone(), prefetch })).await
    }

    fn packs(&self, queue: Arc<str>, open: &Arc<Open>, reports: &UnboundedSender<Report>) -> Packs {
        Packs {
            queue,
            handlers: Arc::clone(&self.handlers),
            open: Arc::clone(open),
            reports: reports.clone(),
            stop: self.stop.clone(),
            broker: Arc::clone(&self.broker),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            max_output: self.max_output,
            worker: Arc::clone(&self.worker),
            reply: self.broker.name_of(&self.private()).into(),
        }
    }

    fn reporter(&self, reports: UnboundedReceiver<Report>) -> Reporter {
        let (worker, broker, leave) = (Arc::clone(&self.worker), Arc::clone(&self.broker), self.stop.leave.clone());
        Reporter { worker, broker, reports, leave }
    }

    /// The worker's own queue.
    fn private(&self) -> Address {
        Address::Private(format!("worker.{}", self.worker).into())
    }

    fn leasing(&self, open: &Arc<Open>) -> Leasing {
        Leasing {
            worker: Arc::clone(&self.worker),
            reply: self.broker.name_of(&self.private()).into(),
            open: Arc::clone(open),
            broker: Arc::clone(&self.broker),
            together: (self.lease_after / 30).clamp(Duration::from_millis(10), Duration::from_secs(1)),
        }
    }

    fn presence(&self) -> Presence {
        Presence {
            worker: Arc::clone(&self.worker),
            host: Arc::clone(&self.host),
            started_at: self.clock.now(),
            handlers: Arc::clone(&self.handlers),
            broker: Arc::clone(&self.broker),
            health: self.health.clone(),
        }
    }
}
