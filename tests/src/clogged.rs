//! A broker that, while told so, confirms nothing for one job queue, as one that has lost most of the queue's replicas
//! would; everything else goes its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phasework_broker::{Address, BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

use crate::around::broker_around;

/// Which queue is clogged. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clog {
    queue: Address,
    /// How many messages were not confirmed.
    refused: Arc<AtomicU64>,
    is_open: Arc<std::sync::atomic::AtomicBool>,
}

impl Clog {
    /// A clogged job queue.
    pub fn of(queue: &str) -> Self {
        Self { queue: Address::Jobs(queue.into()), refused: Arc::default(), is_open: Arc::default() }
    }

    /// How many messages were not confirmed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    /// From now on the queue takes messages.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    fn stops(&self, message: &Message) -> bool {
        let stops = message.to == self.queue && !self.is_open.load(Ordering::SeqCst);
        self.refused.fetch_add(u64::from(stops), Ordering::SeqCst);
        stops
    }
}

/// A broker with a clogged queue.
#[derive(Debug)]
pub struct Clogged(pub SharedBroker, pub Clog);

broker_around!(Clogged {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            if self.1.stops(&message) {
                results.push(Err(PublishError::Unconfirmed("the queue is clogged".into())));
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
