//! A broker whose coordinator consumers can be made to blink: the subscription is lost and made anew underneath, as by
//! a reconnection, and whoever reads notices nothing but that the queue may have served somebody else meanwhile. Nobody
//! sends ticks on it, so that queues change hands by blinking alone.

use std::sync::Arc;

use async_trait::async_trait;
use phasework_broker::{
    Address, BrokerError, Consumer, Delivery, DeliveryTag, Message, PublishError, SharedBroker, Subscription,
};
use phasework_workflows::message::Body;
use phasework_workflows::message::event::Tick;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::around::broker_around;

/// Makes consumers blink. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blink(Arc<watch::Sender<u64>>);

impl Default for Blink {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Blink {
    /// Has every coordinator consumer lose its subscription and make it anew.
    pub fn now(&self) {
        self.0.send_modify(|times| *times += 1);
    }
}

/// A broker with consumers that blink.
#[derive(Debug)]
pub struct BlinkingBroker(pub SharedBroker, pub Blink);

broker_around!(BlinkingBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        if messages.iter().all(|message| &*message.kind == Tick::KIND) {
            return vec![Ok(()); messages.len()];
        }
        self.0.publish(messages).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        let consumer = self.0.subscribe(subscription.clone()).await?;
        if !matches!(subscription.from, Address::Coordinator(_)) {
            return Ok(consumer);
        }
        let (broker, blinks) = (Arc::clone(&self.0), self.1.0.subscribe());
        let consumer = Some(consumer);
        Ok(Box::new(BlinkingConsumer { broker, subscription, consumer, renewal: None, blinks, generation: 0 }))
    }
});

struct BlinkingConsumer {
    broker: SharedBroker,
    subscription: Subscription,
    consumer: Option<Box<dyn Consumer>>,
    /// The subscription being made anew: a task of its own, because whoever reads may stop waiting at any time.
    renewal: Option<JoinHandle<Result<Box<dyn Consumer>, BrokerError>>>,
    blinks: watch::Receiver<u64>,
    /// How often it has blinked: tags of earlier subscriptions acknowledge nothing.
    generation: u64,
}

impl BlinkingConsumer {
    fn inner(&self, tags: &[DeliveryTag]) -> Option<(&dyn Consumer, Vec<DeliveryTag>)> {
        let current = tags.iter().filter(|tag| tag.generation >> 32 == self.generation);
        let tags = current.map(|tag| DeliveryTag { generation: tag.generation & 0xffff_ffff, ..*tag }).collect();
        self.consumer.as_deref().map(|consumer| (consumer, tags))
    }
}

#[async_trait]
impl Consumer for BlinkingConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            let Some(consumer) = &mut self.consumer else {
                let (broker, subscription) = (Arc::clone(&self.broker), self.subscription.clone());
                let renewal = || tokio::spawn(async move { broker.subscribe(subscription).await });
                let renewed = self.renewal.get_or_insert_with(renewal).await;
                self.renewal = None;
                self.consumer = Some(renewed.expect("subscribing does not panic")?);
                continue;
            };
            tokio::select! {
                biased;
                Ok(()) = self.blinks.changed() => {
                    self.consumer = None;
                    self.generation += 1;
                }
                deliveries = consumer.next(max) => {
                    let mut deliveries = deliveries?;
                    deliveries.iter_mut().for_each(|delivery| delivery.tag.generation |= self.generation << 32);
                    return Ok(deliveries);
                }
            }
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        match self.inner(tags) {
            Some((consumer, tags)) => consumer.ack(&tags).await,
            None => Ok(()),
        }
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        match self.inner(tags) {
            Some((consumer, tags)) => consumer.release(&tags).await,
            None => Ok(()),
        }
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        match &mut self.consumer {
            Some(consumer) => consumer.stop().await,
            None => Ok(()),
        }
    }
}
