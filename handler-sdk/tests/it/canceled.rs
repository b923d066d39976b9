//! Orders to cancel: who is told, who is let be, and what is handed back.

use std::time::Duration;

use phasework_broker::{Address, Broker as _, Message};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::message::Body as _;
use phasework_workflows::message::job::{CancelJobs, CanceledEntry, JobGroup};
use phasework_workflows::message::outcome::Status;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::bench::{Bench, kind, range, run};

/// How long a handler may take to clean up.
const GRACE: Duration = Duration::from_secs(5);

/// What a handler does once it is told that its job is canceled.
#[derive(Clone, Copy)]
enum Then {
    Ignores,
    Finishes,
    Fails,
    Panics,
}

/// A worker with one slot, and what its handler sees.
async fn worker(then: Then) -> (Bench, UnboundedReceiver<&'static str>) {
    let (told, events) = unbounded_channel();
    let handler = move |_: Value, ctx: Context| {
        let told = told.clone();
        async move {
            told.send("started").ok();
            ctx.canceled().await;
            told.send("canceled").ok();
            tokio::time::sleep(Duration::from_secs(1)).await;
            match then {
                Then::Ignores => std::future::pending().await,
                Then::Finishes => Ok("done all the same"),
                Then::Fails => Err(HandlerError::retry("interrupted")),
                Then::Panics => panic!("interrupted"),
            }
        }
    };
    let one_slot = |worker: Worker| worker.handler("Echo", "1.0.0", handler).concurrency(1);
    (Bench::start(one_slot).await, events)
}

async fn cancel(bench: &Bench, entry: u32) {
    bench.publish(Address::Control, &CancelJobs { items: vec![CanceledEntry { run: run(7), entry }] }).await;
}

#[tokio::test(start_paused = true)]
async fn a_canceled_job_is_handed_back_once_its_handler_has_stopped() {
    for (then, after, status, error) in [
        (Then::Ignores, GRACE, Status::Returned, "canceled"),
        (Then::Finishes, Duration::from_secs(1), Status::Done, ""),
        (Then::Fails, Duration::from_secs(1), Status::Returned, "canceled"),
        (Then::Panics, Duration::from_secs(1), Status::Returned, "canceled"),
    ] {
        let (mut bench, mut events) = worker(then).await;
        bench.send(vec![range(0, 1)]).await;
        assert_eq!(events.recv().await, Some("started"));
        let began = Instant::now();
        cancel(&bench, 2).await;
        let outcome = bench.outcome().await;
        assert_eq!((outcome.status, kind(&outcome), outcome.attempt), (status, error, 1));
        assert_eq!(began.elapsed().as_secs(), after.as_secs());
        assert_eq!(events.recv().await, Some("canceled"));
        assert_eq!(bench.unacknowledged().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slot_is_handed_back_at_once() {
    let (mut bench, mut events) = worker(Then::Ignores).await;
    bench.send(vec![range(0, 3)]).await;
    assert_eq!(events.recv().await, Some("started"));
    let began = Instant::now();
    cancel(&bench, 2).await;
    let outcomes = bench.outcomes(2).await;
    assert_eq!(outcomes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
    assert!(outcomes.iter().all(|(_, outcome)| kind(outcome) == "canceled"), "{outcomes:?}");
    assert_eq!(began.elapsed().as_millis(), 0);
    assert_eq!(kind(&bench.outcome().await), "canceled");
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn others_are_let_be() {
    let (mut bench, mut events) = worker(Then::Ignores).await;
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(events.recv().await, Some("started"));
    bench.broker.publish(vec![Message::new(Address::Control, "Pause", "{}")]).await;
    bench.broker.publish(vec![Message::new(Address::Control, CancelJobs::KIND, "no order")]).await;
    let others = vec![CanceledEntry { run: run(7), entry: 1 }, CanceledEntry { run: run(8), entry: 9 }];
    bench.publish(Address::Control, &CancelJobs { items: others }).await;
    tokio::time::sleep(Duration::from_secs(10)).await; // paused time moves only when all are idle
    assert!(events.try_recv().is_err(), "an earlier entry, and another run");
    cancel(&bench, 2).await;
    assert_eq!(events.recv().await, Some("canceled"));
    assert_eq!(kind(&bench.outcome().await), "canceled");
    // The slot is free again, and the order is over.
    bench.send(vec![JobGroup { entry: 3, ..range(7, 1) }]).await;
    assert_eq!(events.recv().await, Some("started"));
    cancel(&bench, 3).await;
    assert_eq!(bench.outcome().await.index, 7);
    assert_eq!(bench.unacknowledged().await, 0);
}
