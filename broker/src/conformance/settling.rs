//! What a consumer holds: how much, until when, and what becomes of it when the consumer goes.

use futures::FutureExt;

use super::{
    Fixture, ack, body, expect, expect_bodies, expect_closed, expect_depth, jobs, numbered, send, subscribe, within,
};
use crate::DeliveryTag;

pub(super) async fn prefetch_is_a_limit(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 3).await;
    send(&broker, &queue, &numbered("m", 8)).await;
    let held = expect(&mut consumer, &["m0", "m1", "m2"], false).await;
    expect_depth(&broker, &queue, 5).await;
    ack(&*consumer, &held[1..]).await;
    expect(&mut consumer, &["m3", "m4"], false).await;
    expect_depth(&broker, &queue, 3).await;
    assert!(consumer.next(10).now_or_never().is_none(), "more than the prefetch");
}

pub(super) async fn next_gives_no_more_than_asked(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 100).await;
    send(&broker, &queue, &numbered("m", 50)).await;
    expect_depth(&broker, &queue, 0).await;
    let mut found = Vec::new();
    for max in [1, 2, 7, 40].into_iter().cycle() {
        let taken = within("deliveries", consumer.next(max)).await.expect("deliveries");
        assert!((1..=max).contains(&taken.len()), "{} of {max}", taken.len());
        found.extend(taken.iter().map(body));
        if found.len() >= 50 {
            break;
        }
    }
    assert_eq!(found, numbered("m", 50));
}

pub(super) async fn next_is_cancel_safe(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 20).await;
    let bodies = numbered("m", 200);
    let publishing = async {
        for calls in bodies.chunks(10) {
            send(&broker, &queue, calls).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let (mut found, mut dropped) = (Vec::new(), 0_u64);
        while found.len() < bodies.len() {
            // Given up at the first wait, over and over, so that many are dropped just as something arrives.
            match consumer.next(3).now_or_never() {
                None => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
                Some(taken) => {
                    let taken = taken.expect("deliveries");
                    ack(&*consumer, &super::tags(&taken)).await;
                    found.extend(taken.iter().map(body));
                }
            }
        }
        assert!(dropped > 0, "no call was ever dropped");
        found
    };
    let ((), found) = within("publishing and reading", async { tokio::join!(publishing, reading) }).await;
    assert_eq!(found, bodies);
}

pub(super) async fn what_is_acknowledged_is_forgotten(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 100).await;
    send(&broker, &queue, &numbered("m", 9)).await;
    let held = expect(&mut consumer, &numbered("m", 9), false).await;
    // Out of order, with gaps, so that acknowledging several at once must not take others along.
    ack(&*consumer, &[held[4], held[2]]).await;
    ack(&*consumer, &[held[0], held[8], held[1]]).await;
    drop(consumer);
    let mut consumer = subscribe(&broker, &queue, 100).await;
    let held = expect(&mut consumer, &["m3", "m5", "m6", "m7"], true).await;
    ack(&*consumer, &held).await;
    drop(consumer);
    send(&broker, &queue, &["last"]).await;
    expect_bodies(&mut subscribe(&broker, &queue, 100).await, &["last"]).await;
}

pub(super) async fn settling_twice_does_no_harm(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 3).await;
    send(&broker, &queue, &["a", "b", "c", "d"]).await;
    let held = expect(&mut consumer, &["a", "b", "c"], false).await;
    ack(&*consumer, &[held[0], held[0]]).await;
    // `d` takes the place of `a`, but not its tag.
    expect(&mut consumer, &["d"], false).await;
    ack(&*consumer, &[held[0]]).await;
    within("releasing", consumer.release(&[held[0]])).await.expect("a release");
    let earlier = DeliveryTag { generation: held[1].generation.wrapping_sub(1), ..held[1] };
    let unknown = DeliveryTag { number: u64::MAX >> 1, ..held[1] };
    ack(&*consumer, &[earlier, unknown]).await;
    drop(consumer);
    expect(&mut subscribe(&broker, &queue, 10).await, &["b", "c", "d"], true).await;
}

pub(super) async fn what_is_released_comes_again_in_order(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 3).await;
    send(&broker, &queue, &["a", "b", "c", "d"]).await;
    let held = expect(&mut consumer, &["a", "b", "c"], false).await;
    within("releasing", consumer.release(&held)).await.expect("a release");
    let held = expect(&mut consumer, &["a", "b", "c"], true).await;
    ack(&*consumer, &held).await;
    expect(&mut consumer, &["d"], false).await;
}

pub(super) async fn what_a_lost_consumer_held_comes_again_in_order(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 3).await;
    send(&broker, &queue, &["a", "b", "c", "d", "e"]).await;
    expect(&mut consumer, &["a", "b"], false).await;
    drop(consumer);
    expect_depth(&other, &queue, 5).await;
    let mut consumer = subscribe(&other, &queue, 10).await;
    expect(&mut consumer, &["a", "b"], true).await;
    expect_bodies(&mut consumer, &["c", "d", "e"]).await;
}

pub(super) async fn stopping_keeps_what_was_delivered(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = jobs("Echo.1.0.0");
    let mut consumer = subscribe(&broker, &queue, 2).await;
    send(&broker, &queue, &["a", "b", "c"]).await;
    let first = expect(&mut consumer, &["a"], false).await;
    expect_depth(&broker, &queue, 1).await;
    within("stopping", consumer.stop()).await.expect("a stop");
    ack(&*consumer, &first).await;
    let second = expect(&mut consumer, &["b"], false).await;
    expect_closed(&mut consumer).await;
    within("stopping", consumer.stop()).await.expect("a second stop");
    ack(&*consumer, &second).await;
    drop(consumer);
    expect(&mut subscribe(&broker, &queue, 10).await, &["c"], false).await;
}
