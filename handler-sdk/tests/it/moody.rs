//! A broker that does not always do what it should.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker, BrokerError, Consumer, Message, PublishError, Subscription};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// For how long RabbitMQ is given the chance to confirm a message.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that can be made to publish no outcomes, or to wait before it does.
#[derive(Debug)]
pub(crate) struct Moody {
    inner: MemoryBroker,
    /// How many publishes fail from now on.
    pub(crate) failures: AtomicUsize,
    /// Publishes wait for one of these.
    pub(crate) permits: Semaphore,
    /// Announcements vanish, though they are confirmed: as when deliveries do not arrive any more.
    pub(crate) deaf: AtomicBool,
    /// Messages that are never confirmed, as of a queue that has lost most of its replicas.
    pub(crate) clogs: OnceLock<fn(&Message) -> bool>,
}

impl Moody {
    pub(crate) fn on(broker: &MemoryBroker, failures: usize, permits: usize) -> Arc<Self> {
        let (failures, permits) = (AtomicUsize::new(failures), Semaphore::new(permits));
        Arc::new(Self {
            inner: broker.connect(),
            failures,
            permits,
            deaf: AtomicBool::new(false),
            clogs: OnceLock::new(),
        })
    }
}

#[async_trait]
impl Broker for Moody {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        if messages[0].to == Address::Presence && self.deaf.load(Ordering::SeqCst) {
            return vec![Ok(()); messages.len()];
        }
        if !matches!(messages[0].to, Address::Coordinator(_) | Address::Dead) {
            return self.inner.publish(messages).await;
        }
        self.permits.acquire().await.unwrap().forget();
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return messages.iter().map(|_| Err(PublishError::Unconfirmed("in a mood".into()))).collect();
        }
        let is_clogged = self.clogs.get().copied().unwrap_or(|_| false);
        let stuck: Vec<bool> = messages.iter().map(is_clogged).collect();
        let others = messages.into_iter().filter(|message| !is_clogged(message)).collect();
        let mut others = self.inner.publish(others).await.into_iter();
        if stuck.contains(&true) {
            sleep(PUBLISH_TIMEOUT).await;
        }
        let unconfirmed = || Err(PublishError::Unconfirmed("no confirm in time".into()));
        stuck.into_iter().map(|stuck| if stuck { unconfirmed() } else { others.next().unwrap() }).collect()
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.inner.reply(reply_to, message).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.inner.subscribe(subscription).await
    }

    fn name_of(&self, address: &Address) -> String {
        self.inner.name_of(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.inner.delete(queue).await
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.inner.health()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
