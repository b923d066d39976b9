//! A broker that delivers everything twice: what at-least-once may come to on a bad day.

use async_trait::async_trait;
use phasework_broker::{Address, Broker, BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

/// Publishes each message twice. Answers go out once: whoever asks takes the first and passes over the rest anyway.
#[derive(Debug)]
pub struct Duplicating(pub SharedBroker);

#[async_trait]
impl Broker for Duplicating {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let first = self.0.publish(messages.clone()).await;
        let second = self.0.publish(messages).await;
        first.into_iter().zip(second).map(|(first, second)| first.and(second)).collect()
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.0.reply(reply_to, message).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.subscribe(subscription).await
    }

    fn name_of(&self, address: &Address) -> String {
        self.0.name_of(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.0.depth(queue).await
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.0.delete(queue).await
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.0.health()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
