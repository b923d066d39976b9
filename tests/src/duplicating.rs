//! A broker that delivers everything twice: what at-least-once may come to on a bad day.

use phasework_broker::{BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

use crate::around::broker_around;

/// Publishes each message twice. Answers go out once: whoever asks takes the first and passes over the rest anyway.
#[derive(Debug)]
pub struct Duplicating(pub SharedBroker);

broker_around!(Duplicating {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let first = self.0.publish(messages.clone()).await;
        let second = self.0.publish(messages).await;
        first.into_iter().zip(second).map(|(first, second)| first.and(second)).collect()
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.subscribe(subscription).await
    }
});
