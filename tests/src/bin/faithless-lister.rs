//! A worker that lists the jobs of the handler that `phasework certify` asks for, and breaks the promise about lists that its
//! only argument names; with `none`, it keeps them all. It speaks the wire format by itself: our SDK could not break it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use phasework_broker::gateway::{Gateway, GatewayOptions};
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Delivery, Message, SharedBroker, Subscription};
use phasework_workflows::id::{HandlerName, IdSource as _, Nonce, SystemIds};
use phasework_workflows::message::event::ReplyTo;
use phasework_workflows::message::job::{Job, JobGroup, Jobs};
use phasework_workflows::message::listing::{JobsListed, ListAnswered, Sealed};
use phasework_workflows::message::outcome::{JobError, JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::presence::{HostedHandler, WorkerAnnounced, WorkersWanted};
use phasework_workflows::message::{Body, decode, encode};
use phasework_workflows::time::{Clock as _, SystemClock};
use phasework_workflows::{Payload, Version};
use serde_json::json;
use tokio::sync::{broadcast, mpsc};

/// How many jobs a page has, and how many jobs may be listed that are not known to be stored.
const PAGE: u64 = 1000;
const AHEAD: u64 = 4 * PAGE;

/// After so long without an answer pages are published again.
const PATIENCE: Duration = Duration::from_secs(2);

struct Lister {
    broker: SharedBroker,
    me: Arc<str>,
    /// Which promise it breaks.
    breaks: String,
    /// What is said to its lists, whichever of them.
    answers: broadcast::Sender<ListAnswered>,
    /// Whether it has been told to stop a list.
    was_stopped: AtomicBool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().expect("the first and only TLS provider");
    let url = std::env::var("PHASEWORK_URL")?;
    let broker: SharedBroker = if url.starts_with("amqp") {
        let prefix = std::env::var("PHASEWORK_PREFIX")?;
        Arc::new(RabbitMq::connect(RabbitOptions { prefix, ..RabbitOptions::new(&url) }).await?)
    } else {
        Arc::new(Gateway::connect(GatewayOptions::new(&url)).await?)
    };
    let (answers, me) = (broadcast::channel(256).0, SystemIds.uuid().to_string().into());
    let breaks = std::env::args().nth(1).unwrap_or_default();
    Arc::new(Lister { broker, me, breaks, answers, was_stopped: AtomicBool::new(false) }).run().await
}

impl Lister {
    async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let read = async |from| self.broker.subscribe(Subscription { from, prefetch: 16 }).await;
        let mut own = read(self.own_queue()).await?;
        let mut presence = read(Address::Presence).await?;
        let mut jobs = read(Address::Jobs("Certify.1.0.0".into())).await?;
        self.announce().await;
        let (done, mut is_done) = mpsc::unbounded_channel();
        loop {
            tokio::select! {
                deliveries = own.next(16) => for delivery in deliveries? {
                    // It may make no list just now.
                    self.answers.send(decode(&delivery.body)?).ok();
                    own.ack(&[delivery.tag]).await?;
                },
                deliveries = presence.next(16) => for delivery in deliveries? {
                    if &*delivery.kind == WorkersWanted::KIND {
                        self.announce().await;
                    }
                    presence.ack(&[delivery.tag]).await?;
                },
                deliveries = jobs.next(16) => for delivery in deliveries? {
                    let (me, done) = (Arc::clone(&self), done.clone());
                    tokio::spawn(async move {
                        me.work(&delivery).await;
                        // Nobody asks any more when this ends.
                        done.send(delivery.tag).ok();
                    });
                },
                Some(tag) = is_done.recv() => jobs.ack(&[tag]).await?,
            }
        }
    }

    fn breaks(&self, promise: &str) -> bool {
        self.breaks == promise
    }

    fn own_queue(&self) -> Address {
        Address::Private(format!("worker.{}", self.me).into())
    }

    async fn announce(&self) {
        let name = HandlerName::new("Certify").expect("a name");
        let handlers = vec![HostedHandler { name, version: Version::new(1, 0, 0), slots: 16, in_flight: 0 }];
        let (worker, pid, started_at) = (Arc::clone(&self.me), std::process::id(), SystemClock.now());
        let (host, sdk) = ("here".into(), "faithless/1".into());
        self.publish(
            Address::Presence,
            &WorkerAnnounced { worker, host, pid, sdk, started_at, handlers, draining: false },
        )
        .await;
    }

    async fn publish<T: Body>(&self, to: Address, body: &T) {
        let results = self.broker.publish(vec![Message::new(to, T::KIND, encode(body))]).await;
        results.into_iter().for_each(|result| result.expect("the broker takes it"));
    }

    async fn work(&self, delivery: &Delivery) {
        for group in decode::<Jobs>(&delivery.body).expect("jobs").groups {
            for job in group.each() {
                if delivery.redelivered && self.breaks("tells-of-redelivered") {
                    std::future::pending::<()>().await;
                }
                let outcome = match delivery.redelivered && !self.breaks("returns-redelivered") {
                    true => returned(&job, "redelivered"),
                    false if group.enumerate => self.list(&group, &job).await,
                    false if self.was_stopped.load(Relaxed) && self.breaks("works-on") => std::future::pending().await,
                    false => done(&job, group.input_of(&job).to_value()["value"].clone()),
                };
                self.report(&group, outcome).await;
            }
        }
    }

    async fn report(&self, group: &JobGroup, outcome: Outcome) {
        let JobGroup { run, entry, nonce, ref handler, coordinator, .. } = *group;
        let outcomes = vec![outcome.clone()];
        let told =
            OutcomeGroup { run, entry, nonce, handler: handler.clone(), done: vec![], outcomes, service_us: None };
        let told = JobsFinished { worker: None, groups: vec![told] };
        let is_listed = group.enumerate && outcome.status == Status::Done;
        for _ in 0..if is_listed && self.breaks("seals-once") { 2 } else { 1 } {
            self.publish(Address::Coordinator(coordinator), &told).await;
        }
        if is_listed && self.breaks("ends-with-its-seal") {
            let list = outcome.output.and_then(|output| output.read::<Sealed>().ok()).expect("a list").list;
            self.page(group, list, outcome.attempt, 0, 1).await;
        }
    }

    /// Makes a list, as long as the run's data say.
    async fn list(&self, group: &JobGroup, job: &Job) -> Outcome {
        let jobs = group.input_of(job).to_value()["list"].as_u64().unwrap_or_default();
        if self.breaks("fails-for-good") {
            return failed(job, JobError::new("error", "no lists"));
        }
        if jobs > 0 && self.breaks("speaks") {
            std::future::pending::<()>().await;
        }
        let list = Nonce(match &*self.breaks {
            "number-from-1" => 0,
            "number-to-2^53" => 1 << 53,
            "draws-anew" => 7,
            _ => Nonce::from_random(SystemIds.random()).0.max(1),
        });
        if let Err(stopped) = self.pages(group, job, list, jobs).await {
            return stopped;
        }
        let sealed = match &*self.breaks {
            "says-what-it-sealed" => json!(null),
            "counts" => json!({ "list": list, "jobs": jobs.saturating_sub(1) }),
            "seals-its-own" => json!({ "list": list.0 ^ 2, "jobs": jobs }),
            _ => json!({ "list": list, "jobs": jobs }),
        };
        done(job, sealed)
    }

    /// Publishes pages until all are stored, or it is told to stop.
    async fn pages(&self, group: &JobGroup, job: &Job, list: Nonce, jobs: u64) -> Result<(), Outcome> {
        let mut answers = self.answers.subscribe();
        let (mut stored, mut sent) = (0, if self.breaks("in-order") { PAGE } else { 0 });
        while stored < jobs {
            while sent < jobs && (sent < stored + AHEAD || self.breaks("waits")) {
                let number = if self.breaks("one-number") { Nonce(list.0 ^ u64::from(sent > 0)) } else { list };
                self.page(group, number, job.attempt, sent, PAGE.min(jobs - sent)).await;
                sent += PAGE;
            }
            match tokio::time::timeout(PATIENCE, answers.recv()).await {
                Ok(Ok(answer)) if answer.list != list && !self.breaks("heeds-its-own") => {}
                Ok(Ok(ListAnswered { listed: Some(jobs), .. })) => stored = stored.max(jobs),
                Ok(Ok(answer)) => {
                    self.was_stopped.store(true, Relaxed);
                    match &*self.breaks {
                        "stops" => stored = sent,
                        "gives-way" if answer.other => stored = sent,
                        "hands-back" => std::future::pending().await,
                        "gives-way-as-such" => return Err(returned(job, "canceled")),
                        "hands-back-as-canceled" => return Err(returned(job, "busy")),
                        _ => return Err(returned(job, if answer.other { "other-list" } else { "canceled" })),
                    }
                }
                Ok(Err(_)) => sent = stored, // it missed some
                Err(_) if self.breaks("waits-for-answers") => return Ok(()),
                Err(_) if self.breaks("publishes-again") => {}
                Err(_) => sent = stored,
            }
        }
        Ok(())
    }

    async fn page(&self, group: &JobGroup, list: Nonce, attempt: u32, first: u64, jobs: u64) {
        let JobGroup { run, entry, nonce, ref handler, coordinator, .. } = *group;
        let named = |it: &str| u32::from(self.breaks(it));
        let item = |n| Payload::from(json!({ "do": "echo", "value": n + u64::from(self.breaks("lists-them")) }));
        let items = if self.breaks("lists-some") { vec![] } else { (first..first + jobs).map(item).collect() };
        let reply = ReplyTo { queue: self.broker.name_of(&self.own_queue()).into(), correlation_id: None };
        let page = JobsListed {
            run,
            entry: entry + named("names-the-entry"),
            nonce: Nonce(nonce.0 - u64::from(named("names-the-nonce"))),
            handler: if self.breaks("names-the-handler") {
                HandlerName::new("Nobody").expect("a name")
            } else {
                handler.clone()
            },
            attempt: attempt + named("names-the-attempt"),
            list,
            first,
            items,
            worker: None,
            reply: Some(reply).filter(|_| !self.breaks("can-be-told")),
        };
        let queue = if self.breaks("says-it-there") { 0 } else { coordinator };
        self.publish(Address::Coordinator(queue), &page).await;
    }
}

fn outcome(job: &Job, status: Status) -> Outcome {
    Outcome { index: job.index, attempt: job.attempt, status, output: None, error: None, details: None }
}

fn done(job: &Job, output: serde_json::Value) -> Outcome {
    Outcome { output: Some(output.into()), ..outcome(job, Status::Done) }
}

fn failed(job: &Job, error: JobError) -> Outcome {
    Outcome { error: Some(error), ..outcome(job, Status::Failed) }
}

fn returned(job: &Job, kind: &str) -> Outcome {
    Outcome { error: Some(JobError::new(kind, "handed back")), ..outcome(job, Status::Returned) }
}
