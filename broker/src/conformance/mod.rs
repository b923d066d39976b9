//! The promises of the [`Broker`](crate::Broker) port as tests, for any adapter. An adapter's own tests give each check a fresh broker
//! and run it; a check panics when a promise is broken. Nothing here knows an adapter.
//!
//! That something does *not* happen is never shown by waiting, but by something that happens after it would have.

mod ends;
mod exchanges;
mod one_reader;
mod private;
mod queues;
mod settling;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::{Address, BrokerError, Consumer, Delivery, DeliveryTag, Message, SharedBroker, Subscription};

/// A broker under test, in which nothing happened yet.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Connects to it as one more program does.
    async fn connect(&self) -> SharedBroker;

    /// The most a message's body may hold there.
    fn max_message_bytes(&self) -> usize;
}

/// One promise.
pub type Check = for<'a> fn(&'a dyn Fixture) -> BoxFuture<'a, ()>;

macro_rules! checks {
    ($($module:ident: $($name:ident),+;)+) => {
        vec![$($((stringify!($name), (|fixture| Box::pin($module::$name(fixture))) as Check)),+),+]
    };
}

/// Every promise, by name. Each wants a fixture of its own.
#[must_use]
pub fn checks() -> Vec<(&'static str, Check)> {
    checks![
        queues: what_is_published_is_delivered_once,
            a_waiting_consumer_is_woken,
            one_address_keeps_its_order,
            publishing_at_once_loses_nothing,
            consumers_share_a_queue,
            every_property_arrives,
            publishing_makes_the_queue,
            a_large_message_fails_alone,
            an_expired_message_is_dropped,
            depth_counts_what_waits,
            deleting_twice_succeeds,
            a_consumer_survives_the_deletion_of_its_queue;
        settling: prefetch_is_a_limit,
            next_gives_no_more_than_asked,
            next_is_cancel_safe,
            what_is_acknowledged_is_forgotten,
            settling_twice_does_no_harm,
            what_is_released_comes_again_in_order,
            what_a_lost_consumer_held_comes_again_in_order,
            stopping_keeps_what_was_delivered;
        one_reader: only_the_first_coordinator_is_served,
            the_next_coordinator_takes_over,
            a_stopped_coordinator_is_succeeded;
        exchanges: events_reach_those_who_match,
            events_nobody_wants_succeed,
            orders_reach_everybody,
            a_subscriber_settles_its_own_copy,
            a_subscriber_that_left_is_not_missed;
        private: a_request_is_answered,
            a_private_queue_goes_with_its_consumer,
            an_unroutable_message_fails_alone;
        ends: closing_ends_consumers,
            closing_gives_back_what_was_held,
            closing_leaves_other_programs_alone,
            nothing_works_after_closing;
    ]
}

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::select! {
        // First, so that what was only looked at because time is up counts as late.
        biased;
        () = tokio::time::sleep(PATIENCE) => panic!("{what}: did not happen within {PATIENCE:?}"),
        value = future => value,
    }
}

/// Asks again and again until the answer is yes: for what a broker does in its own time.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let mut pause = tokio::time::interval(Duration::from_millis(2));
    within(what, async {
        while !holds().await {
            pause.tick().await;
        }
    })
    .await;
}

fn jobs(name: &str) -> Address {
    Address::Jobs(name.into())
}

fn events(key: &str) -> Address {
    Address::Events(key.into())
}

/// A message whose body is `body`.
fn message(to: &Address, body: &str) -> Message {
    Message::new(to.clone(), "Test", body.as_bytes().to_vec())
}

/// Publishes one message for each body, at once; all must be confirmed.
async fn send<S: AsRef<str>>(broker: &SharedBroker, to: &Address, bodies: &[S]) {
    let messages = bodies.iter().map(|body| message(to, body.as_ref())).collect();
    for result in within("publishing", broker.publish(messages)).await {
        result.expect("a confirmed message");
    }
}

async fn subscribe(broker: &SharedBroker, from: &Address, prefetch: u16) -> Box<dyn Consumer> {
    let subscription = Subscription { from: from.clone(), prefetch };
    within("subscribing", broker.subscribe(subscription)).await.expect("a subscription")
}

/// The next `count` deliveries.
async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let what = format!("delivery {} of {count}", taken.len() + 1);
        taken.extend(within(&what, consumer.next(count - taken.len())).await.expect("deliveries"));
    }
    taken
}

/// The next deliveries must be these, in order, each marked as redelivered or not.
async fn expect<S: AsRef<str>>(consumer: &mut Box<dyn Consumer>, bodies: &[S], redelivered: bool) -> Vec<DeliveryTag> {
    let taken = take(consumer, bodies.len()).await;
    let expected: Vec<_> = bodies.iter().map(|body| (body.as_ref().to_owned(), redelivered)).collect();
    let found: Vec<_> = taken.iter().map(|delivery| (body(delivery), delivery.redelivered)).collect();
    assert_eq!(found, expected, "(body, redelivered)");
    tags(&taken)
}

/// The next deliveries must be these, in order. For what may have passed through a consumer that is just leaving: it is
/// the broker's business whether that counts as delivered.
async fn expect_bodies<S: AsRef<str>>(consumer: &mut Box<dyn Consumer>, bodies: &[S]) -> Vec<DeliveryTag> {
    let taken = take(consumer, bodies.len()).await;
    let found: Vec<_> = taken.iter().map(body).collect();
    assert_eq!(found, bodies.iter().map(|body| body.as_ref().to_owned()).collect::<Vec<_>>());
    tags(&taken)
}

async fn ack(consumer: &dyn Consumer, tags: &[DeliveryTag]) {
    within("acknowledging", consumer.ack(tags)).await.expect("an acknowledgement");
}

async fn expect_closed(consumer: &mut Box<dyn Consumer>) {
    let end = within("the end of the consumer", consumer.next(10)).await;
    assert!(matches!(end, Err(BrokerError::Closed)), "instead of the end: {end:?}");
}

async fn expect_depth(broker: &SharedBroker, queue: &Address, expected: u64) {
    let what = format!("{queue:?} holding {expected}");
    eventually(&what, || async { broker.depth(queue).await.expect("a depth") == expected }).await;
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}

fn tags(deliveries: &[Delivery]) -> Vec<DeliveryTag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

/// `prefix0`, `prefix1`…
fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Text as the port carries it.
fn text(text: &str) -> Option<Arc<str>> {
    Some(text.into())
}
