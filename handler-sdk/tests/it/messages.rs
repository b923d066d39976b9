//! Messages that are not simply run: redelivered, for somebody else, or no job messages at all.

use std::time::Duration;

use phasework_broker::{Address, Broker as _, Message};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::message;
use phasework_workflows::message::job::{Job, JobGroup, Jobs};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::Status;
use phasework_workflows::time::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use crate::bench::{Bench, QUEUE, Reader, group, kind, one, range};

async fn done(_: Value, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

fn echo(worker: Worker) -> Worker {
    worker.handler("Echo", "1.0.0", done)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_twice_is_handed_back() {
    let broker = std::sync::Arc::new(phasework_broker::memory::MemoryBroker::new());
    // Somebody takes the message, and dies.
    let mut other = Reader::of(&broker.connect(), Address::Jobs(QUEUE.into())).await;
    crate::bench::publish(&*broker, Address::Jobs(QUEUE.into()), &Jobs { groups: vec![range(0, 3)] }).await;
    other.take().await;
    drop(other);

    let workers = std::sync::Arc::new(broker.connect());
    let mut bench = Bench::start_on(broker, workers, echo).await;
    let outcomes = bench.outcomes(3).await;
    assert!(outcomes.iter().all(|(_, o)| o.status == Status::Returned && kind(o) == "redelivered" && o.attempt == 1));
    assert_eq!(bench.unacknowledged().await, 0);
}

/// As after a lost connection: the broker hands the message out again while its job still runs here.
#[tokio::test(start_paused = true)]
async fn a_job_that_still_runs_is_not_handed_back() {
    let broker = std::sync::Arc::new(phasework_broker::memory::MemoryBroker::new());
    let second = Address::Jobs("second".into());
    let mut other = Reader::of(&broker.connect(), second.clone()).await;
    crate::bench::publish(&*broker, second.clone(), &Jobs { groups: vec![range(0, 2)] }).await;
    other.take().await;
    let (started, mut starts) = unbounded_channel();
    let handler = move |_: Value, ctx: Context| {
        started.send(ctx.index()).unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(())
        }
    };
    let workers = std::sync::Arc::new(broker.connect());
    let mut bench =
        Bench::start_on(broker, workers, |worker| worker.handler("Echo", "1.0.0", handler).queue("second")).await;
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(starts.recv().await, Some(0));
    drop(other);
    let outcomes = bench.outcomes(2).await;
    assert_eq!((outcomes[0].1.status, outcomes[1].1.status), (Status::Done, Status::Returned));
    let broker = bench.broker.clone();
    assert_eq!((bench.unacknowledged().await, broker.depth(&second).await.unwrap()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_attempt_sent_twice_runs_once() {
    let (started, mut starts) = unbounded_channel();
    let handler = move |_: Value, ctx: Context| {
        started.send(ctx.index()).unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler)).await;
    bench.send(vec![range(0, 1)]).await;
    bench.send(vec![range(0, 1)]).await;
    assert_eq!(bench.outcomes(1).await[0].1.status, Status::Done);
    assert_eq!(starts.recv().await, Some(0));
    assert_eq!(bench.unacknowledged().await, 0);
    assert_eq!(starts.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_job_for_an_unknown_handler_fails_for_good() {
    let mut bench = Bench::start(echo).await;
    let unknown = JobGroup { handler: "Nobody".parse().unwrap(), ..one("1") };
    bench.send(vec![unknown, range(1, 1)]).await;
    let outcomes = bench.outcomes(2).await;
    let error = outcomes[0].1.error.clone().unwrap();
    assert_eq!((outcomes[0].1.status, &*error.kind, error.retry), (Status::Failed, "unknown-handler", false));
    assert!(error.message.contains("`Nobody`") && error.message.contains("Echo 1.0.0"), "{}", error.message);
    assert_eq!(outcomes[1].1.status, Status::Done);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_for_another_version_is_handed_back() {
    let mut bench = Bench::start(echo).await;
    bench.send(vec![JobGroup { version: "1.1.0".parse().unwrap(), ..one("1") }]).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Returned, "other-version"));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_group_is_set_aside_alone() {
    let mut bench = Bench::start(echo).await;
    let mut dead = Reader::of(&*bench.broker, Address::Dead).await;
    let good = String::from_utf8(message::encode(&Jobs { groups: vec![range(0, 2)] })).unwrap();
    let mixed = good.replace("\"groups\":[", "\"groups\":[{\"run\":7},");
    bench.broker.publish(vec![Message::new(Address::Jobs(QUEUE.into()), "Jobs", mixed)]).await;
    assert_eq!(dead.body::<DeadLetter>().await.body, r#"{"v":1,"groups":[{"run":7}]}"#);
    bench.send(vec![range(u64::MAX, 1), range(2, 1)]).await;
    let letter = dead.body::<DeadLetter>().await;
    assert_eq!(message::decode::<Jobs>(letter.body.as_bytes()).unwrap().groups, [range(u64::MAX, 1)]);
    assert!(bench.outcomes(3).await.iter().all(|(_, outcome)| outcome.status == Status::Done));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_goes_to_the_dead_letters() {
    let whole = |groups| message::encode(&Jobs { groups });
    let job = |attempt, tried| Job { index: 5, attempt, tried, input: None, details: None };
    for (kind, body, reason) in [
        ("Jobs", b"\xff{".to_vec(), "not a Jobs"),
        ("Jobs", b"{\"v\":1,\"groups\":[{}]}".to_vec(), "missing field"),
        ("Jobs", b"{\"v\":2,\"groups\":[]}".to_vec(), "protocol version 2"),
        ("", whole(vec![range(0, 1)]), "a message of type ``"),
        ("Tick", whole(vec![range(0, 1)]), "a message of type `Tick`"),
        ("Jobs", whole(vec![range(u64::MAX, 2)]), "ends nowhere"),
        ("Jobs", whole(vec![range(0, 100_001)]), "100001 jobs in one message"),
        ("Jobs", whole(vec![JobGroup { jobs: vec![job(0, 1)], ..group() }]), "job 5 without an attempt"),
        ("Jobs", whole(vec![JobGroup { jobs: vec![job(1, 0)], ..group() }]), "job 5 without an attempt or a try"),
    ] {
        let mut bench = Bench::start(echo).await;
        let mut dead = Reader::of(&*bench.broker, Address::Dead).await;
        let message = Message::new(Address::Jobs(QUEUE.into()), kind, body.clone());
        bench.broker.publish(vec![message]).await;
        let letter: DeadLetter = dead.body().await;
        assert!(letter.reason.contains(reason), "{letter:?}");
        assert_eq!((&*letter.queue, &*letter.kind), ("jobs.Echo.1.0.0", kind));
        assert_eq!(letter.at, Timestamp::from_millis(1_763_000_000_123));
        bench.send(vec![range(0, 1)]).await;
        assert_eq!(bench.outcome().await.status, Status::Done, "the worker goes on");
        assert_eq!(bench.unacknowledged().await, 0);
    }
}
