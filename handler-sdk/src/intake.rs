//! Reads one job queue: hands each message to a task of its own, and acknowledges those that are settled.

use std::sync::Arc;

use phasework_broker::{BrokerError, Consumer, DeliveryTag};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::pack::Packs;

/// The most deliveries taken, and acknowledgements made, in one go.
const AT_ONCE: usize = 256;

pub(crate) struct Intake {
    consumer: Box<dyn Consumer>,
    packs: Arc<Packs>,
    settled: UnboundedReceiver<DeliveryTag>,
    settle: UnboundedSender<DeliveryTag>,
}

impl Intake {
    pub(crate) fn new(consumer: Box<dyn Consumer>, packs: Packs) -> Self {
        let (settle, settled) = unbounded_channel();
        Self { consumer, packs: Arc::new(packs), settled, settle }
    }

    /// Works until the worker drains; returns when everything taken is settled and acknowledged.
    ///
    /// # Errors
    /// When the queue can no longer be read. What was taken until then is finished first.
    pub(crate) async fn run(mut self) -> Result<(), BrokerError> {
        let ended = self.take_until_drained().await;
        if let Err(error) = &ended {
            tracing::error!(queue = %self.packs.queue, %error, "no jobs can be taken any more; the worker stops");
            self.packs.stop.drain();
        }
        let Self { consumer, settle, mut settled, packs } = self;
        let leave = packs.stop.leave.clone();
        drop((settle, packs)); // from here on only tasks that work on a message keep the channel open
        let mut tags = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = leave.cancelled() => break,
                received = settled.recv_many(&mut tags, AT_ONCE) => if received == 0 { break },
            }
            acknowledge(&*consumer, &mut tags).await;
        }
        ended
    }

    async fn take_until_drained(&mut self) -> Result<(), BrokerError> {
        let drain = self.packs.stop.drain.clone();
        let mut tags = Vec::new();
        let mut stopped = false;
        loop {
            let taken = tokio::select! {
                biased;
                _ = self.settled.recv_many(&mut tags, AT_ONCE) => None,
                () = drain.cancelled(), if !stopped => {
                    stopped = true;
                    if let Err(error) = self.consumer.stop().await {
                        tracing::warn!(queue = %self.packs.queue, %error, "cannot stop taking jobs cleanly");
                        return Ok(()); // what still arrives comes again elsewhere
                    }
                    None
                }
                taken = self.consumer.next(AT_ONCE) => Some(taken),
            };
            match taken {
                None => acknowledge(&*self.consumer, &mut tags).await,
                Some(Ok(deliveries)) => {
                    for delivery in deliveries {
                        tokio::spawn(Arc::clone(&self.packs).work(delivery, self.settle.clone()));
                    }
                }
                Some(Err(_)) if stopped => return Ok(()),
                Some(Err(error)) => return Err(error),
            }
        }
    }
}

/// Acknowledges what is settled. When that fails the connection is lost: the messages come again, marked redelivered,
/// and are handed back with outcomes that the coordinator has already.
async fn acknowledge(consumer: &dyn Consumer, tags: &mut Vec<DeliveryTag>) {
    if tags.is_empty() {
        return;
    }
    if let Err(error) = consumer.ack(tags).await {
        tracing::debug!(%error, messages = tags.len(), "not acknowledged");
    }
    tags.clear();
}
