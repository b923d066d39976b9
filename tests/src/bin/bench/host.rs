//! Everything in one process: what `bench host PORT SLOTS` runs. The API is there only to be measured through.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use metrics_exporter_prometheus::PrometheusBuilder;
use phasework_broker::SharedBroker;
use phasework_broker::memory::MemoryBroker;
use phasework_engine::api::{ApiConfig, router, serve};
use phasework_engine::engine::Parts;
use phasework_engine::{EngineConfig, start};
use phasework_sdk::Worker;
use phasework_store::memory::MemoryStore;
use phasework_tests::noop;
use phasework_workflows::id::SystemIds;
use phasework_workflows::run::apply;
use phasework_workflows::time::SystemClock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often histograms are put together, as the engine's own program does.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs until it is ended from outside.
pub(crate) async fn run(port: u16, slots: u32) -> Result<()> {
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    let broker: SharedBroker = Arc::new(MemoryBroker::new());
    let engine = start(Parts {
        store: Arc::new(MemoryStore::new()),
        broker: Arc::clone(&broker),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        decide: apply,
        config: Arc::new(EngineConfig { adopt: true, ..EngineConfig::new("bench") }),
    })?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let config = ApiConfig { metrics: Some(metrics), ..ApiConfig::default() };
    let api = tokio::spawn(serve(listener, router(engine.engine().clone(), config), CancellationToken::new()));
    noop::handlers(Worker::new(broker), slots).run().await?;
    api.await??;
    Ok(())
}
