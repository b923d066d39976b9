//! Dead letters: what could not be understood or carried out is set aside with its reason, never dropped in silence
//! and never delivered again and again.

use std::sync::Arc;

use phasework_broker::{Address, Consumer, Delivery, Message, Subscription};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::{Body, decode, encode};
use phasework_workflows::time::Millis;
use tokio_util::sync::CancellationToken;

use crate::engine::Parts;

/// The message that sets `delivery`, which came from `from`, aside.
pub(crate) fn letter(parts: &Parts, from: &Address, delivery: &Delivery, reason: String) -> Message {
    let kept = &delivery.body[..delivery.body.len().min(DeadLetter::MAX_BODY)];
    let letter = DeadLetter {
        id: parts.ids.uuid().to_string().into(),
        reason,
        at: parts.clock.now(),
        queue: name_of(from),
        kind: delivery.kind.to_string(),
        body: String::from_utf8_lossy(kept).into_owned(),
        size: delivery.body.len() as u64,
    };
    metrics::counter!("phasework_dead_letters_total", "queue" => letter.queue.clone()).increment(1);
    tracing::warn!(queue = letter.queue, kind = letter.kind, reason = letter.reason, "a message was set aside");
    Message::new(Address::Dead, DeadLetter::KIND, encode(&letter))
}

/// The name of a queue in a dead letter.
pub(crate) fn name_of(address: &Address) -> String {
    match address {
        Address::Jobs(queue) => format!("jobs.{queue}"),
        Address::Coordinator(number) => format!("coordinator.{number}"),
        Address::Submit => "submit".into(),
        Address::Dead => "dead".into(),
        Address::Marker(id) => format!("marker.{id}"),
        Address::Private(name) => name.to_string(),
        Address::Events(_) => "events".into(),
        Address::Control => "control".into(),
        Address::Presence => "presence".into(),
    }
}

/// The queue that a dead letter came from; `None` when nothing can be put back there.
pub(crate) fn address_of(name: &str) -> Option<Address> {
    match name.split_once('.') {
        None if name == "submit" => Some(Address::Submit),
        Some(("coordinator", number)) => number.parse().ok().map(Address::Coordinator),
        Some(("jobs", queue)) => Some(Address::Jobs(queue.into())),
        _ => None,
    }
}

/// Moves dead letters from their queue into the store until `shutdown`.
pub(crate) async fn run(parts: Parts, shutdown: CancellationToken) {
    let subscription = Subscription { from: Address::Dead, prefetch: 100 };
    let Some(mut consumer) = crate::supervisor::subscribe(&parts.broker, &subscription, &shutdown).await else {
        return;
    };
    loop {
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            deliveries = consumer.next(100) => deliveries,
        };
        let Ok(deliveries) = deliveries else { return };
        for delivery in &deliveries {
            keep(&parts, consumer.as_ref(), delivery, &shutdown).await;
        }
    }
}

/// Keeps one letter; while the store is away the letter stays on its queue.
async fn keep(parts: &Parts, consumer: &dyn Consumer, delivery: &Delivery, shutdown: &CancellationToken) {
    let letter = match decode::<DeadLetter>(&delivery.body) {
        Ok(letter) => letter,
        Err(error) => DeadLetter {
            // Not one of ours: kept as it is, under an id that a redelivery repeats.
            id: delivery.id.clone().unwrap_or_else(|| Arc::from(parts.ids.uuid().to_string())),
            reason: error.to_string(),
            at: parts.clock.now(),
            queue: "dead".into(),
            kind: delivery.kind.to_string(),
            body: String::from_utf8_lossy(&delivery.body[..delivery.body.len().min(DeadLetter::MAX_BODY)]).into_owned(),
            size: delivery.body.len() as u64,
        },
    };
    let mut wait = Millis(200);
    while let Err(error) = parts.store.put_dead(letter.clone()).await {
        tracing::warn!(%error, "a dead letter could not be kept; trying again");
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait.into()) => wait = Millis((wait.0 * 2).min(5_000)),
        }
    }
    if let Err(error) = consumer.ack(&[delivery.tag]).await {
        tracing::debug!(%error, "a dead letter could not be acknowledged; it is kept once all the same");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_finds_its_way_back() {
        for address in [Address::Submit, Address::Coordinator(7), Address::Jobs("PageDownloader.1.2.0".into())] {
            assert_eq!(address_of(&name_of(&address)), Some(address));
        }
        assert_eq!(address_of("dead"), None);
        assert_eq!(address_of("coordinator.x"), None);
    }
}
