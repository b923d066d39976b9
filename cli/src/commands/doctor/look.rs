//! Finds out how an installation is: asks RabbitMQ, Redis and, where one answers, a coordinator. Changes nothing, judges
//! nothing, and waits for nobody for long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker as _, BrokerError, Message, PublishError};
use phasework_engine::USED_MARKER;
use phasework_store::redis::{RedisOptions, RedisStore, Server};
use phasework_store::sqlite::SqliteStore;
use phasework_store::{RunFilter, Store, StoreError};
use phasework_workflows::definition::{Workflow, handler_queue, parse};
use phasework_workflows::id::{Revision, Shard};
use phasework_workflows::message::presence::WORKER_TTL;
use phasework_workflows::run::{Head, RunState};
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::Value;

use super::facts::{BrokerFacts, EngineAnswer, EngineFacts, Facts, Markers, Part, Queue, Remembered, StoreFacts};
use crate::http::{Api, Ask};
use crate::routes;
use crate::settings::{BrokerUrl, Settings, StoreUrl};

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many live runs are looked at.
const RUNS: usize = 1000;

/// How often a marker is looked for: a queue that is just being brought up again may look empty.
const MARKER_LOOKS: u32 = 3;

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Finds out.
pub(super) async fn look(settings: &Settings, api: &Api, is_named: bool) -> Facts {
    let (store, engine) = tokio::join!(store(settings), engine(api, is_named));
    // Which job queues there are is known from the workers that the store remembers.
    let broker = broker(settings, &store).await;
    Facts { broker, store, engine }
}

async fn broker(settings: &Settings, store: &Part<StoreFacts>) -> Part<BrokerFacts> {
    let BrokerUrl::Rabbit(url) = &settings.broker else { return Part::InMemory };
    let address = format!("{:?}", settings.broker);
    let options = RabbitOptions {
        prefix: settings.prefix.clone(),
        connection_name: "phasework doctor".to_owned(),
        connect_timeout: PATIENCE,
        publish_timeout: PATIENCE,
        ..RabbitOptions::new(url)
    };
    let server = RabbitMq::greet(&options).await;
    let rabbit = match RabbitMq::connect(options).await {
        Ok(rabbit) => rabbit,
        Err(BrokerError::Refused(why)) => return Part::Refused { address, why },
        Err(error) => return Part::Away { address, why: plain(&error) },
    };
    let queues = settings.engine.coordinator_queues;
    let facts = BrokerFacts {
        address,
        server: server.map_err(|error| error.to_string()),
        takes_messages: takes_messages(&rabbit).await,
        coordinators: examine(&rabbit, (0..queues).map(Address::Coordinator)).await,
        submit: queue(&rabbit, Address::Submit).await,
        dead: queue(&rabbit, Address::Dead).await,
        jobs: examine(&rabbit, job_queues(store).into_iter()).await,
        markers: markers(&rabbit, store).await,
    };
    rabbit.close().await;
    Part::There(facts)
}

/// RabbitMQ says that it takes no messages when one is published, and not before. This one reaches nobody.
async fn takes_messages(rabbit: &RabbitMq) -> Result<(), String> {
    let nobody = Address::Private(format!("doctor.{}", std::process::id()).into());
    match rabbit.publish(vec![Message::new(nobody, "Nothing", "{}")]).await.pop() {
        Some(Err(PublishError::Unconfirmed(why))) => {
            let why = rabbit.health().err().map_or(why, |error| plain(&error));
            Err(why.trim_start_matches("RabbitMQ takes no messages: ").to_owned())
        }
        _ => Ok(()),
    }
}

async fn examine(rabbit: &RabbitMq, queues: impl Iterator<Item = Address>) -> Vec<Queue> {
    let mut found = Vec::new();
    for address in queues {
        found.push(queue(rabbit, address).await);
    }
    found
}

async fn queue(rabbit: &RabbitMq, address: Address) -> Queue {
    let found = rabbit.examine(&address).await.map_err(|error| plain(&error));
    Queue { name: rabbit.name_of(&address), found }
}

/// What tells whether something was lost, as far as it is known what to look for.
async fn markers(rabbit: &RabbitMq, store: &Part<StoreFacts>) -> Option<Result<Markers, String>> {
    let Part::There(StoreFacts { memory: Ok(memory), .. }) = store else { return None };
    let asked = async {
        let holds_stored = match &memory.marker {
            Some(marker) => Some(has(rabbit, marker).await?),
            None => None,
        };
        Ok(Markers { holds_stored, was_used: has(rabbit, USED_MARKER).await? })
    };
    Some(asked.await.map_err(|error: BrokerError| plain(&error)))
}

/// Whether a marker is there, and its message in it.
async fn has(rabbit: &RabbitMq, marker: &str) -> Result<bool, BrokerError> {
    let queue = Address::Marker(marker.into());
    for look in 0..MARKER_LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        if rabbit.depth(&queue).await? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The job queues of what live workers host. (Definitions may name others.)
fn job_queues(store: &Part<StoreFacts>) -> Vec<Address> {
    let Part::There(StoreFacts { server, memory: Ok(memory), .. }) = store else { return Vec::new() };
    let live = memory.workers.iter().filter(|(_, seen)| server.time.since(*seen) <= WORKER_TTL);
    let hosted = live.flat_map(|(worker, _)| &worker.handlers);
    let mut names: Vec<_> = hosted.map(|hosted| handler_queue(&hosted.name, &hosted.version)).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| Address::Jobs(name.into())).collect()
}

