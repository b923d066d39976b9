//! What a queue carries: every message once, in order, whole, to one of its readers.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;

use super::{
    Fixture, ack, body, expect, expect_depth, jobs, message, numbered, send, subscribe, tags, take, text, within,
};
use crate::{Address, PublishError};

pub(super) async fn what_is_published_is_delivered_once(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 10).await;
    send(&broker, &queue, &["a", "b", "c"]).await;
    let held = expect(&mut consumer, &["a", "b", "c"], false).await;
    ack(&*consumer, &held).await;
    send(&broker, &queue, &["last"]).await;
    expect(&mut consumer, &["last"], false).await;
}

pub(super) async fn a_waiting_consumer_is_woken(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    for address in [jobs("Echo.1.0.0"), Address::Coordinator(0), Address::Control, Address::Private("w.1".into())] {
        let mut consumer = subscribe(&broker, &address, 1).await;
        // Each first branch waits before the second begins.
        let (first, ()) = tokio::join!(take(&mut consumer, 1), send(&other, &address, &["a"]));
        ack(&*consumer, &tags(&first)).await;
        let (second, ()) = tokio::join!(take(&mut consumer, 1), send(&other, &address, &["b"]));
        assert_eq!((body(&first[0]).as_str(), body(&second[0]).as_str()), ("a", "b"), "{address:?}");
    }
}

pub(super) async fn one_address_keeps_its_order(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let (even, odd) = (jobs("Even.1.0.0"), jobs("Odd.1.0.0"));
    let bodies = numbered("m", 300);
    for calls in bodies.chunks(100) {
        let messages = calls.iter().enumerate();
        let messages = messages.map(|(n, body)| message(if n % 2 == 0 { &even } else { &odd }, body)).collect();
        for result in within("publishing", broker.publish(messages)).await {
            result.expect("a confirmed message");
        }
    }
    for (queue, first) in [(even, 0), (odd, 1)] {
        let mut consumer = subscribe(&broker, &queue, 1000).await;
        let expected: Vec<_> = bodies.iter().skip(first).step_by(2).collect();
        expect(&mut consumer, &expected, false).await;
    }
}

