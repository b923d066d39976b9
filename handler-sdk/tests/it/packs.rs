//! Packs: many jobs in a message, started as slots come free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use phasework_broker::Address;
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::outcome::Status;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::bench::{Bench, QUEUE, group, kind, range};

/// A handler that waits for a permit, and notes how many were at it at once.
#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), running: Arc::default(), most: Arc::default() }
    }

    fn handler(
        &self,
    ) -> impl Fn(u64, Context) -> futures::future::BoxFuture<'static, Result<(), HandlerError>> + use<> {
        let gate = self.clone();
        move |_, _| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.most.fetch_max(gate.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.permits.acquire().await?.forget();
                gate.running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        }
    }
}

async fn started(gate: &Gate, slots: u32) -> Bench {
    Bench::start(|worker: Worker| worker.handler("Echo", "1.0.0", gate.handler()).concurrency(slots)).await
}

#[tokio::test(start_paused = true)]
async fn a_pack_runs_at_once_within_the_slots() {
    let gate = Gate::new();
    let mut bench = started(&gate, 4).await;
    gate.permits.add_permits(20);
    bench.send(vec![range(0, 20)]).await;
    let outcomes = bench.outcomes(20).await;
    assert_eq!(outcomes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert!((1..=4).contains(&gate.most.load(Ordering::SeqCst)));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_soon_is_handed_back() {
    let gate = Gate::new();
    let mut bench = started(&gate, 2).await;
    let began = Instant::now();
    bench.send(vec![range(0, 5)]).await;
    let returned = bench.outcomes(3).await;
    assert!(began.elapsed() < Duration::from_millis(60), "{:?}", began.elapsed());
    assert_eq!(returned.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(returned.iter().all(|(_, outcome)| outcome.status == Status::Returned && kind(outcome) == "busy"));
    gate.permits.add_permits(2);
    assert!(bench.outcomes(2).await.iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pack_that_waits_in_line_does_not_lose_its_patience() {
    let gate = Gate::new();
    let mut bench = started(&gate, 2).await;
    bench.send(vec![range(0, 2)]).await;
    bench.send(vec![range(10, 2)]).await;
    // More than a started pack waits, less than one in line does.
    tokio::time::advance(Duration::from_millis(500)).await;
    gate.permits.add_permits(4);
    assert!(bench.outcomes(4).await.iter().all(|(_, outcome)| outcome.status == Status::Done));
}

#[tokio::test(start_paused = true)]
async fn a_full_worker_hands_back_once_and_then_keeps_quiet() {
    let gate = Gate::new();
    let mut bench = Bench::start(|worker| {
        worker.handler("Echo", "1.0.0", gate.handler()).concurrency(1).queue("search.fetching-pages.Echo")
    })
    .await;
    bench.send(vec![range(0, 1)]).await;
    let second = Address::Jobs("search.fetching-pages.Echo".into());
    for first in 1..4 {
        bench.publish(second.clone(), &Jobs { groups: vec![range(first, 1)] }).await;
    }
    let returned = bench.outcomes(1).await;
    assert_eq!((returned[0].0, kind(&returned[0].1)), (1, "busy"));
    // Its message keeps the only place of that queue, so the others stay for other workers until a slot is free.
    gate.permits.add_permits(3);
    let done = bench.outcomes(3).await;
    assert_eq!(done.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(done.iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pack_may_mix_runs_and_handlers() {
    let echo = |index: u64, ctx: Context| async move { Ok(format!("{} {index}", ctx.handler())) };
    let mut bench =
        Bench::start(|worker| worker.handler("Echo", "1.0.0", echo).handler("Other", "2.0.0", echo).queue("mixed"))
            .await;
    let other = JobGroup {
        handler: HandlerName::new("Other").unwrap(),
        version: "2.0.0".parse().unwrap(),
        run: crate::bench::run(8),
        ..range(5, 2)
    };
    bench.publish(Address::Jobs("mixed".into()), &Jobs { groups: vec![range(0, 2), other] }).await;
    let outcomes = bench.outcomes(4).await;
    let outputs: Vec<_> =
        outcomes.iter().filter_map(|(_, outcome)| outcome.output.as_ref()?.read::<String>().ok()).collect();
    assert_eq!(outputs, ["Echo 0", "Echo 1", "Other 5", "Other 6"].map(str::to_owned));
}

#[tokio::test(start_paused = true)]
async fn an_empty_pack_is_acknowledged() {
    let bench = started(&Gate::new(), 1).await;
    bench.send(vec![group()]).await;
    bench.send(vec![]).await;
    assert_eq!(bench.broker_depth_when_idle().await, 0);
    assert_eq!(bench.unacknowledged().await, 0);
}

impl Bench {
    /// How many messages wait once everybody has done what there is to do.
    async fn broker_depth_when_idle(&self) -> u64 {
        use phasework_broker::Broker as _;
        tokio::time::sleep(Duration::from_millis(1)).await; // paused time moves only when all are idle
        self.broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap()
    }
}
