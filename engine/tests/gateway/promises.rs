//! Every promise of the broker port, kept through a real HTTP server.

use std::sync::Arc;

use async_trait::async_trait;
use phasework_broker::conformance::{Fixture, checks};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Broker as _, SharedBroker};
use phasework_engine::api::Policy;
use phasework_workflows::id::{IdSource as _, SystemIds};

use super::world::{Server, within};

struct Behind {
    server: Server,
    max_message_bytes: usize,
}

#[async_trait]
impl Fixture for Behind {
    async fn connect(&self) -> SharedBroker {
        self.server.connect().await
    }

    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }
}

#[tokio::test]
async fn keeps_every_promise_on_the_embedded_broker() {
    for (name, check) in checks() {
        println!("{name}");
        let broker = Arc::new(MemoryBroker::with_max_message_bytes(1000));
        let server = Server::start(broker, Policy::Everything).await;
        let fixture = Behind { server, max_message_bytes: 1000 };
        check(&fixture).await;
        fixture.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_every_promise_on_rabbitmq() {
    let Ok(url) = std::env::var("PHASEWORK_TEST_BROKER_URL") else {
        println!("not run: PHASEWORK_TEST_BROKER_URL is not set");
        return;
    };
    // Somebody has to choose, as `main` does in a program. That it is chosen already is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    for (name, check) in checks() {
        println!("{name}");
        let options = RabbitOptions {
            prefix: format!("test.{}", SystemIds.uuid()),
            max_message_bytes: 200_000,
            ..RabbitOptions::new(&url)
        };
        let broker = Arc::new(within(RabbitMq::connect(options)).await.unwrap());
        let server = Server::start(Arc::<RabbitMq>::clone(&broker), Policy::Everything).await;
        let fixture = Behind { server, max_message_bytes: 200_000 };
        check(&fixture).await;
        fixture.server.stop().await;
        broker.close().await;
    }
}
