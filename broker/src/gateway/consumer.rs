//! The consumer of the port, through the gateway: a place at the desk. It never asks the server itself.

use std::future::poll_fn;
use std::sync::Arc;

use async_trait::async_trait;

use super::Life;
use super::desk::{Desk, Place};
use crate::{BrokerError, Consumer, Delivery, DeliveryTag};

pub(super) struct GatewayConsumer {
    pub(super) desk: Arc<Desk>,
    pub(super) place: Place,
    /// The session stays while there are consumers.
    pub(super) _life: Arc<Life>,
}

impl GatewayConsumer {
    /// Waits until it is subscribed.
    pub(super) async fn subscribed(&self) -> Result<(), BrokerError> {
        poll_fn(|cx| self.desk.poll_subscribed(self.place, cx)).await
    }
}

#[async_trait]
impl Consumer for GatewayConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        poll_fn(|cx| self.desk.poll_next(self.place, max, cx)).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.desk.settle(self.place, tags, true)
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.desk.settle(self.place, tags, false)
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.desk.order_stop(self.place);
        poll_fn(|cx| self.desk.poll_stopped(self.place, cx)).await;
        Ok(())
    }
}

impl Drop for GatewayConsumer {
    fn drop(&mut self) {
        self.desk.leave(self.place);
    }
}
