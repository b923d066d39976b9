//! The stage: parts, engines, workers, and how to have a run done.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::gateway::{Gateway, GatewayOptions};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Message, PublishError, SharedBroker};
use phasework_engine::engine::Parts;
use phasework_engine::{Engine, EngineConfig, RunDetail, RunningEngine, Submission, ToRun};
use phasework_sdk::Worker;
use phasework_store::SharedStore;
use phasework_store::memory::MemoryStore;
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_workflows::Payload;
use phasework_workflows::id::{RunId, SystemIds};
use phasework_workflows::run::apply;
use phasework_workflows::time::{Clock, Millis, SystemClock, Timestamp};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::doors::{Door, Doors};
use crate::{
    Blink, BlinkingBroker, BusyBroker, Clog, Clogged, Crash, CrashingBroker, CrashingStore, Damage, DamagedStore,
    Duplicating, Ledger, Swallow, SwallowingBroker,
};

/// How long a run may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a world is made of.
#[derive(Clone, Debug)]
pub enum Setting {
    /// Broker and store in memory.
    Embedded,
    /// The same, with workers that reach the engines over HTTP.
    OverHttp,
    /// A broker in memory, a store on SQLite in a directory.
    OnSqlite,
    /// A real RabbitMQ and a real Redis.
    Real {
        /// The broker's URL.
        broker: String,
        /// The store's URL.
        store: String,
    },
}

impl Setting {
    /// The real parts that the test command started; `None` when it did not.
    pub fn real() -> Option<Self> {
        let broker = std::env::var("PHASEWORK_TEST_BROKER_URL").ok()?;
        let store = std::env::var("PHASEWORK_TEST_STORE_URL").ok()?;
        Some(Self::Real { broker, store })
    }
}

/// A world to test in. Everything in it is stopped when it is dropped.
#[derive(Debug)]
pub struct World {
    setting: Setting,
    prefix: String,
    duplicate: bool,
    max_message_bytes: Option<usize>,
    /// How many stores there have been.
    stores: u32,
    /// What is in this process of a store, and of a broker.
    own: (OwnStore, MemoryBroker),
    engines: Vec<RunningEngine>,
    /// Of each engine its gateway, if workers use that.
    gateways: Vec<Option<Door>>,
    doors: Doors,
    workers: Vec<(CancellationToken, JoinHandle<()>)>,
    /// What the handlers did.
    pub ledger: Ledger,
}

/// A store of this process.
#[derive(Debug)]
struct OwnStore {
    store: SharedStore,
    /// Where it is, if it is anywhere.
    _dir: Option<TempDir>,
}

impl OwnStore {
    fn new(setting: &Setting) -> Self {
        match setting {
            Setting::OnSqlite => {
                let dir = TempDir::new().expect("a directory can be made");
                let store = SqliteStore::open(&SqliteOptions::new(dir.path()), &SystemIds);
                Self { store: Arc::new(store.expect("a store can be made there")), _dir: Some(dir) }
            }
            Setting::Embedded | Setting::OverHttp | Setting::Real { .. } => {
                Self { store: Arc::new(MemoryStore::new()), _dir: None }
            }
        }
    }
}

