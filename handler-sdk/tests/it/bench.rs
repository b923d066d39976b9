//! A worker on a bench: its broker, and the coordinator that a test plays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker, Consumer, Delivery, Message, SharedBroker, Subscription};
use phasework_sdk::{CancellationToken, Payload, RunId, Worker, WorkerError};
use phasework_workflows::id::{HandlerName, IdSource, Nonce, PhaseName, WorkflowName};
use phasework_workflows::message::job::{InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::lease::{LeaseAnswer, LeaseGroup, LeaseWanted, Leases, LeasesAnswered};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::message::{self, Body};
use phasework_workflows::time::{Clock, Millis, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes, so that a test that would wait for ever fails.
const FOR_EVER: Duration = Duration::from_secs(900);

pub(crate) const QUEUE: &str = "Echo.1.0.0";

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_763_000_000_123)
    }
}

impl IdSource for Still {
    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(0xaa)
    }

    fn random(&self) -> u64 {
        0
    }
}

pub(crate) struct Bench {
    /// The test's own connection.
    pub(crate) broker: Arc<MemoryBroker>,
    coordinator: Reader,
    pub(crate) presence: Reader,
    pub(crate) stop: CancellationToken,
    pub(crate) worker: JoinHandle<Result<(), WorkerError>>,
    seen: VecDeque<(u64, Outcome)>,
}

impl Bench {
    /// A worker with these handlers, ready to work.
    pub(crate) async fn start(handlers: impl FnOnce(Worker) -> Worker) -> Self {
        let broker = Arc::new(MemoryBroker::new());
        let workers = Arc::new(broker.connect());
        Self::start_on(broker, workers, handlers).await
    }

    /// The same, with `workers` as the worker's connection to `broker`.
    pub(crate) async fn start_on(
        broker: Arc<MemoryBroker>,
        workers: SharedBroker,
        handlers: impl FnOnce(Worker) -> Worker,
    ) -> Self {
        let coordinator = Reader::of(&*broker, Address::Coordinator(0)).await;
        let presence = Reader::of(&*broker, Address::Presence).await;
        let stop = CancellationToken::new();
        let worker = handlers(Worker::new(workers).clock(Arc::new(Still)).ids(Arc::new(Still)));
        let worker = tokio::spawn(worker.run_until(stop.clone()));
        let mut bench = Self { broker, coordinator, presence, stop, worker, seen: VecDeque::new() };
        bench.presence.body::<WorkerAnnounced>().await;
        bench
    }

    pub(crate) async fn publish<T: Body>(&self, to: Address, body: &T) {
        publish(&*self.broker, to, body).await;
    }

    /// Answers the next question for leases: each is granted for so long, or not at all. What was asked, and when.
    pub(crate) async fn answer_leases(&mut self, leased: Option<Millis>) -> (Leases, Instant) {
        let asked: Leases = self.told().await;
        let at = Instant::now();
        for group in &asked.groups {
            self.answer(group, leased).await;
        }
        (asked, at)
    }

    /// Answers one group of a question.
    pub(crate) async fn answer(&self, asked: &LeaseGroup, leased: Option<Millis>) {
        let LeaseGroup { run, entry, nonce, ref handler, ref reply, .. } = *asked;
        let answer = |&LeaseWanted { index, attempt, .. }| LeaseAnswer { index, attempt, leased };
        let answers = asked.leases.iter().map(answer).collect();
        let body = LeasesAnswered { run, entry, nonce, handler: handler.clone(), answers };
        let message = Message::new(Address::Submit, LeasesAnswered::KIND, message::encode(&body));
        self.broker.reply(&reply.queue, message).await.unwrap();
    }

    /// Waits until everybody has done what there is to do now: paused time moves only when all are idle.
    pub(crate) async fn idle(&self) {
        sleep(Duration::from_millis(1)).await;
    }

    /// Sends a pack to the handler's own queue.
    pub(crate) async fn send(&self, groups: Vec<JobGroup>) {
        self.publish(Address::Jobs(QUEUE.into()), &Jobs { groups }).await;
    }

    /// The next message of outcomes.
    pub(crate) async fn report(&mut self) -> JobsFinished {
        self.told().await
    }

