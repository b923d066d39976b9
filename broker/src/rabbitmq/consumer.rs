//! The consumer of the port, on RabbitMQ: the other side of an inbox that a feeder fills. It never awaits RabbitMQ.

use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;

use super::Life;
use super::inbox::Inbox;
use crate::{BrokerError, Consumer, Delivery, DeliveryTag};

pub(super) struct RabbitConsumer {
    pub(super) inbox: Arc<Inbox>,
    /// The connections stay while there are consumers.
    pub(super) _life: Arc<Life>,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        poll_fn(|cx| self.inbox.poll_next(max, cx)).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.inbox.ack(tags)
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.inbox.release(tags)
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.inbox.order_stop();
        poll_fn(|cx| self.inbox.poll_stopped(cx)).await;
        Ok(())
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}
