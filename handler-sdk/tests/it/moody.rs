//! A broker that does not always do what it should.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker, BrokerError, Consumer, Message, PublishError, Subscription};
use tokio::sync::Semaphore;

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
}

impl Moody {
    pub(crate) fn on(broker: &MemoryBroker, failures: usize, permits: usize) -> Arc<Self> {
        let (failures, permits) = (AtomicUsize::new(failures), Semaphore::new(permits));
        Arc::new(Self { inner: broker.connect(), failures, permits, deaf: AtomicBool::new(false) })
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
        self.inner.publish(messages).await
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
