//! Limits of how often jobs start: in one worker, and in all together; and who has to wait for them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use phasework_broker::Address;
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::id::HandlerName;
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::outcome::{Outcome, Status};
use phasework_workflows::message::presence::{HostedHandler, WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::time::Timestamp;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, kind, range};

const SECOND: Duration = Duration::from_secs(1);

/// Notes when its jobs start.
#[derive(Clone)]
struct Starts {
    began: Instant,
    at: Arc<Mutex<Vec<Duration>>>,
}

impl Starts {
    fn new() -> Self {
        Self { began: Instant::now(), at: Arc::default() }
    }

    fn handler(&self) -> impl Fn(u64, Context) -> std::future::Ready<Result<(), HandlerError>> + use<> {
        let starts = self.clone();
        move |_, _| {
            starts.at.lock().unwrap().push(starts.began.elapsed());
            std::future::ready(Ok(()))
        }
    }

    fn seconds(&self) -> Vec<u64> {
        self.at.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    fn most_within(&self, length: Duration) -> usize {
        let at = self.at.lock().unwrap();
        let within = |from: Duration| at.iter().filter(|&&at| at >= from && at < from + length).count();
        at.iter().map(|&from| within(from)).max().unwrap_or(0)
    }
}

fn other(first: u64, count: u64) -> JobGroup {
    JobGroup { handler: HandlerName::new("Other").unwrap(), ..range(first, count) }
}

fn returned(outcomes: &[(u64, Outcome)]) -> Vec<u64> {
    let busy = |outcome: &Outcome| outcome.status == Status::Returned && kind(outcome) == "busy";
    outcomes.iter().filter(|(_, outcome)| busy(outcome)).map(|(index, _)| *index).collect()
}

#[tokio::test(start_paused = true)]
async fn no_more_start_than_the_limit_says() {
    let starts = Starts::new();
    let mut bench =
        Bench::start(|worker: Worker| worker.handler("Echo", "1.0.0", starts.handler()).rate_limit(10, SECOND)).await;
    bench.send(vec![range(0, 25)]).await;
    bench.send(vec![range(25, 15)]).await;
    let outcomes = bench.outcomes(40).await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.status == Status::Done), "{:?}", returned(&outcomes));
    assert_eq!(starts.most_within(SECOND), 10);
    assert_eq!(starts.seconds().last(), Some(&3));
    // A pause earns nothing.
    sleep(Duration::from_secs(60)).await;
    bench.send(vec![range(40, 30)]).await;
    bench.outcomes(30).await;
    assert_eq!(starts.most_within(SECOND), 10);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_would_wait_for_long_is_handed_back_and_its_message_keeps_its_place() {
    let starts = Starts::new();
    let mut bench = Bench::start(|worker| {
        worker.handler("Echo", "1.0.0", starts.handler()).rate_limit(1, Duration::from_secs(60)).concurrency(1)
    })
    .await;
    let began = Instant::now();
    for first in 0..3 {
        bench.send(vec![range(first * 10, 2)]).await;
    }
    let outcomes = bench.outcomes(2).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}: known at once, and not after a wait", began.elapsed());
    assert_eq!(returned(&outcomes), [1], "and the other messages stay on the queue");
    let outcomes = bench.outcomes(2).await;
    assert_eq!((returned(&outcomes), began.elapsed().as_secs()), (vec![11], 60));
    assert_eq!(starts.seconds(), [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn others_do_not_wait_for_a_limit() {
    let (slow, fast) = (Starts::new(), Starts::new());
    let mut bench = Bench::start(|worker| {
        let worker = worker.handler("Echo", "1.0.0", slow.handler()).rate_limit(1, Duration::from_secs(4));
        worker.handler("Other", "1.0.0", fast.handler()).queue("mixed")
    })
    .await;
    bench.publish(Address::Jobs("mixed".into()), &Jobs { groups: vec![range(0, 2), other(10, 2)] }).await;
    assert_eq!(bench.outcomes(3).await.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 10, 11]);
    assert_eq!((slow.seconds(), fast.seconds()), (vec![0], vec![0, 0]));
    bench.outcomes(1).await;
    assert_eq!(slow.seconds(), [0, 4]);
}

fn announced(worker: &str, handler: &str) -> WorkerAnnounced {
    let (name, version) = (HandlerName::new(handler).unwrap(), "3.0.0".parse().unwrap());
    let handlers = vec![HostedHandler { name, version, slots: 1, in_flight: 0 }];
    let (host, sdk, started_at) = ("h".into(), "rust/0".into(), Timestamp::default());
    WorkerAnnounced { worker: worker.into(), host, pid: 1, sdk, started_at, handlers, draining: false }
}

#[tokio::test(start_paused = true)]
async fn a_limit_over_all_workers_is_shared_out() {
    let starts = Starts::new();
    let mut bench = Bench::start(|worker| {
        let limited =
            |worker: Worker, version| worker.handler("Echo", version, starts.handler()).rate_limit_global(4, SECOND);
        limited(limited(worker, "1.0.0"), "1.1.0")
    })
    .await;
    bench.presence.body::<WorkersWanted>().await; // so that it need not wait for a heartbeat to know the others
    let mut first = 0;
    for (heard, expected) in [(None, 4), (Some("zz"), 2), (Some("00"), 1), (Some("01"), 1)] {
        if let Some(worker) = heard {
            bench.publish(Address::Presence, &announced(worker, "Echo")).await;
            bench.publish(Address::Presence, &announced("unrelated", "Other")).await;
        }
        sleep(2 * SECOND).await;
        let before = starts.at.lock().unwrap().len();
        let version = if first == 0 { "1.0.0" } else { "1.1.0" };
        let jobs = JobGroup { version: version.parse().unwrap(), ..range(first, 3 * expected) };
        bench.publish(Address::Jobs(format!("Echo.{version}").into()), &Jobs { groups: vec![jobs] }).await;
        bench.outcomes(3 * expected as usize).await;
        first += 100;
        let at = starts.at.lock().unwrap()[before..].to_vec();
        let within = at.iter().filter(|&&start| start < at[0] + SECOND).count();
        assert_eq!(within, expected as usize, "{heard:?}: {at:?}");
    }
    bench.publish(Address::Presence, &WorkerGone { worker: "01".into() }).await;
    bench.idle().await;
    sleep(30 * SECOND).await; // and of the others nothing is heard
    let before = starts.at.lock().unwrap().len();
    bench.send(vec![range(1000, 4)]).await;
    bench.outcomes(4).await;
    let at = starts.at.lock().unwrap()[before..].to_vec();
    assert_eq!(at[0], at[3]);
}

#[tokio::test(start_paused = true)]
async fn versions_of_a_handler_share_the_limit_of_all_workers() {
    let starts = Starts::new();
    let mut bench = Bench::start(|worker| {
        let worker = worker.handler("Echo", "1.0.0", starts.handler()).rate_limit_global(2, SECOND);
        worker.handler("Echo", "1.1.0", starts.handler()).rate_limit_global(2, SECOND)
    })
    .await;
    bench.send(vec![range(0, 2)]).await;
    let newer = JobGroup { version: "1.1.0".parse().unwrap(), ..range(10, 2) };
    bench.publish(Address::Jobs("Echo.1.1.0".into()), &Jobs { groups: vec![newer] }).await;
    bench.outcomes(4).await;
    assert_eq!(starts.most_within(SECOND), 2);
}

#[tokio::test]
async fn a_limit_that_makes_no_sense_is_refused() {
    let broker = std::sync::Arc::new(phasework_broker::memory::MemoryBroker::new());
    let worker = Worker::new(broker).rate_limit(1, SECOND).handler("Echo", "1.0.0", |(): (), _| async { Ok(()) });
    let error = worker.rate_limit_global(0, SECOND).run_until(phasework_sdk::CancellationToken::new()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`rate_limit` is said before any handler"), "{error}");
    assert!(error.contains("a rate limit of 0 per 1s"), "{error}");
}
