//! Whether there is a broker behind the gateway: whoever works through it knows as soon as whoever works on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::gateway::{Gateway, GatewayOptions, Method::Post};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker, BrokerError, Consumer, Message, PublishError, Subscription};
use phasework_engine::api::Policy;
use tokio::time::sleep;

use super::world::{Direct, jobs, send, within};

/// A broker that says that it is away while it is to say so.
#[derive(Debug)]
struct Moody {
    within: MemoryBroker,
    is_away: AtomicBool,
}

#[async_trait]
impl Broker for Moody {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        self.within.publish(messages).await
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.within.reply(reply_to, message).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.within.subscribe(subscription).await
    }

    fn name_of(&self, address: &Address) -> String {
        self.within.name_of(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.within.depth(queue).await
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.within.delete(queue).await
    }

    fn health(&self) -> Result<(), BrokerError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(BrokerError::Unavailable("the cable is out".into()));
        }
        self.within.health()
    }

    async fn close(&self) {
        self.within.close().await;
    }
}

fn moody() -> Arc<Moody> {
    Arc::new(Moody { within: MemoryBroker::new(), is_away: AtomicBool::new(false) })
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_behind_the_gateway_is_no_broker() {
    let broker = moody();
    let direct = Direct::new(Arc::<Moody>::clone(&broker), Policy::Workers);
    let program = Gateway::over(Arc::new(direct), GatewayOptions::new("")).await.unwrap();
    let mut consumer = within(program.subscribe(Subscription { from: jobs(), prefetch: 10 })).await.unwrap();
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        program.health().unwrap();
        broker.is_away.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(2)).await;
        let why = program.health().unwrap_err();
        assert!(matches!(&why, BrokerError::Unavailable(why) if why == "the cable is out"), "{why}");
        // What comes all the same is not held up by that.
        send(&*broker, &jobs(), &["1"]).await;
        assert_eq!(within(consumer.next(10)).await.unwrap().len(), 1);
        assert!(program.health().is_err());
        broker.is_away.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(2)).await;
    }
    program.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_does_not_ask_for_it_is_not_answered_for_it() {
    let broker = moody();
    broker.is_away.store(true, Ordering::Relaxed);
    let gateway = Direct::new(Arc::<Moody>::clone(&broker), Policy::Workers);
    let session = gateway.open().await;
    let path = format!("{session}/next");
    for (body, seconds) in [
        (r#"{"wait_ms": 10000}"#, 10),
        (r#"{"wait_ms": 10000, "broker_away": true}"#, 10),
        (r#"{"wait_ms": 10000, "broker_away": false}"#, 0),
    ] {
        let begun = tokio::time::Instant::now();
        let (status, answer) = gateway.ask(Post, &path, body).await;
        assert_eq!((status, &answer["broker"]), (200, &"the cable is out".into()), "{body}: {answer}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "{body}");
    }
    broker.is_away.store(false, Ordering::Relaxed);
    let (_, answer) = gateway.ask(Post, &path, r#"{"broker_away": true}"#).await;
    assert_eq!(answer, serde_json::json!({ "deliveries": [] }));
}
