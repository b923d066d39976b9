//! The ticket of a message of a job queue: counts what keeps it from being acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use phasework_broker::DeliveryTag;
use tokio::sync::mpsc::UnboundedSender;

/// A message that waits for its acknowledgement.
#[derive(Debug)]
pub(crate) struct Ticket {
    tag: DeliveryTag,
    unsettled: AtomicUsize,
    settled: UnboundedSender<DeliveryTag>,
}

impl Ticket {
    /// A ticket with one count, which belongs to whoever takes the message apart.
    pub(crate) fn new(tag: DeliveryTag, settled: UnboundedSender<DeliveryTag>) -> Arc<Self> {
        Arc::new(Self { tag, unsettled: AtomicUsize::new(1), settled })
    }

    /// One more job to wait for.
    pub(crate) fn add(&self) {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
    }

    /// One job less to wait for; after the last the message is acknowledged.
    pub(crate) fn settle(&self) {
        if self.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody listens any more when the worker leaves at once; the message then comes again.
            self.settled.send(self.tag).ok();
        }
    }
}
