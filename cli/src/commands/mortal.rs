//! Subscriptions that end with the worker that they are for. A gateway learns of a worker's death only when its session has
//! run out; who has killed it can tell.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use phasework_broker::{BrokerError, Consumer, Delivery, DeliveryTag};
use tokio_util::sync::CancellationToken;

/// The life of the worker that is there now. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Life(Arc<Mutex<CancellationToken>>);

impl Life {
    /// Ended when this worker is.
    pub(super) fn current(&self) -> CancellationToken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker is dead: ends its subscriptions. What comes from now on is for the next.
    pub(super) fn end(&self) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }
}

/// Looks on at a subscription.
pub(super) trait Witness: Send + Sync {
    /// What was delivered.
    fn delivered(&self, deliveries: &[Delivery]);

    /// Which of them are acknowledged.
    fn acknowledged(&self, tags: &[DeliveryTag]);
}

/// A subscription that ends with a life, and is looked on at.
pub(super) struct MortalConsumer {
    within: Option<Box<dyn Consumer>>,
    life: CancellationToken,
    witness: Box<dyn Witness>,
}

impl MortalConsumer {
    pub(super) fn new(within: Box<dyn Consumer>, life: &Life, witness: Box<dyn Witness>) -> Self {
        Self { within: Some(within), life: life.current(), witness }
    }
}

impl fmt::Debug for MortalConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MortalConsumer").field("life", &self.life).finish_non_exhaustive()
    }
}

#[async_trait]
impl Consumer for MortalConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let Some(within) = &mut self.within else { return Err(BrokerError::Closed) };
        let deliveries = tokio::select! {
            biased;
            () = self.life.cancelled() => None,
            deliveries = within.next(max) => Some(deliveries),
        };
        match deliveries {
            Some(Ok(deliveries)) => {
                self.witness.delivered(&deliveries);
                Ok(deliveries)
            }
            Some(Err(error)) => Err(error),
            None => {
                // What it held goes to others.
                self.within = None;
                Err(BrokerError::Closed)
            }
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        match &self.within {
            Some(within) if !self.life.is_cancelled() => {
                self.witness.acknowledged(tags);
                within.ack(tags).await
            }
            _ => Ok(()),
        }
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        match &self.within {
            Some(within) => within.release(tags).await,
            None => Ok(()),
        }
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        match &mut self.within {
            Some(within) => within.stop().await,
            None => Ok(()),
        }
    }
}
