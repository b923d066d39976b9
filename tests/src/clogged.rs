//! A broker that, while told so, confirms nothing for one queue, as one that has lost most of the queue's replicas would;
//! everything else goes its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phasework_broker::{Address, BrokerError, Consumer, Message, PublishError, SharedBroker, Subscription};

use crate::around::broker_around;

/// Which queue is clogged. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clog {
    queue: Address,
    /// How many messages were not confirmed.
    refused: Arc<AtomicU64>,
    is_open: Arc<std::sync::atomic::AtomicBool>,
    /// For how long a confirm is waited for.
    wait: Duration,
}

impl Clog {
    /// A clogged job queue, for which it is known at once that nothing is confirmed.
    pub fn of(queue: &str) -> Self {
        let queue = Address::Jobs(queue.into());
        Self { queue, refused: Arc::default(), is_open: Arc::default(), wait: Duration::ZERO }
    }

    /// A queue that goes well until it is told otherwise; then a confirm is waited for as long as with RabbitMQ.
    pub fn later(queue: Address) -> Self {
        let clog = Self { queue, refused: Arc::default(), is_open: Arc::default(), wait: Duration::from_secs(10) };
        clog.open();
        clog
    }

    /// How many messages were not confirmed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    /// From now on the queue takes messages.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// From now on the queue takes nothing.
    pub fn shut(&self) {
        self.is_open.store(false, Ordering::SeqCst);
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
        let stopped: Vec<bool> = messages.iter().map(|message| self.1.stops(message)).collect();
        let others = messages.into_iter().zip(&stopped).filter(|(_, stopped)| !**stopped).map(|(message, _)| message);
        let mut others = self.0.publish(others.collect()).await.into_iter();
        if stopped.contains(&true) {
            tokio::time::sleep(self.1.wait).await;
        }
        let clogged = || Err(PublishError::Unconfirmed("the queue is clogged".into()));
        let each = stopped.into_iter().map(|stopped| if stopped { None } else { others.next() });
        each.map(|result| result.unwrap_or_else(clogged)).collect()
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.0.subscribe(subscription).await
    }
});