async fn store(settings: &Settings) -> Part<StoreFacts> {
    let address = format!("{:?}", settings.store);
    let url = match &settings.store {
        StoreUrl::Redis(url) => url,
        StoreUrl::Sqlite(dir) => return file(address, dir.clone()).await,
        StoreUrl::Memory => return Part::InMemory,
    };
    let options =
        RedisOptions { prefix: settings.prefix.clone(), timeout: PATIENCE, ..RedisOptions::new(url.as_str()) };
    let asked = async {
        let store = RedisStore::connect(&options)?;
        let before = SystemClock.now().as_millis();
        let server = store.server().await?;
        let after = SystemClock.now().as_millis();
        Ok::<_, StoreError>((store, server, i64::midpoint(before, after)))
    };
    let (store, server, now) = match asked.await {
        Ok(asked) => asked,
        Err(StoreError::Unavailable(why)) => return Part::Away { address, why },
        Err(error) => return Part::Refused { address, why: error.to_string() },
    };
    let memory = remembered(&store).await.map_err(|error| error.to_string());
    Part::There(StoreFacts { address, ahead_ms: server.time.as_millis() - now, server, file: None, memory })
}

/// A store on SQLite, which may be in use meanwhile.
async fn file(address: String, dir: PathBuf) -> Part<StoreFacts> {
    let looking = tokio::task::spawn_blocking(move || SqliteStore::look(&dir)).await;
    let (store, file) = match looking {
        Ok(Ok(looked)) => looked,
        Ok(Err(StoreError::Unavailable(why))) => return Part::Away { address, why },
        Ok(Err(error)) => return Part::Refused { address, why: error.to_string() },
        Err(error) => return Part::Away { address, why: error.to_string() },
    };
    let memory = remembered(&store).await.map_err(|error| error.to_string());
    let server = Server { time: SystemClock.now(), ..Server::default() };
    Part::There(StoreFacts { address, ahead_ms: 0, server, file: Some(file), memory })
}

async fn remembered(store: &dyn Store) -> Result<Remembered, StoreError> {
    let shards: Vec<_> = Shard::all().collect();
    let mut memory = Remembered {
        runs: store.run_counts().await?,
        dead_letters: store.dead_count().await?,
        workers: store.workers().await?,
        marker: store.marker().await?,
        lineage: store.lineage().await?,
        epochs: store.epochs(&shards).await?.into_iter().flatten().collect(),
        ..Remembered::default()
    };
    for stored in store.workflows().await? {
        if let Ok(document) = parse(&stored.definition) {
            note_wanted(&mut memory, &document.workflow);
        }
    }
    let filter = RunFilter { ended: Some(false), before: None, limit: RUNS };
    let mut workflows = BTreeMap::new();
    for listed in store.runs(&filter).await? {
        // One that is damaged is the auditor's business.
        let Ok(head) = Head::from_json(&listed.head) else { continue };
        if !workflows.contains_key(&head.revision) {
            let workflow = definition(store, &head.revision).await?;
            if let Some(workflow) = &workflow {
                note_wanted(&mut memory, workflow);
            }
            workflows.insert(head.revision.clone(), workflow);
        }
        note_run(&mut memory, &head, workflows.get(&head.revision).and_then(Option::as_ref));
    }
    Ok(memory)
}

async fn definition(store: &dyn Store, revision: &Revision) -> Result<Option<Workflow>, StoreError> {
    let stored = store.workflow(revision).await?;
    Ok(stored.and_then(|stored| parse(&stored.definition).ok()).map(|document| document.workflow))
}

fn note_wanted(memory: &mut Remembered, workflow: &Workflow) {
    for handler in workflow.phases.iter().flat_map(|phase| &phase.handlers) {
        let wanted = memory.wanted.entry(handler.name.clone()).or_default();
        if !wanted.contains(&handler.version) {
            wanted.push(handler.version.clone());
        }
    }
}

fn note_run(memory: &mut Remembered, head: &Head, workflow: Option<&Workflow>) {
    memory.looked_at += 1;
    match head.state {
        RunState::Halted => memory.halted.push(head.id),
        RunState::Paused => memory.paused.push(head.id),
        _ => {}
    }
    let phase = workflow.and_then(|workflow| workflow.phase(&head.entry.phase));
    for handler in head.entry.handlers.iter().filter(|handler| !handler.is_finished()) {
        if let Some(version) = &handler.version {
            memory.pinned.insert((handler.name.clone(), version.clone()));
        }
        if head.state != RunState::Running || handler.unmanned_since.is_none() {
            continue;
        }
        let requirement = phase.and_then(|phase| phase.handler(&handler.name)).map(|(_, spec)| &spec.version);
        let what = match requirement.filter(|requirement| !requirement.is_any()) {
            Some(requirement) => format!("{} {requirement}", handler.name),
            None => handler.name.to_string(),
        };
        *memory.missing.entry(what).or_default() += 1;
    }
}

async fn engine(api: &Api, is_named: bool) -> EngineFacts {
    let answer = match api.readiness().await.map(|found| found.reasons) {
        Ok(reasons) => {
            // Not told to who has not got the token, nor while it starts.
            let about: Option<Value> = api.get(&routes::ABOUT, &[], Ask::default()).await.ok();
            let version = about.and_then(|about| Some(about.get("version")?.as_str()?.to_owned()));
            Ok(EngineAnswer { version, reasons })
        }
        Err(failure) => Err(failure.message),
    };
    EngineFacts { address: api.address().to_owned(), is_named, answer }
}

/// The cause alone.
fn plain(error: &BrokerError) -> String {
    match error {
        BrokerError::Unavailable(why) | BrokerError::Refused(why) => why.clone(),
        BrokerError::Closed => error.to_string(),
    }
}
