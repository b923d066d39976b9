//! A broker that confirms the first message of a kind and loses it: what a queue does that is purged before anybody has
//! read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phasework_broker::{BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

use crate::around::broker_around;

/// What is lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Swallow {
    kind: &'static str,
    is_done: Arc<AtomicBool>,
}

impl Swallow {
    /// The first message of this kind.
    pub fn first(kind: &'static str) -> Self {
        Self { kind, is_done: Arc::default() }
    }

    /// Whether it is lost by now.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::SeqCst)
    }

    fn takes(&self, message: &Message) -> bool {
        &*message.kind == self.kind && !self.is_done.swap(true, Ordering::SeqCst)
    }
}

/// A broker that loses a message.
#[derive(Debug)]
pub struct SwallowingBroker(pub SharedBroker, pub Swallow);

broker_around!(SwallowingBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            if self.1.takes(&message) {
                results.push(Ok(()));
            } else {
                results.append(&mut self.0.publish(vec![message]).await);
            }
        }
        results
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.subscribe(subscription).await
    }
});
