//! What the demo runs on: a broker and a store in memory, an engine with its API on a free port of this machine, a
//! worker with the example's handlers, and a site for them if none was named.

use std::path::Path;
use std::sync::Arc;

use phasework_broker::SharedBroker;
use phasework_broker::memory::MemoryBroker;
use phasework_engine::api::{ApiConfig, router, serve};
use phasework_engine::engine::Parts;
use phasework_engine::trace::SharedTracer;
use phasework_engine::{EngineConfig, RunningEngine, start};
use phasework_example_search::handlers::Shop;
use phasework_example_search::site::Site;
use phasework_example_search::web::Web;
use phasework_example_search::worker_with;
use phasework_sdk::Worker;
use phasework_store::memory::MemoryStore;
use phasework_workflows::id::SystemIds;
use phasework_workflows::run::apply;
use phasework_workflows::time::SystemClock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};
use crate::http::Api;

/// What is to be seen of the stage.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The site that is searched.
    pub(crate) site: String,
    /// The API of the engine.
    pub(crate) api: Api,
}

/// What the demo runs on.
#[derive(Debug)]
pub(crate) struct Stage {
    scene: Scene,
    own_site: Option<Site>,
    engine: RunningEngine,
    broker: SharedBroker,
    tasks: JoinSet<()>,
    over: CancellationToken,
}

impl Stage {
    /// Builds it. Pages are kept in `keep`, if anywhere.
    pub(crate) async fn build(
        site: Option<&str>,
        keep: Option<&Path>,
        tracer: Option<SharedTracer>,
    ) -> Result<Self, Failure> {
        if let Some(folder) = keep {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|error| Failure::usage(format!("cannot keep pages in {}: {error}", folder.display())))?;
        }
        let (own_site, site) = match site {
            Some(site) => (None, site.to_owned()),
            None => {
                let own = Site::start().map_err(|error| broken("the site", &error))?;
                let url = own.url().to_owned();
                (Some(own), url)
            }
        };
        let broker: SharedBroker = Arc::new(MemoryBroker::new());
        let engine = start(Parts {
            store: Arc::new(MemoryStore::new()),
            broker: Arc::clone(&broker),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            decide: apply,
            config: Arc::new(EngineConfig { tracer, ..EngineConfig::new("demo") }),
        });
        let engine = engine.map_err(|error| broken("the engine", &error))?;
        let (mut tasks, over) = (JoinSet::new(), CancellationToken::new());
        let api = serve_api(&engine, &mut tasks, &over).await?;
        host_handlers(&broker, keep, &mut tasks, &over)?;
        Ok(Self { scene: Scene { site, api }, own_site, engine, broker, tasks, over })
    }

    /// What is to be seen of it.
    pub(crate) fn scene(&self) -> Scene {
        self.scene.clone()
    }

    /// Returns when a part has ended though nobody asked it to.
    pub(crate) async fn failed(&mut self) {
        tokio::select! {
            biased;
            _ = self.engine.failed() => {}
            Some(ended) = self.tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the demo ended badly");
                }
            }
        }
    }

    /// Takes it down.
    pub(crate) async fn strike(mut self) {
        self.over.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the demo ended badly");
            }
        }
        self.engine.stop().await;
        self.broker.close().await;
        // It waits for requests under way, which is not for a thread that runs tasks.
        let gone = tokio::task::spawn_blocking(|| drop(self.own_site)).await;
        if let Err(error) = gone {
            tracing::error!(%error, "the site ended badly");
        }
    }
}

async fn serve_api(engine: &RunningEngine, tasks: &mut JoinSet<()>, over: &CancellationToken) -> Result<Api, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| broken("the API", &error))?;
    let address = listener.local_addr().map_err(|error| broken("the API", &error))?;
    let serving = serve(listener, router(engine.engine().clone(), ApiConfig::default()), over.clone());
    tasks.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the API cannot be served");
        }
    });
    Api::new(&format!("http://{address}"), None)
}

fn host_handlers(
    broker: &SharedBroker,
    keep: Option<&Path>,
    tasks: &mut JoinSet<()>,
    over: &CancellationToken,
) -> Result<(), Failure> {
    let web = Web::new().map_err(|error| broken("the handlers", &error))?;
    let shop = Shop { web, pages: keep.map(Path::to_owned), outbox: keep.map(Path::to_owned) };
    let worker = worker_with(Worker::new(Arc::clone(broker)), &shop).run_until(over.clone());
    tasks.spawn(async move {
        if let Err(error) = worker.await {
            tracing::error!(%error, "the worker ended badly");
        }
    });
    Ok(())
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Bad, format!("{what} cannot be started: {error}"))
}
