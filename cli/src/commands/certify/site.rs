//! What a worker is connected to while it is tried: a RabbitMQ that is there, or a gateway of our own before a broker in
//! memory.

use std::sync::Arc;

use phasework_broker::SharedBroker;
use phasework_broker::memory::MemoryBroker;
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_engine::api::{GatewayConfig, gateway_router};
use phasework_workflows::id::{IdSource as _, SystemIds};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::wary::Care;
use crate::commands::between::BetweenBroker;
use crate::failure::{Exit, Failure};

/// Where a worker is tried.
#[derive(Debug)]
pub(super) struct Site {
    /// The engine's own connection.
    pub(super) broker: SharedBroker,
    /// What the worker finds in its environment.
    pub(super) environment: Vec<(String, String)>,
    /// What is seen behind a gateway.
    pub(super) care: Option<Care>,
    _gateway: Option<AbortOnDropHandle<()>>,
}

impl Site {
    /// On RabbitMQ, under a prefix of its own.
    pub(super) async fn rabbit(url: &str) -> Result<Self, Failure> {
        let prefix = format!("certify-{}", SystemIds.uuid());
        let connection_name = "phasework certify".to_owned();
        let options = RabbitOptions { prefix: prefix.clone(), connection_name, ..RabbitOptions::new(url) };
        let broker = RabbitMq::connect(options).await;
        let broker = broker.map_err(|error| Failure::new(Exit::Unreachable, error.to_string()))?;
        let environment = environment(url, Some(&prefix));
        Ok(Self { broker: Arc::new(broker), environment, care: None, _gateway: None })
    }

    /// Over HTTP, on a free port of this machine.
    pub(super) async fn gateway() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::usage(format!("cannot listen on 127.0.0.1: {error}"));
        let (memory, care) = (MemoryBroker::new(), Care::default());
        let behind = BetweenBroker { within: Arc::new(memory.connect()), between: care.clone() };
        let router = gateway_router(Arc::new(behind), Arc::new(SystemIds), GatewayConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        // It ends with us; until then it serves, whatever becomes of one connection.
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self {
            broker: Arc::new(memory.connect()),
            environment: environment(&url, None),
            care: Some(care),
            _gateway: Some(AbortOnDropHandle::new(serving)),
        })
    }
}

fn environment(url: &str, prefix: Option<&str>) -> Vec<(String, String)> {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut environment = vec![set("PHASEWORK_URL", url), set("PHASEWORK_DRAIN_TIMEOUT", "5s")];
    environment.extend(prefix.map(|prefix| set("PHASEWORK_PREFIX", prefix)));
    environment
}