impl World {
    /// An empty world.
    pub fn new(setting: Setting) -> Self {
        let prefix = format!("test-{}", RunId::new(phasework_workflows::id::IdSource::uuid(&SystemIds)));
        let own = OwnStore::new(&setting);
        Self {
            setting,
            prefix,
            duplicate: false,
            max_message_bytes: None,
            stores: 1,
            own: (own, MemoryBroker::new()),
            engines: Vec::new(),
            gateways: Vec::new(),
            doors: Doors::default(),
            workers: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// From now on every message is delivered twice.
    pub const fn duplicate_messages(&mut self) {
        self.duplicate = true;
    }

    /// What the names of this world's queues and keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What this world is made of.
    pub const fn setting(&self) -> &Setting {
        &self.setting
    }

    /// A broker, as a process of its own would have it.
    pub async fn broker(&self) -> SharedBroker {
        let broker: SharedBroker = match &self.setting {
            Setting::Embedded | Setting::OverHttp | Setting::OnSqlite => Arc::new(self.own.1.connect()),
            Setting::Real { broker, .. } => {
                let mut options = RabbitOptions { prefix: self.prefix.clone(), ..RabbitOptions::new(broker) };
                options.max_message_bytes = self.max_message_bytes.unwrap_or(options.max_message_bytes);
                Arc::new(RabbitMq::connect(options).await.expect("the test broker can be reached"))
            }
        };
        if self.duplicate { Arc::new(Duplicating(broker)) } else { broker }
    }

    /// A store, as a process of its own would have it.
    pub async fn store(&self) -> SharedStore {
        match &self.setting {
            Setting::Embedded | Setting::OverHttp | Setting::OnSqlite => self.own.0.store.clone(),
            Setting::Real { store, .. } => {
                let prefix =
                    if self.stores == 1 { self.prefix.clone() } else { format!("{}-{}", self.prefix, self.stores) };
                let options = RedisOptions { prefix, ..RedisOptions::new(store) };
                Arc::new(RedisStore::connect(&options).expect("the options are sound"))
            }
        }
    }

    /// Starts an engine.
    pub async fn start_engine(&mut self) -> Engine {
        let parts = self.parts().await;
        self.start_with(parts)
    }

    /// Starts an engine that crashes at a point: it gets no further, until [`World::kill_engine`] removes it.
    pub async fn start_crashing_engine(&mut self, crash: &Crash) -> Engine {
        let mut parts = self.parts().await;
        parts.store = Arc::new(CrashingStore(parts.store, crash.clone()));
        parts.broker = Arc::new(CrashingBroker(parts.broker, crash.clone()));
        self.start_with(parts)
    }

    /// Starts an engine whose store cannot tell which runs of some shards live.
    pub async fn start_damaged_engine(&mut self, damage: &Damage) -> Engine {
        let mut parts = self.parts().await;
        parts.store = Arc::new(DamagedStore(parts.store, damage.clone()));
        self.start_with(parts)
    }

    /// Starts an engine whose coordinator consumers blink when told to, and which sends no ticks.
    pub async fn start_blinking_engine(&mut self, blink: &Blink) -> Engine {
        let mut parts = self.parts().await;
        parts.broker = Arc::new(BlinkingBroker(parts.broker, blink.clone()));
        parts.config = Arc::new(EngineConfig { tick: Millis::from_secs(10), ..(*parts.config).clone() });
        self.start_with(parts)
    }

    /// Starts an engine whose broker confirms nothing for one queue.
    pub async fn start_clogged_engine(&mut self, clog: &Clog) -> Engine {
        let mut parts = self.parts().await;
        parts.broker = Arc::new(Clogged(parts.broker, clog.clone()));
        self.start_with(parts)
    }

    /// Starts an engine whose coordinator queues always have something for it.
    pub async fn start_busy_engine(&mut self) -> Engine {
        let mut parts = self.parts().await;
        parts.broker = Arc::new(BusyBroker(parts.broker));
        self.start_with(parts)
    }

    /// Starts an engine of whose messages one is lost, and whose clock goes so many times as fast as the wall's.
    pub async fn start_swallowing_engine(&mut self, swallow: &Swallow, times: u32) -> Engine {
        let mut parts = self.parts().await;
        parts.broker = Arc::new(SwallowingBroker(parts.broker, swallow.clone()));
        quicken(&mut parts, times);
        self.start_with(parts)
    }

    /// Takes the messages that wait in a queue away. Nobody is told.
    pub async fn purge(&self, queue: &Address) {
        let broker = self.broker().await;
        match &self.setting {
            // Nobody reads from it when tests do this, so that it is not missed when it is gone itself.
            Setting::Embedded | Setting::OverHttp | Setting::OnSqlite => {
                broker.delete(queue).await.expect("a queue can be deleted");
            }
            Setting::Real { broker: url, .. } => {
                let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await;
                let connection = connection.expect("the test broker can be reached");
                let channel = connection.create_channel().await.expect("a channel");
                let purged = channel.queue_purge(broker.name_of(queue).into(), Default::default()).await;
                purged.expect("a queue can be purged");
                connection.close(200, "purged".into()).await.expect("a connection can be closed");
            }
        }
        broker.close().await;
    }

    /// From now on no message may be larger than this.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.own.1 = MemoryBroker::with_max_message_bytes(bytes);
        self.max_message_bytes = Some(bytes);
    }

    /// Starts an engine whose clock is ahead of the others' by this much.
    pub async fn start_engine_ahead(&mut self, by: Millis) -> Engine {
        let mut parts = self.parts().await;
        parts.clock = Arc::new(Ahead(by));
        self.start_with(parts)
    }

    /// Starts an engine whose clock goes so many times as fast as the wall's. What it does at times of its own clock it
    /// does with the next message: ticks come often enough.
    pub async fn start_fast_engine(&mut self, times: u32) -> Engine {
        let mut parts = self.parts().await;
        quicken(&mut parts, times);
        self.start_with(parts)
    }

    /// Starts an engine that maps runs onto this many coordinator queues.
    pub async fn start_engine_mapping(&mut self, queues: u16) -> Engine {
        let mut parts = self.parts().await;
        parts.config = Arc::new(EngineConfig { coordinator_queues: queues, ..(*parts.config).clone() });
        self.start_with(parts)
    }

    /// Starts an engine that goes on with a store that was emptied.
    pub async fn start_adopting_engine(&mut self) -> Engine {
        let mut parts = self.parts().await;
        parts.config = Arc::new(EngineConfig { adopt: true, ..(*parts.config).clone() });
        self.start_with(parts)
    }

    /// From now on the store is an empty one.
    pub fn lose_store(&mut self) {
        self.own.0 = OwnStore::new(&self.setting);
        self.stores += 1;
    }

    /// Why the `place`-th engine ended though nobody asked it to.
    pub async fn engine_failed(&mut self, place: usize) -> String {
        let failed = self.engines.get_mut(place).expect("there is such an engine").failed();
        tokio::time::timeout(PATIENCE, failed).await.expect("the engine ends")
    }

    /// Stops the `place`-th engine, as SIGTERM would.
    pub async fn stop_engine(&mut self, place: usize) {
        self.close_gateway(place).await;
        self.engines.remove(place).stop().await;
    }

    /// Removes the engine that was started first, wherever it is in its work. Its connections close as a killed
    /// process's would: what it held is delivered again.
    pub async fn kill_engine(&mut self) {
        self.close_gateway(0).await;
        let engine = self.engines.remove(0);
        let broker = Arc::clone(&engine.engine().parts().broker);
        drop(engine);
        broker.close().await;
    }

    /// The parts of an engine, as a process of its own would have them.
    async fn parts(&self) -> Parts {
        let name = format!("engine-{}", self.engines.len() + 1);
        let config = EngineConfig { tick: Millis(100), coordinator_queues: 4, ..EngineConfig::new(name) };
        Parts {
            store: self.store().await,
            broker: self.broker().await,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            decide: apply,
            config: Arc::new(config),
        }
    }

    fn start_with(&mut self, parts: Parts) -> Engine {
        let running = phasework_engine::start(parts).expect("the settings are sound");
        let engine = running.engine().clone();
        self.engines.push(running);
        let gateway = matches!(self.setting, Setting::OverHttp).then(|| {
            let broker: SharedBroker = Arc::new(self.own.1.connect());
            self.doors.open(&broker)
        });
        self.gateways.push(gateway);
        engine
    }

    async fn close_gateway(&mut self, place: usize) {
        if let Some(gateway) = self.gateways.remove(place) {
            gateway.close().await;
        }
    }

    /// The broker as a worker reaches it.
    async fn broker_of_workers(&self) -> SharedBroker {
        if !matches!(self.setting, Setting::OverHttp) {
            return self.broker().await;
        }
        let connecting = async {
            loop {
                match Gateway::over(Arc::new(self.doors.clone()), GatewayOptions::new("")).await {
                    Ok(broker) => return Arc::new(broker),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let broker: SharedBroker = tokio::time::timeout(PATIENCE, connecting).await.expect("a gateway is there");
        if self.duplicate { Arc::new(Duplicating(broker)) } else { broker }
    }

    /// Starts a worker that hosts what `with` gives it.
    pub async fn start_worker(&mut self, with: impl FnOnce(Worker) -> Worker) {
        let worker = with(Worker::new(self.broker_of_workers().await)).drain_timeout(Duration::from_secs(2));
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let task = tokio::spawn(async move { worker.run_until(until).await.expect("the worker runs") });
        self.workers.push((shutdown, task));
    }

    /// Stops the `place`-th worker, as SIGTERM would.
    pub async fn stop_worker(&mut self, place: usize) {
        let (shutdown, task) = self.workers.remove(place);
        shutdown.cancel();
        task.await.expect("the worker ends well");
    }

    /// Ends the `place`-th worker in the middle of whatever it does, as `kill -9` would: no drain, no goodbye.
    pub async fn kill_worker(&mut self, place: usize) {
        let (_, task) = self.workers.remove(place);
        task.abort();
        let ended = task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the worker was killed");
    }

    /// Has `definition` run with `data`, and waits for its end or halt.
    pub async fn run(&self, definition: &str, data: Value) -> RunDetail {
        let engine = self.engines.first().expect("an engine was started").engine();
        let run = submit(engine, definition, data).await;
        wait(engine, run).await
    }

    /// Stops everything: workers first, then engines.
    pub async fn stop(mut self) {
        while !self.workers.is_empty() {
            self.stop_worker(0).await;
        }
        while !self.gateways.is_empty() {
            self.close_gateway(0).await;
        }
        for engine in std::mem::take(&mut self.engines) {
            engine.stop().await;
        }
    }
}

/// The wall clock, and some time on top of it.
#[derive(Debug)]
struct Ahead(Millis);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.0)
    }
}

/// A clock that goes faster than the wall's, with which it agreed at its start.
#[derive(Debug)]
struct Fast {
    since: Timestamp,
    times: u32,
}

impl Clock for Fast {
    fn now(&self) -> Timestamp {
        self.since.plus(Millis(SystemClock.now().since(self.since).0 * u64::from(self.times)))
    }
}

/// Gives an engine a fast clock. By that clock its ticks are rare: so they are to count for long, or whoever has to wait
/// for the processor for once is no owner any more, and begins to listen anew.
fn quicken(parts: &mut Parts, times: u32) {
    parts.clock = Arc::new(Fast { since: SystemClock.now(), times });
    parts.config = Arc::new(EngineConfig { tick: Millis::from_secs(1), ..(*parts.config).clone() });
}

/// Publishes a message until the broker confirms it, as every client has to: one that is busy may well not. More than
/// once where that makes no difference.
pub async fn publish(broker: &SharedBroker, message: Message) {
    let confirmed = async {
        while let Err(error) = broker.publish(vec![message.clone()]).await.remove(0) {
            assert!(matches!(error, PublishError::Unconfirmed(_)), "it is not published: {error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, confirmed).await.expect("a message is confirmed in time");
}

/// Submits a definition.
pub async fn submit(engine: &Engine, definition: &str, data: Value) -> RunId {
    let data = (!data.is_null()).then(|| Payload::from(data));
    let submission = Submission { what: ToRun::Definition(definition.to_owned()), data, key: None };
    engine.submit(submission).await.expect("the submission is accepted").run
}

/// Waits for the end, or the halt, of a run.
pub async fn wait(engine: &Engine, run: RunId) -> RunDetail {
    let detail = engine.wait(run, PATIENCE).await.expect("the run can be looked at");
    let state = detail.head.state;
    assert!(state.is_ended() || state == phasework_workflows::run::RunState::Halted, "stuck: {:#?}", detail.head);
    detail
}
