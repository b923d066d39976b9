//! The RabbitMQ adapter on a real RabbitMQ: every promise of the port, and what no other broker has: connections that
//! break, queues that others made. `PHASEWORK_TEST_BROKER_URL` says where it is; without it nothing is run, and said so.

mod looks;
mod outages;
mod proxy;
mod strangers;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::conformance::{Fixture, checks};
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker, Consumer, Delivery, DeliveryTag, Message, SharedBroker, Subscription};
use phasework_workflows::id::{IdSource, SystemIds};

struct Fresh {
    options: RabbitOptions,
}

#[async_trait]
impl Fixture for Fresh {
    async fn connect(&self) -> SharedBroker {
        Arc::new(connect(&self.options).await)
    }

    fn max_message_bytes(&self) -> usize {
        self.options.max_message_bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_promise() {
    let Some(url) = url() else { return };
    for (name, check) in checks() {
        println!("{name}");
        let mut options = options(&url);
        options.max_message_bytes = 200_000;
        check(&Fresh { options }).await;
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

/// Settings under which nobody else's queues are seen.
fn options(url: &str) -> RabbitOptions {
    // Somebody has to choose, as `main` does in a program. That it is chosen already is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut options = RabbitOptions::new(url);
    options.prefix = format!("test.{}", SystemIds.uuid());
    options
}

async fn connect(options: &RabbitOptions) -> RabbitMq {
    within("connecting", RabbitMq::connect(options.clone())).await.expect("RabbitMQ")
}

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::select! {
        // First, so that what was only looked at because time is up counts as late.
        biased;
        () = tokio::time::sleep(PATIENCE) => panic!("{what}: did not happen within {PATIENCE:?}"),
        value = future => value,
    }
}

/// Asks again and again until the answer is yes.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    within(what, async {
        while !holds().await {
            pause.tick().await;
        }
    })
    .await;
}

fn jobs() -> Address {
    Address::Jobs("Echo.1.0.0".into())
}

fn message(to: &Address, body: &str) -> Message {
    Message::new(to.clone(), "Test", body.as_bytes().to_vec())
}

/// Publishes one message until it is confirmed, as every caller does.
async fn insist(broker: &RabbitMq, to: &Address, body: &str) {
    let what = format!("publishing {body}");
    eventually(&what, || async { broker.publish(vec![message(to, body)]).await[0].is_ok() }).await;
}

async fn subscribe(broker: &RabbitMq, from: &Address, prefetch: u16) -> Box<dyn Consumer> {
    let subscription = Subscription { from: from.clone(), prefetch };
    within("subscribing", broker.subscribe(subscription)).await.expect("a subscription")
}

/// Waits for one message, passing over others.
async fn wait_for(consumer: &mut Box<dyn Consumer>, wanted: &str) -> Delivery {
    within(wanted, async {
        loop {
            let delivery = consumer.next(1).await.expect("a delivery").remove(0);
            if delivery.body == wanted.as_bytes() {
                return delivery;
            }
            consumer.ack(&[delivery.tag]).await.expect("an acknowledgement");
        }
    })
    .await
}

fn tags(deliveries: &[Delivery]) -> Vec<DeliveryTag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}