pub(super) async fn publishing_at_once_loses_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queues = [jobs("One.1.0.0"), jobs("Two.1.0.0"), jobs("Three.1.0.0")];
    let publishers = (0..60).map(|n| {
        let (broker, queue) = (&broker, &queues[n % 3]);
        async move { send(broker, queue, &numbered(&format!("{n}."), 20)).await }
    });
    join_all(publishers).await;
    for (n, queue) in queues.iter().enumerate() {
        let mut consumer = subscribe(&broker, queue, 50).await;
        let mut found = Vec::new();
        while found.len() < 400 {
            let taken = take(&mut consumer, 50).await;
            ack(&*consumer, &tags(&taken)).await;
            found.extend(taken.iter().map(body));
        }
        let expected: BTreeSet<_> = (n..60).step_by(3).flat_map(|n| numbered(&format!("{n}."), 20)).collect();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

pub(super) async fn consumers_share_a_queue(fixture: &dyn Fixture) {
    let (one, two) = (fixture.connect().await, fixture.connect().await);
    let queue = jobs("Echo.1.0.0");
    let mut first = subscribe(&one, &queue, 10).await;
    let mut second = subscribe(&two, &queue, 10).await;
    send(&one, &queue, &numbered("m", 40)).await;
    let mut found = Vec::new();
    for _ in 0..2 {
        let (mine, yours) = (take(&mut first, 10).await, take(&mut second, 10).await);
        found.extend(mine.iter().chain(&yours).map(body));
        ack(&*first, &tags(&mine)).await;
        ack(&*second, &tags(&yours)).await;
    }
    found.sort();
    let mut expected = numbered("m", 40);
    expected.sort();
    assert_eq!(found, expected);
}

pub(super) async fn every_property_arrives(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut sent = message(&queue, r#"{"grüße":"☃"}"#);
    sent.kind = "JobsFinished".into();
    sent.id = text("message-1");
    sent.reply_to = text("somebody.somewhere");
    sent.correlation_id = text("request-7");
    sent.expires = Some(Duration::from_secs(3600));
    sent.headers = vec![("traceparent".into(), "00-1-2-01".into()), ("reason".into(), "größer".into())];
    let bare = message(&queue, "");
    for result in within("publishing", broker.publish(vec![sent.clone(), bare])).await {
        result.expect("a confirmed message");
    }

    let mut consumer = subscribe(&broker, &queue, 10).await;
    let taken = take(&mut consumer, 2).await;
    let (full, bare) = (&taken[0], &taken[1]);
    assert_eq!((&full.kind, &full.body), (&sent.kind, &sent.body));
    assert_eq!((&full.id, &full.reply_to, &full.correlation_id), (&sent.id, &sent.reply_to, &sent.correlation_id));
    let mut headers = full.headers.clone();
    headers.sort();
    sent.headers.sort();
    assert_eq!(headers, sent.headers);
    assert_eq!(full.routing_key.as_ref(), broker.name_of(&queue));
    assert!(!full.redelivered);
    assert!(bare.body.is_empty() && bare.headers.is_empty());
    assert_eq!((&bare.id, &bare.reply_to, &bare.correlation_id), (&None, &None, &None));
}

pub(super) async fn publishing_makes_the_queue(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queues = [jobs("New.1.0.0"), Address::Coordinator(5), Address::Submit, Address::Dead];
    let messages = queues.iter().map(|queue| message(queue, "first")).collect();
    for result in within("publishing", broker.publish(messages)).await {
        result.expect("a confirmed message");
    }
    for queue in &queues {
        expect_depth(&broker, queue, 1).await;
        expect(&mut subscribe(&broker, queue, 1).await, &["first"], false).await;
    }
}

pub(super) async fn a_large_message_fails_alone(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let limit = fixture.max_message_bytes();
    let largest = "x".repeat(limit);
    let messages = vec![message(&queue, "a"), message(&queue, &format!("{largest}x")), message(&queue, &largest)];
    let results = within("publishing", broker.publish(messages)).await;
    let fits = |result: &Result<(), PublishError>| result.is_ok();
    assert!(fits(&results[0]) && fits(&results[2]), "{results:?}");
    assert!(
        matches!(results[1], Err(PublishError::TooLarge { size, limit: most }) if size == limit + 1 && most == limit),
        "{:?}",
        results[1]
    );
    let taken = take(&mut subscribe(&broker, &queue, 10).await, 2).await;
    assert_eq!(taken.iter().map(|delivery| delivery.body.len()).collect::<Vec<_>>(), [1, limit]);
}

pub(super) async fn an_expired_message_is_dropped(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = Address::Coordinator(0);
    let mut tick = message(&queue, "tick");
    tick.expires = Some(Duration::from_millis(1));
    let mut lasting = message(&queue, "lasting");
    lasting.expires = Some(Duration::from_secs(3600));
    for result in within("publishing", broker.publish(vec![tick, lasting])).await {
        result.expect("a confirmed message");
    }
    expect_depth(&broker, &queue, 1).await;
    expect(&mut subscribe(&broker, &queue, 10).await, &["lasting"], false).await;
}

pub(super) async fn depth_counts_what_waits(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    assert_eq!(broker.depth(&queue).await.expect("a depth"), 0, "of a queue that does not exist");
    send(&broker, &queue, &numbered("m", 5)).await;
    expect_depth(&broker, &queue, 5).await;
    let mut consumer = subscribe(&broker, &queue, 2).await;
    take(&mut consumer, 2).await;
    expect_depth(&broker, &queue, 3).await;
}

pub(super) async fn deleting_twice_succeeds(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    send(&broker, &queue, &["lost"]).await;
    for _ in 0..2 {
        within("deleting", broker.delete(&queue)).await.expect("a deletion");
        assert_eq!(broker.depth(&queue).await.expect("a depth"), 0);
    }
    // This program knows that it made the queue; that must not keep it from making it again.
    send(&broker, &queue, &["kept"]).await;
    expect(&mut subscribe(&broker, &queue, 10).await, &["kept"], false).await;
}

pub(super) async fn a_consumer_survives_the_deletion_of_its_queue(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 1).await;
    send(&other, &queue, &["held", "lost"]).await;
    let held = expect(&mut consumer, &["held"], false).await;
    within("deleting", other.delete(&queue)).await.expect("a deletion");
    // Published by one who believes that the queue is there, from before, and by one who deleted it.
    send(&broker, &queue, &["one"]).await;
    send(&other, &queue, &["two"]).await;
    let first = take(&mut consumer, 1).await;
    assert_eq!(body(&first[0]), "one");
    ack(&*consumer, &held).await;
    ack(&*consumer, &tags(&first)).await;
    assert_eq!(body(&take(&mut consumer, 1).await[0]), "two");
}
