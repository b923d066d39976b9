//! Coordinator queues: any number of programs read one, and one of them is served.

use super::{Fixture, ack, expect, expect_bodies, expect_depth, numbered, send, subscribe, within};
use crate::Address;

pub(super) async fn only_the_first_coordinator_is_served(fixture: &dyn Fixture) {
    let (one, two) = (fixture.connect().await, fixture.connect().await);
    let queue = Address::Coordinator(3);
    let mut first = subscribe(&one, &queue, 4).await;
    let mut second = subscribe(&two, &queue, 4).await;
    send(&two, &queue, &numbered("m", 10)).await;
    let held = expect(&mut first, &numbered("m", 4), false).await;
    // The second has room, and yet the rest waits for the first.
    expect_depth(&one, &queue, 6).await;
    ack(&*first, &held).await;
    expect(&mut first, &["m4", "m5", "m6", "m7"], false).await;
    drop(first);
    expect(&mut second, &["m4", "m5", "m6", "m7"], true).await;
}

pub(super) async fn the_next_coordinator_takes_over(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let queue = Address::Coordinator(0);
    let mut consumers = Vec::new();
    for _ in 0..3 {
        consumers.push(subscribe(&fixture.connect().await, &queue, 3).await);
    }
    let mut waiting = consumers.into_iter();
    let mut first = waiting.next().expect("the first consumer");
    send(&broker, &queue, &numbered("m", 5)).await;
    expect(&mut first, &["m0", "m1", "m2"], false).await;
    drop(first);

    let mut second = waiting.next().expect("the second consumer");
    let held = expect(&mut second, &["m0", "m1", "m2"], true).await;
    ack(&*second, &held).await;
    let held = expect(&mut second, &["m3", "m4"], false).await;
    ack(&*second, &held).await;
    drop(second);

    send(&broker, &queue, &["last"]).await;
    let mut third = waiting.next().expect("the third consumer");
    expect_bodies(&mut third, &["last"]).await;
}

pub(super) async fn a_stopped_coordinator_is_succeeded(fixture: &dyn Fixture) {
    let (one, two) = (fixture.connect().await, fixture.connect().await);
    let queue = Address::Coordinator(1);
    let mut first = subscribe(&one, &queue, 1).await;
    let mut second = subscribe(&two, &queue, 10).await;
    send(&one, &queue, &["a", "b"]).await;
    let held = expect(&mut first, &["a"], false).await;
    within("stopping", first.stop()).await.expect("a stop");
    expect(&mut second, &["b"], false).await;
    ack(&*first, &held).await;
    drop(first);
    send(&one, &queue, &["c"]).await;
    expect(&mut second, &["c"], false).await;
}
