//! The worker as a process of its own, on a real RabbitMQ: it works, and it stops as its signals say.
//! `PHASEWORK_TEST_BROKER_URL` says where the broker is; without it nothing is run, and said so.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker as _, Consumer, Message, Subscription};
use phasework_example_search::site::{MISSING, SLOW, Site};
use phasework_workflows::id::{IdSource as _, Nonce, RunId, SystemIds};
use phasework_workflows::message::job::{InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, Status};
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::{Body, decode, encode};
use phasework_workflows::time::Millis;
use phasework_workflows::{Payload, Version};
use tokio::time::timeout;

const QUEUE: &str = "PageDownloader.1.2.0";

/// A worker's process, and the coordinator that a test plays.
struct Stage {
    broker: RabbitMq,
    outcomes: Box<dyn Consumer>,
    presence: Box<dyn Consumer>,
    worker: Child,
}

impl Stage {
    async fn set() -> Option<Self> {
        let Ok(url) = std::env::var("PHASEWORK_TEST_BROKER_URL") else {
            eprintln!("not run: no RabbitMQ was started; `cargo xtask test` does");
            return None;
        };
        let prefix = format!("test-{}", SystemIds.uuid());
        let broker =
            RabbitMq::connect(RabbitOptions { prefix: prefix.clone(), ..RabbitOptions::new(&url) }).await.unwrap();
        let subscribe = |from| broker.subscribe(Subscription { from, prefetch: 1 });
        let outcomes = subscribe(Address::Coordinator(0)).await.unwrap();
        let presence = subscribe(Address::Presence).await.unwrap();
        let worker = Command::new(env!("CARGO_BIN_EXE_search-worker"))
            .envs([("PHASEWORK_URL", &url), ("PHASEWORK_PREFIX", &prefix)])
            .spawn()
            .unwrap();
        let mut stage = Self { broker, outcomes, presence, worker };
        read::<WorkerAnnounced>(&mut stage.presence).await;
        Some(stage)
    }

    async fn publish<T: Body>(&self, to: Address, body: &T) {
        let results = self.broker.publish(vec![Message::new(to, T::KIND, encode(body))]).await;
        assert!(results[0].is_ok(), "{results:?}");
    }

    async fn download(&self, url: String) {
        let job = Job { index: 0, attempt: 1, tried: 1, input: Some(Payload::of(&url).unwrap()), details: None };
        let group = JobGroup {
            run: RunId::new(SystemIds.uuid()),
            workflow: "search".parse().unwrap(),
            phase: "fetching-pages".parse().unwrap(),
            entry: 3,
            nonce: Nonce(7),
            handler: "PageDownloader".parse().unwrap(),
            version: Version::new(1, 2, 0),
            coordinator: 0,
            timeout: Millis::from_secs(30),
            max_attempts: 3,
            input: InputSource::Data,
            enumerate: false,
            traceparent: None,
            data: None,
            range: None,
            jobs: vec![job],
        };
        self.publish(Address::Jobs(QUEUE.into()), &Jobs { groups: vec![group] }).await;
    }

    async fn outcome(&mut self) -> Outcome {
        read::<JobsFinished>(&mut self.outcomes).await.unwrap().groups.remove(0).outcomes.remove(0)
    }

    /// Asks until the worker says that it works on so many downloads.
    async fn until_running(&mut self, jobs: u32) {
        loop {
            self.publish(Address::Presence, &WorkersWanted { from: "test".into() }).await;
            let announced = loop {
                if let Some(announced) = read::<WorkerAnnounced>(&mut self.presence).await {
                    break announced;
                }
            };
            if announced.handlers.iter().any(|handler| handler.name == "PageDownloader" && handler.in_flight == jobs) {
                return;
            }
        }
    }

    fn signal(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.worker.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(mut self) -> (ExitStatus, RabbitMq) {
        let status = tokio::task::spawn_blocking(move || self.worker.wait().unwrap()).await.unwrap();
        (status, self.broker)
    }
}

/// The next message, if it is a `T`.
async fn read<T: Body>(consumer: &mut Box<dyn Consumer>) -> Option<T> {
    let taken = timeout(Duration::from_secs(60), consumer.next(1)).await.expect("a message in time").unwrap();
    consumer.ack(&[taken[0].tag]).await.unwrap();
    (*taken[0].kind == *T::KIND).then(|| decode(&taken[0].body).unwrap())
}

#[tokio::test]
async fn the_first_signal_lets_it_finish() {
    let Some(mut stage) = Stage::set().await else { return };
    let site = Site::start().unwrap();
    stage.download(format!("{}{MISSING}", site.url())).await;
    let missing = stage.outcome().await;
    assert_eq!((missing.status, missing.error.map(|error| error.retry)), (Status::Failed, Some(false)));

    let (slow, _) = SLOW[4];
    stage.download(format!("{}{slow}", site.url())).await;
    stage.until_running(1).await;
    stage.signal();
    assert_eq!(stage.outcome().await.status, Status::Done);
    while read::<WorkerGone>(&mut stage.presence).await.is_none() {}
    let (status, broker) = stage.ended().await;
    assert!(status.success(), "{status}");
    assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 0, "everything was acknowledged");
    broker.close().await;
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let Some(mut stage) = Stage::set().await else { return };
    // A server that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    stage.download(format!("http://{}/", silent.local_addr().unwrap())).await;
    stage.until_running(1).await;
    stage.signal();
    loop {
        if read::<WorkerAnnounced>(&mut stage.presence).await.is_some_and(|announced| announced.draining) {
            break;
        }
    }
    stage.signal();
    let (status, broker) = stage.ended().await;
    assert_eq!(status.code(), Some(1), "it says that it left work behind");
    let mut next = broker.subscribe(Subscription { from: Address::Jobs(QUEUE.into()), prefetch: 1 }).await.unwrap();
    let again = timeout(Duration::from_secs(60), next.next(1)).await.expect("the job comes again").unwrap();
    assert!(again[0].redelivered);
    broker.close().await;
}
