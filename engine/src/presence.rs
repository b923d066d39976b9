//! Listens to workers: who came, who is there, who went. Keeps the registry and its copy in the store.

use phasework_broker::{Address, Delivery, Message, Subscription};
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::{Body, DecodeError, decode, encode};
use tokio_util::sync::CancellationToken;

use crate::engine::Parts;
use crate::registry::Registry;

/// Listens until `shutdown`. What the store remembers is taken over first, and every worker is asked to announce itself.
pub(crate) async fn run(parts: Parts, registry: Registry, shutdown: CancellationToken) {
    let subscription = Subscription { from: Address::Presence, prefetch: 1000 };
    let Some(mut consumer) = crate::supervisor::subscribe(&parts.broker, &subscription, &shutdown).await else {
        return;
    };
    remember(&parts, &registry).await;
    let wanted = encode(&WorkersWanted { from: parts.config.name.clone() });
    let question = Message::new(Address::Presence, WorkersWanted::KIND, wanted);
    for result in parts.broker.publish(vec![question]).await {
        if let Err(error) = result {
            tracing::info!(%error, "workers could not be asked for; their heartbeats will tell");
        }
    }
    loop {
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            deliveries = consumer.next(1000) => deliveries,
        };
        let Ok(deliveries) = deliveries else { return };
        for delivery in &deliveries {
            if let Err(error) = hear(&parts, &registry, delivery).await {
                tracing::warn!(%error, "an announcement could not be read");
            }
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        if let Err(error) = consumer.ack(&tags).await {
            tracing::debug!(%error, "announcements could not be acknowledged");
        }
    }
}

async fn remember(parts: &Parts, registry: &Registry) {
    match parts.store.workers().await {
        Ok(workers) => {
            for (worker, last_seen) in workers {
                registry.heard(worker, last_seen);
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the workers that were known could not be read; they will announce themselves");
        }
    }
}

async fn hear(parts: &Parts, registry: &Registry, delivery: &Delivery) -> Result<(), DecodeError> {
    match &*delivery.kind {
        WorkerAnnounced::KIND => {
            let announced = decode::<WorkerAnnounced>(&delivery.body)?;
            let now = parts.clock.now();
            let span = tracing::info_span!("worker", worker = %announced.worker, host = %announced.host);
            if registry.heard(announced.clone(), now) {
                let handlers: Vec<_> =
                    announced.handlers.iter().map(|hosted| format!("{} {}", hosted.name, hosted.version)).collect();
                span.in_scope(|| tracing::info!(draining = announced.draining, ?handlers, "a worker is here"));
            }
            if let Err(error) = parts.store.put_worker(announced, now).await {
                span.in_scope(|| tracing::debug!(%error, "the worker could not be remembered"));
            }
        }
        WorkerGone::KIND => {
            let gone = decode::<WorkerGone>(&delivery.body)?;
            tracing::info!(worker = %gone.worker, "a worker is gone");
            registry.gone(&gone.worker);
            if let Err(error) = parts.store.remove_workers(&[gone.worker]).await {
                tracing::debug!(%error, "the worker could not be forgotten");
            }
        }
        _ => {} // questions of other coordinators
    }
    Ok(())
}
