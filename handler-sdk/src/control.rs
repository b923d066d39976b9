//! Orders to all workers: cancels the jobs that no longer matter.

use std::sync::Arc;

use phasework_broker::{BrokerError, Consumer, Delivery};
use phasework_workflows::message::job::CancelJobs;
use phasework_workflows::message::{self, Body as _};
use tokio_util::sync::CancellationToken;

use crate::open::Open;

/// The most deliveries taken in one go.
const AT_ONCE: usize = 64;

/// Follows orders until `end`, or until the broker is closed.
pub(crate) async fn run(
    mut consumer: Box<dyn Consumer>,
    open: Arc<Open>,
    end: CancellationToken,
) -> Result<(), BrokerError> {
    loop {
        let deliveries = tokio::select! {
            biased;
            () = end.cancelled() => return Ok(()),
            deliveries = consumer.next(AT_ONCE) => deliveries?,
        };
        deliveries.iter().for_each(|delivery| obey(delivery, &open));
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        if let Err(error) = consumer.ack(&tags).await {
            tracing::debug!(%error, "orders not acknowledged; obeying them twice changes nothing");
        }
    }
}

fn obey(delivery: &Delivery, open: &Open) {
    if *delivery.kind != *CancelJobs::KIND {
        return; // an order of a later version
    }
    match message::decode::<CancelJobs>(&delivery.body) {
        Ok(order) => {
            for item in &order.items {
                let reached = open.cancel(item);
                if reached > 0 {
                    tracing::info!(run = %item.run, entry = item.entry, jobs = reached, "canceled");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "an order that cannot be understood"),
    }
}
