//! Closing a connection: everything of one program ends, and nothing of another.

use super::{Fixture, ack, events, expect, expect_closed, jobs, message, numbered, send, subscribe, within};
use crate::{Address, BrokerError, PublishError, Subscription};

pub(super) async fn closing_ends_consumers(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let mut consumers = Vec::new();
    for from in [jobs("Echo.1.0.0"), Address::Coordinator(0), events("#"), Address::Private("client.1".into())] {
        consumers.push(subscribe(&broker, &from, 10).await);
    }
    let ends = consumers.iter_mut().map(expect_closed);
    let close = async {
        broker.close().await;
        broker.close().await;
    };
    within("closing twice", async { tokio::join!(close, futures::future::join_all(ends)) }).await;
    for consumer in &mut consumers {
        expect_closed(consumer).await;
    }
}

pub(super) async fn closing_gives_back_what_was_held(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 10).await;
    send(&broker, &queue, &numbered("m", 5)).await;
    let held = expect(&mut consumer, &numbered("m", 5), false).await;
    // What was acknowledged before stays acknowledged, however soon the end comes.
    ack(&*consumer, &held[..2]).await;
    within("closing", broker.close()).await;
    expect(&mut subscribe(&other, &queue, 10).await, &["m2", "m3", "m4"], true).await;
}

pub(super) async fn closing_leaves_other_programs_alone(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&other, &queue, 10).await;
    within("closing", broker.close()).await;
    other.health().expect("a healthy broker");
    send(&other, &queue, &["a"]).await;
    expect(&mut consumer, &["a"], false).await;
}

pub(super) async fn nothing_works_after_closing(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    broker.health().expect("a healthy broker");
    let consumer = subscribe(&broker, &queue, 10).await;
    within("closing", broker.close()).await;

    let closed = |result: Result<(), BrokerError>| assert!(matches!(result, Err(BrokerError::Closed)), "{result:?}");
    closed(broker.health());
    closed(broker.delete(&queue).await);
    closed(broker.depth(&queue).await.map(drop));
    closed(within("acknowledging", consumer.ack(&[])).await);
    let subscription = Subscription { from: queue.clone(), prefetch: 1 };
    closed(within("subscribing", broker.subscribe(subscription)).await.map(drop));
    let results = within("publishing", broker.publish(vec![message(&queue, "a"), message(&queue, "b")])).await;
    assert!(matches!(results[..], [Err(PublishError::Unconfirmed(_)), Err(PublishError::Unconfirmed(_))]));
    let reply = within("answering", broker.reply("client.1", message(&queue, "a"))).await;
    assert!(matches!(reply, Err(PublishError::Unconfirmed(_))), "{reply:?}");
}
