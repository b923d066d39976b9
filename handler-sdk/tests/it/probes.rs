//! Probes: sent back to whoever sent them, however often they come.

use std::sync::Arc;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, Message};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::id::Nonce;
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::probe::{Probe, Probes, ProbesReturned};
use phasework_workflows::message::{self, Body as _};
use phasework_workflows::time::Timestamp;

use crate::bench::{Bench, QUEUE, Reader, publish, range, run};

async fn done(_: u64, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

fn echo(worker: Worker) -> Worker {
    worker.handler("Echo", "1.0.0", done)
}

fn queue() -> Address {
    Address::Jobs(QUEUE.into())
}

pub(crate) fn probe(number: u128, coordinator: u16) -> Probe {
    Probe {
        run: run(number),
        entry: 2,
        nonce: Nonce(11),
        handler: "Echo".parse().unwrap(),
        coordinator,
        sent_at: Timestamp::from_millis(1_763_000_000_000),
    }
}

#[tokio::test(start_paused = true)]
async fn each_probe_goes_back_to_its_coordinator() {
    let mut bench = Bench::start(echo).await;
    let mut other = Reader::of(&*bench.broker, Address::Coordinator(3)).await;
    bench.publish(queue(), &Probes { items: vec![probe(1, 0), probe(2, 3), probe(3, 0)] }).await;
    assert_eq!(bench.told::<ProbesReturned>().await.items, [probe(1, 0), probe(3, 0)]);
    assert_eq!(other.body::<ProbesReturned>().await.items, [probe(2, 3)]);
    bench.publish(queue(), &Probes { items: Vec::new() }).await;
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_came_twice_goes_back_too() {
    let broker = Arc::new(MemoryBroker::new());
    let mut dying = Reader::of(&broker.connect(), queue()).await;
    publish(&*broker, queue(), &Probes { items: vec![probe(1, 0)] }).await;
    dying.take().await;
    drop(dying);
    let workers = Arc::new(broker.connect());
    let mut bench = Bench::start_on(broker, workers, echo).await;
    assert_eq!(bench.told::<ProbesReturned>().await.items, [probe(1, 0)]);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_probe_is_set_aside_alone() {
    let mut bench = Bench::start(echo).await;
    let mut dead = Reader::of(&*bench.broker, Address::Dead).await;
    let good = String::from_utf8(message::encode(&Probes { items: vec![probe(1, 0)] })).unwrap();
    let mixed = good.replace("\"items\":[", "\"items\":[{\"run\":7},");
    for body in [mixed, "{}".to_owned()] {
        bench.broker.publish(vec![Message::new(queue(), Probes::KIND, body)]).await;
    }
    assert_eq!(bench.told::<ProbesReturned>().await.items, [probe(1, 0)]);
    assert_eq!(dead.body::<DeadLetter>().await.body, r#"{"v":1,"items":[{"run":7}]}"#);
    assert_eq!(dead.body::<DeadLetter>().await.body, "{}");
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(bench.outcome().await.status, Status::Done, "the worker goes on");
    assert_eq!(bench.unacknowledged().await, 0);
}
