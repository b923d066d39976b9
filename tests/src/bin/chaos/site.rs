//! What runs: RabbitMQ and Redis, a proxy before each, and the coordinators and workers on them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use xtask::install;
use xtask::rabbitmq::{self, RabbitMq};
use xtask::redis::{self, Redis};
use xtask::services::space;
use xtask::tied::Directory;

use crate::api::Api;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::schedule::{COORDINATORS, Part, Program, WORKERS};

/// What the names of queues and keys begin with.
pub(crate) const PREFIX: &str = "chaos";

/// All that runs. It ends with this value, however that comes.
pub(crate) struct Site {
    coordinators: Vec<Arc<Process>>,
    workers: Vec<Arc<Process>>,
    api: Api,
    proxies: [Proxy; 2],
    broker: Arc<Mutex<RabbitMq>>,
    store: Arc<Mutex<Redis>>,
    /// Held while something is done to the broker, and to the store.
    turns: [tokio::sync::Mutex<()>; 2],
    directory: Directory,
}

impl Site {
    /// Starts everything, and returns when all coordinators are ready.
    pub(crate) async fn start() -> Result<Self> {
        // Kept whatever happens, and removed in the end when there is nothing to look at.
        let directory = Directory::create(true)?;
        let path = directory.path().to_owned();
        let programs = install::find_or_install(&[rabbitmq::NEEDED, redis::NEEDED])?;
        let (store_space, broker_space) = (space(&path, "redis")?, space(&path, "rabbitmq")?);
        let ledgers = space(&path, "ledgers")?;
        let (broker, store) = tokio::task::spawn_blocking(move || {
            // Nothing that Redis confirmed may be lost when it is killed.
            let mut store = Redis::prepare(&programs[1], &store_space, "always")?;
            store.start()?;
            let mut broker = RabbitMq::prepare(&programs[0], &broker_space)?;
            broker.start()?;
            Ok::<_, anyhow::Error>((broker, store))
        })
        .await??;
        let proxies = [Proxy::before(broker.port()).await?, Proxy::before(store.port()).await?];
        let broker_url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxies[0].port());
        let store_url = format!("redis://127.0.0.1:{}", proxies[1].port());

        let (mut coordinators, mut addresses) = (Vec::new(), Vec::new());
        for (place, address) in free_addresses::<COORDINATORS>()?.into_iter().enumerate() {
            coordinators.push(coordinator(place, &address, &path, &broker_url, &store_url)?);
            addresses.push(format!("http://{address}"));
        }
        let mut workers = Vec::new();
        for place in 0..WORKERS {
            workers.push(worker(place, &path, &ledgers, &broker_url)?);
        }
        for process in coordinators.iter().chain(&workers) {
            process.start().await?;
        }
        let api = Api::new(addresses)?;
        api.until_all_are_ready().await?;
        let (broker, store) = (Arc::new(Mutex::new(broker)), Arc::new(Mutex::new(store)));
        Ok(Self { coordinators, workers, api, proxies, broker, store, turns: Default::default(), directory })
    }

    /// Where logs and ledgers are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The files of the handlers.
    pub(crate) fn ledgers(&self) -> PathBuf {
        self.directory().join("ledgers")
    }

    /// The HTTP API of the coordinators.
    pub(crate) const fn api(&self) -> &Api {
        &self.api
    }

    /// A coordinator or worker.
    pub(crate) fn process(&self, program: Program) -> &Process {
        match program {
            Program::Coordinator(place) => &self.coordinators[place],
            Program::Worker(place) => &self.workers[place],
        }
    }

    /// All coordinators and workers.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.coordinators.iter().chain(&self.workers)
    }

    /// The proxy before a part.
    pub(crate) const fn proxy(&self, part: Part) -> &Proxy {
        let [broker, store] = &self.proxies;
        match part {
            Part::Broker => broker,
            Part::Store => store,
        }
    }

    /// Waits until nothing else is done to a part.
    pub(crate) async fn turn(&self, part: Part) -> tokio::sync::MutexGuard<'_, ()> {
        let [broker, store] = &self.turns;
        match part {
            Part::Broker => broker.lock().await,
            Part::Store => store.lock().await,
        }
    }

    /// Does something to RabbitMQ that takes its time.
    pub(crate) async fn with_broker(
        &self,
        what: impl FnOnce(&mut RabbitMq) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let broker = Arc::clone(&self.broker);
        tokio::task::spawn_blocking(move || what(&mut lock(&broker))).await?
    }

    /// Does something to Redis that takes its time.
    pub(crate) async fn with_store(&self, what: impl FnOnce(&mut Redis) -> Result<()> + Send + 'static) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || what(&mut lock(&store))).await?
    }

    /// RabbitMQ's address, past the proxy.
    pub(crate) fn broker_url(&self) -> String {
        lock(&self.broker).url()
    }

    /// Redis's address, past the proxy.
    pub(crate) fn store_url(&self) -> String {
        lock(&self.store).url()
    }

    /// Ends it all; what was written stays when there is something to look at.
    pub(crate) fn end(self, forget: bool) -> Result<()> {
        let Self { coordinators, workers, broker, store, directory, .. } = self;
        drop((coordinators, workers, broker, store));
        if forget {
            let path = directory.path();
            std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else {
            println!("chaos: logs, ledgers and data are in {}", directory.path().display());
        }
        Ok(())
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_addresses<const N: usize>() -> Result<[String; N]> {
    Ok(xtask::services::free_ports::<N>()?.map(|port| format!("127.0.0.1:{port}")))
}

fn coordinator(place: usize, address: &str, path: &Path, broker: &str, store: &str) -> Result<Arc<Process>> {
    let name = format!("coordinator-{place}");
    let [broker, store, address] = [broker, store, address].map(str::to_owned);
    let dressed = name.clone();
    Process::new(name.clone(), "phasework", path.join(format!("{name}.log")), move |command, _| {
        command.args(["serve", "--broker", &broker, "--store", &store, "--prefix", PREFIX, "--listen", &address]);
        command.args(["--name", &dressed]);
    })
}

fn worker(place: usize, path: &Path, ledgers: &Path, broker: &str) -> Result<Arc<Process>> {
    let name = format!("worker-{place}");
    let (broker, ledgers, dressed) = (broker.to_owned(), ledgers.to_owned(), name.clone());
    Process::new(name.clone(), "chaos-worker", path.join(format!("{name}.log")), move |command, start| {
        command.env("PHASEWORK_URL", &broker).env("PHASEWORK_PREFIX", PREFIX);
        // Nobody else writes to that one, not even the same worker started again.
        command.env("LEDGER", ledgers.join(format!("{dressed}-{start}")));
    })
}