    /// The next message to the coordinator that is a `T`; those before it are passed over.
    pub(crate) async fn told<T: Body>(&mut self) -> T {
        loop {
            let next = self.coordinator.delivery().await;
            if *next.kind == *T::KIND {
                return message::decode(&next.body).unwrap();
            }
        }
    }

    /// The next `count` outcomes, by job index.
    pub(crate) async fn outcomes(&mut self, count: usize) -> Vec<(u64, Outcome)> {
        while self.seen.len() < count {
            let report = self.report().await;
            self.seen.extend(report.groups.iter().flat_map(flatten));
        }
        let mut outcomes: Vec<_> = self.seen.drain(..count).collect();
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes
    }

    /// The next outcome.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        self.outcomes(1).await.remove(0).1
    }

    /// Ends the worker as if its process died.
    pub(crate) async fn kill(self) -> Arc<MemoryBroker> {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
        self.broker
    }

    /// Stops the worker, and says how many messages of its queue were not acknowledged.
    pub(crate) async fn unacknowledged(self) -> u64 {
        self.stop.cancel();
        let result = timeout(FOR_EVER, self.worker).await.expect("the worker stops").expect("it does not panic");
        assert!(matches!(result, Ok(()) | Err(WorkerError::LeftAtOnce)), "{result:?}");
        self.broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap()
    }
}

pub(crate) async fn publish<T: Body>(broker: &dyn Broker, to: Address, body: &T) {
    let results = broker.publish(vec![Message::new(to, T::KIND, message::encode(body))]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Reads messages one by one.
pub(crate) struct Reader {
    consumer: Box<dyn Consumer>,
}

impl Reader {
    pub(crate) async fn of(broker: &dyn Broker, from: Address) -> Self {
        Self { consumer: broker.subscribe(Subscription { from, prefetch: 10 }).await.unwrap() }
    }

    pub(crate) async fn delivery(&mut self) -> Delivery {
        let next = timeout(FOR_EVER, self.consumer.next(1)).await.expect("a message in time").unwrap().remove(0);
        self.consumer.ack(&[next.tag]).await.unwrap();
        next
    }

    /// Takes a message, without acknowledging it.
    pub(crate) async fn take(&mut self) {
        timeout(FOR_EVER, self.consumer.next(1)).await.expect("a message in time").unwrap();
    }

    /// The next message, which has to be a `T`.
    pub(crate) async fn body<T: Body>(&mut self) -> T {
        let next = self.delivery().await;
        assert_eq!(&*next.kind, T::KIND);
        message::decode(&next.body).unwrap()
    }
}

fn flatten(group: &OutcomeGroup) -> Vec<(u64, Outcome)> {
    let ranged = group.done.iter().flat_map(|&(first, count)| first..first + count);
    let done =
        |index| (index, Outcome { index, attempt: 1, status: Status::Done, output: None, error: None, details: None });
    ranged.map(done).chain(group.outcomes.iter().map(|outcome| (outcome.index, outcome.clone()))).collect()
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::new(uuid::Uuid::from_u128(number))
}

/// A group of `Echo` 1.0.0 without jobs.
pub(crate) fn group() -> JobGroup {
    JobGroup {
        run: run(7),
        workflow: WorkflowName::new("search").unwrap(),
        phase: PhaseName::new("fetching-pages").unwrap(),
        entry: 2,
        nonce: Nonce(11),
        handler: HandlerName::new("Echo").unwrap(),
        version: "1.0.0".parse().unwrap(),
        coordinator: 0,
        timeout: Millis::from_secs(30),
        max_attempts: 3,
        input: InputSource::Data,
        enumerate: false,
        traceparent: None,
        data: None,
        range: None,
        jobs: Vec::new(),
    }
}

/// Jobs `first..first + count`, each with its index as input.
pub(crate) fn range(first: u64, count: u64) -> JobGroup {
    JobGroup { input: InputSource::Index, range: Some((first, count)), ..group() }
}

/// One job with an input.
pub(crate) fn one(input: &str) -> JobGroup {
    let input = Some(Payload::from_json(input.to_owned()).unwrap());
    JobGroup { jobs: vec![Job { index: 0, attempt: 1, tried: 1, input, details: None }], ..group() }
}

/// The kind of the error of an outcome.
pub(crate) fn kind(outcome: &Outcome) -> &str {
    outcome.error.as_ref().map_or("", |error| &error.kind)
}
