//! A broker whose coordinator queues always have something for whoever reads them, if only nothing: what a queue is like
//! that is never empty.

use async_trait::async_trait;
use phasework_broker::{
    Address, BrokerError, Consumer, Delivery, DeliveryTag, Message, PublishError, SharedBroker, Subscription,
};

use crate::around::broker_around;

/// A broker that keeps owners busy.
#[derive(Debug)]
pub struct BusyBroker(pub SharedBroker);

broker_around!(BusyBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        self.0.publish(messages).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        let is_queue = matches!(subscription.from, Address::Coordinator(_));
        let consumer = self.0.subscribe(subscription).await?;
        Ok(if is_queue { Box::new(BusyConsumer(consumer)) } else { consumer })
    }
});

struct BusyConsumer(Box<dyn Consumer>);

#[async_trait]
impl Consumer for BusyConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        tokio::select! {
            biased;
            deliveries = self.0.next(max) => deliveries,
            () = std::future::ready(()) => Ok(Vec::new()),
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        // Whoever is never kept waiting would leave no time to others.
        tokio::task::yield_now().await;
        self.0.ack(tags).await
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.0.release(tags).await
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.0.stop().await
    }
}
