//! What a worker says of its health.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use phasework_broker::Broker as _;
use phasework_broker::memory::MemoryBroker;
use phasework_sdk::{CancellationToken, Context, HandlerError, Worker, WorkerHealth};
use tokio::time::sleep;

use crate::bench::{Bench, range};
use crate::moody::Moody;

async fn slow(_: u64, _: Context) -> Result<(), HandlerError> {
    sleep(Duration::from_secs(10)).await;
    Ok(())
}

async fn working() -> (Bench, Arc<Moody>, WorkerHealth) {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 1000);
    let mut health = None;
    let watched = |worker: Worker| {
        health = Some(worker.health());
        assert_eq!(worker.health().reasons(), ["it was not started"]);
        worker.handler("Echo", "1.0.0", slow)
    };
    let bench = Bench::start_on(Arc::new(broker), moody.clone(), watched).await;
    (bench, moody, health.expect("a handle"))
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_ready_until_it_drains() {
    let (bench, _, health) = working().await;
    assert!(health.is_ready(), "{health:?}");
    bench.send(vec![range(0, 1)]).await;
    bench.idle().await;
    bench.stop.cancel();
    bench.idle().await;
    assert_eq!(health.reasons(), ["it is draining"]);
    assert!(health.last_heard().is_some());
    assert!(bench.worker.await.unwrap().is_ok());
    assert_eq!((health.reasons(), health.last_heard()), (vec!["it has ended".to_owned()], None));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hears_nothing_is_not_ready() {
    let (bench, moody, health) = working().await;
    sleep(Duration::from_secs(300)).await;
    assert!(health.is_ready() && health.last_heard().unwrap() <= Duration::from_secs(5), "{health:?}");
    moody.deaf.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(15)).await;
    assert!(health.is_ready(), "one announcement may be lost: {health:?}");
    sleep(Duration::from_secs(15)).await;
    let reasons = health.reasons();
    assert!(reasons.len() == 1 && reasons[0].contains("not even what the worker announces every 5s"), "{reasons:?}");
    moody.deaf.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(6)).await;
    assert!(health.is_ready(), "{health:?}");
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_start_has_ended() {
    let broker = MemoryBroker::new();
    broker.close().await;
    let worker = Worker::new(Arc::new(broker)).handler("Echo", "1.0.0", slow);
    let health = worker.health();
    assert!(worker.run_until(CancellationToken::new()).await.is_err());
    assert_eq!(health.reasons(), ["it has ended"]);
}
