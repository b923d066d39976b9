//! The RabbitMQ adapter on a real RabbitMQ: every promise of the port, and what no other broker has: connections that
//! break. `PHASEWORK_TEST_BROKER_URL` says where it is; without it nothing is run, and said so.

use std::sync::Arc;

use async_trait::async_trait;
use phasework_broker::SharedBroker;
use phasework_broker::conformance::{Fixture, checks};
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_workflows::id::{IdSource, SystemIds};

struct Fresh {
    options: RabbitOptions,
}

impl Fresh {
    /// A part of the broker that nobody else uses.
    fn new(url: &str) -> Self {
        let mut options = RabbitOptions::new(url);
        options.prefix = format!("test.{}", SystemIds.uuid());
        options.max_message_bytes = 200_000;
        Self { options }
    }
}

#[async_trait]
impl Fixture for Fresh {
    async fn connect(&self) -> SharedBroker {
        Arc::new(RabbitMq::connect(self.options.clone()).await.expect("RabbitMQ"))
    }

    fn max_message_bytes(&self) -> usize {
        self.options.max_message_bytes
    }
}

/// Where RabbitMQ is, if the tests were given one.
fn url() -> Option<String> {
    let url = std::env::var("PHASEWORK_TEST_BROKER_URL").ok();
    if url.is_none() {
        println!("not run: PHASEWORK_TEST_BROKER_URL is not set");
    }
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_promise() {
    let Some(url) = url() else { return };
    for (name, check) in checks() {
        let started = std::time::Instant::now();
        check(&Fresh::new(&url)).await;
        println!("{name} {:?}", started.elapsed());
    }
}
