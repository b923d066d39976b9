//! Stopping: what runs is finished, what does not finish is handed back, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use phasework_broker::Address;
use phasework_sdk::{Context, HandlerError, Worker, WorkerError};
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::bench::{Bench, kind, range};

type Slow = Box<dyn Fn(u64, Context) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// A handler that takes as many seconds as its input says, and the jobs it has started.
fn slow() -> (Slow, UnboundedReceiver<u64>) {
    let (started, starts) = unbounded_channel();
    let handler: Slow = Box::new(move |seconds, ctx| {
        started.send(ctx.index()).ok();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
    });
    (handler, starts)
}

async fn working(drain_timeout: u64, jobs: &[u64]) -> Bench {
    let (handler, mut starts) = slow();
    let bench = Bench::start(|worker: Worker| {
        worker.handler("Echo", "1.0.0", handler).drain_timeout(Duration::from_secs(drain_timeout))
    })
    .await;
    for &job in jobs {
        bench.send(vec![range(job, 1)]).await; // a job takes its index in seconds
        assert_eq!(starts.recv().await, Some(job));
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_finished_and_nothing_new_is_taken() {
    let mut bench = working(25, &[10]).await;
    bench.stop.cancel();
    let announced: WorkerAnnounced = bench.presence.body().await;
    assert!(announced.draining && announced.handlers[0].in_flight == 1, "{announced:?}");
    bench.send(vec![range(1, 1)]).await;
    let began = Instant::now();
    assert_eq!(bench.outcome().await.status, Status::Done);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(bench.unacknowledged().await, 1, "the second message is for others");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_time_is_handed_back() {
    let mut bench = working(5, &[1, 20]).await;
    bench.stop.cancel();
    let outcomes = bench.outcomes(2).await;
    assert_eq!(outcomes[0].1.status, Status::Done);
    assert_eq!((outcomes[1].1.status, kind(&outcomes[1].1)), (Status::Returned, "draining"));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_started_is_handed_back_at_once() {
    let (handler, mut starts) = slow();
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler).concurrency(2)).await;
    bench.send(vec![range(8, 4)]).await;
    assert_eq!((starts.recv().await, starts.recv().await), (Some(8), Some(9)));
    bench.stop.cancel();
    let outcomes = bench.outcomes(2).await;
    assert!(outcomes.iter().all(|(index, o)| *index >= 10 && kind(o) == "draining"), "{outcomes:?}");
    assert!(bench.outcomes(2).await.iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_goodbye_comes_last() {
    let mut bench = working(25, &[3]).await;
    let presence = &mut bench.presence;
    bench.stop.cancel();
    let began = Instant::now();
    while &*presence.delivery().await.kind != "WorkerGone" {}
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(bench.worker.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_stops_at_once() {
    let mut bench = working(25, &[]).await;
    let began = Instant::now();
    bench.stop.cancel();
    bench.presence.body::<WorkerAnnounced>().await;
    bench.presence.body::<WorkerGone>().await;
    assert!(bench.worker.await.unwrap().is_ok());
    assert_eq!(began.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_acknowledges_nothing() {
    let broker = working(25, &[1]).await.kill().await;
    let workers = Arc::new(broker.connect());
    let mut next = Bench::start_on(broker, workers, |worker| worker.handler("Echo", "1.0.0", slow().0)).await;
    assert_eq!(kind(&next.outcome().await), "redelivered");
}

#[tokio::test]
async fn a_worker_that_is_set_up_wrongly_says_everything_at_once() {
    let worker = |set_up: fn(Worker) -> Worker| {
        let worker = set_up(Worker::new(Arc::new(phasework_broker::memory::MemoryBroker::new())));
        worker.run_until(phasework_sdk::CancellationToken::new())
    };
    for (set_up, expected) in [
        ((|worker| worker) as fn(Worker) -> Worker, &["it has no handlers"][..]),
        (
            |worker| worker.handler("a b", "1.0.0", slow().0).handler("B", "1.x", slow().0).concurrency(0).queue("x y"),
            &["`a b` has ' '", "handler `B` has version `1.x`", "a concurrency of 0", "queue `x y`"],
        ),
        (
            |worker| {
                worker
                    .queue("early")
                    .handler("A", "1.0.0", slow().0)
                    .handler("A", "1.0.0", slow().0)
                    .max_output(1 << 30)
            },
            &["queue `early` is named before", "handler `A` 1.0.0 is registered twice", "cannot be reported"],
        ),
    ] {
        let Err(WorkerError::Setup(problems)) = worker(set_up).await else { panic!("{expected:?}") };
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        assert!(problems.iter().zip(expected).all(|(problem, part)| problem.contains(part)), "{problems:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_is_a_stop() {
    let bench = working(25, &[]).await;
    let stopped = phasework_sdk::CancellationToken::new();
    stopped.cancel();
    let worker = Worker::new(Arc::new(bench.broker.connect())).handler("Echo", "1.0.0", slow().0);
    assert!(worker.run_until(stopped).await.is_ok());
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(bench.broker_depth(&Address::Jobs("Other.1.0.0".into())).await, 0);
}

impl Bench {
    async fn broker_depth(&self, queue: &Address) -> u64 {
        use phasework_broker::Broker as _;
        self.broker.depth(queue).await.unwrap()
    }
}
