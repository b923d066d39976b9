//! Reports: gathered, confirmed, repeated; and no acknowledgement before that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, BrokerError, Message};
use phasework_sdk::{Context, HandlerError, WorkerError};
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::probe::Probes;
use tokio::time::Instant;

use crate::bench::{Bench, kind, one, range};
use crate::moody::Moody;
use crate::probes::probe;

async fn done(_: u64, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

async fn on(moody: &Arc<Moody>, broker: MemoryBroker) -> Bench {
    Bench::start_on(Arc::new(broker), moody.clone(), |worker| worker.handler("Echo", "1.0.0", done)).await
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_published_until_they_are_confirmed() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 20, 1000);
    let mut bench = on(&moody, broker).await;
    bench.send(vec![range(0, 2)]).await;
    assert_eq!(bench.outcomes(2).await.len(), 2);
    assert_eq!(moody.failures.load(Ordering::SeqCst), 0);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_its_outcome_is_confirmed() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, usize::MAX, 1_000_000);
    let bench = on(&moody, broker).await;
    bench.send(vec![range(0, 2)]).await;
    bench.send(vec![range(2, 1)]).await;
    bench.broker.publish(vec![Message::new(Address::Jobs(crate::bench::QUEUE.into()), "Garbage", "?")]).await;
    bench.publish(Address::Jobs(crate::bench::QUEUE.into()), &Probes { items: vec![probe(1, 0)] }).await;
    assert_eq!(bench.unacknowledged().await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_report_says_so_at_the_end() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 0);
    let bench = on(&moody, broker).await;
    bench.send(vec![range(0, 1)]).await;
    // Paused time moves only when all are idle: the publish is then under way.
    tokio::time::sleep(Duration::from_millis(1)).await;
    bench.stop.cancel();
    assert!(matches!(bench.worker.await.unwrap(), Err(WorkerError::LeftAtOnce)));
}

#[tokio::test(start_paused = true)]
async fn outcomes_gather_while_a_publish_is_under_way() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 0);
    let mut bench = on(&moody, broker).await;
    for index in 0..5 {
        bench.send(vec![range(index, 1)]).await;
        tokio::time::sleep(Duration::from_millis(1)).await; // as above
    }
    moody.permits.add_permits(2);
    let shape = |report: phasework_workflows::message::outcome::JobsFinished| {
        report.groups.iter().flat_map(|group| group.done.clone()).collect::<Vec<_>>()
    };
    assert_eq!(shape(bench.report().await), [(0, 1)]);
    assert_eq!(shape(bench.report().await), [(1, 4)]);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_queue_that_confirms_nothing_holds_up_no_other() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 1000);
    moody.clogs.set(|message| message.to == Address::Coordinator(1)).unwrap();
    let mut bench = on(&moody, broker).await;
    bench.send(vec![JobGroup { coordinator: 1, ..range(0, 1) }]).await;
    bench.idle().await;
    let began = Instant::now();
    for index in 1..6 {
        bench.send(vec![JobGroup { coordinator: 1, ..range(10 + index, 1) }]).await;
        bench.send(vec![range(index, 1)]).await;
        assert_eq!(bench.outcomes(1).await[0].0, index);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(bench.unacknowledged().await, 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_is_acknowledged_whatever_becomes_of_the_rest() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 1000);
    moody.clogs.set(|message| message.body.len() > 3_500_000).unwrap();
    let write = |length: usize, _: Context| async move { Ok::<_, HandlerError>("x".repeat(length)) };
    let handler = |worker: phasework_sdk::Worker| worker.handler("Echo", "1.0.0", write).max_output(4_000_000);
    let mut bench = Bench::start_on(Arc::new(broker), moody.clone(), handler).await;
    bench.send(vec![one("3600000")]).await;
    bench.send(vec![JobGroup { run: crate::bench::run(8), ..one("1000000") }]).await;
    bench.outcome().await;
    assert_eq!(bench.unacknowledged().await, 1);
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_are_too_large_for_the_broker_are_split_and_then_refused() {
    let broker = MemoryBroker::with_max_message_bytes(3000);
    let moody = Moody::on(&broker, 0, 1000);
    let write = |length: usize, _| async move { Ok("x".repeat(length)) };
    let mut bench =
        Bench::start_on(Arc::new(broker), moody.clone(), |worker| worker.handler("Echo", "1.0.0", write)).await;
    let job = |index: u64, length: u64| phasework_workflows::message::job::JobGroup {
        jobs: vec![phasework_workflows::message::job::Job {
            index,
            attempt: 1,
            tried: 1,
            input: Some(serde_json::Value::from(length).into()),
            details: None,
        }],
        ..crate::bench::group()
    };
    bench.send(vec![job(0, 1000), job(1, 1000), job(2, 1000), job(3, 4000)]).await;
    let outcomes = bench.outcomes(4).await;
    assert!(outcomes[..3].iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert_eq!((outcomes[3].1.status, kind(&outcomes[3].1)), (Status::Failed, "output"));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_closed_ends_the_worker() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 1000);
    let mut bench = on(&moody, broker).await;
    bench.send(vec![one("1")]).await;
    bench.outcomes(1).await;
    moody.close().await;
    let ended = bench.worker.await.unwrap();
    assert!(matches!(ended, Err(WorkerError::Broker(BrokerError::Closed))), "{ended:?}");
}
