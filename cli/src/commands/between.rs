//! A broker that stands between a worker and the broker that works: what becomes of a worker's messages is up to whoever is
//! put there, everything else is handed through. Its subscriptions end with the worker.

use std::fmt;

use async_trait::async_trait;
use phasework_broker::{Address, Broker, BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

use super::mortal::{Life, MortalConsumer, Witness};

/// Who stands between, and what they do with what a worker publishes and is given.
#[async_trait]
pub(super) trait Between: fmt::Debug + Send + Sync + 'static {
    /// Publishes through `within`, or does not.
    async fn publish(&self, within: &SharedBroker, messages: Vec<Message>) -> Vec<Result<(), PublishError>>;

    /// That of the worker.
    fn life(&self) -> &Life;

    /// Looks on at a subscription to `from`.
    fn witness(&self, from: &Address) -> Box<dyn Witness>;
}

/// The broker as the worker sees it.
#[derive(Debug)]
pub(super) struct BetweenBroker<B> {
    pub(super) within: SharedBroker,
    pub(super) between: B,
}

#[async_trait]
impl<B: Between> Broker for BetweenBroker<B> {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        self.between.publish(&self.within, messages).await
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.within.reply(reply_to, message).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        let witness = self.between.witness(&subscription.from);
        let within = self.within.subscribe(subscription).await?;
        Ok(Box::new(MortalConsumer::new(within, self.between.life(), witness)))
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
        self.within.health()
    }

    async fn close(&self) {
        self.within.close().await;
    }
}
