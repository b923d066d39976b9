//! Events, orders to workers, announcements: a copy for every subscriber, and no harm when there is none.

use super::{Fixture, ack, body, events, expect, send, subscribe, take, within};
use crate::Address;

pub(super) async fn events_reach_those_who_match(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.connect().await, fixture.connect().await);
    let keys = ["run.started.search", "run.finished.search", "phase.finished.search.fetching", "run.finished.thumbs"];
    let check = async |pattern: &str, expected: &[&str]| {
        let mut consumer = subscribe(&other, &events(pattern), 100).await;
        for key in keys {
            send(&broker, &events(key), &[key]).await;
        }
        // Matches every pattern, and comes after all that could have come.
        let last = pattern.replace(['*', '#'], "last");
        send(&broker, &events(&last), &["last"]).await;
        let mut found = Vec::new();
        while found.last().is_none_or(|body| body != "last") {
            let delivery = take(&mut consumer, 1).await.remove(0);
            let expected_key = if body(&delivery) == "last" { last.clone() } else { body(&delivery) };
            assert_eq!(delivery.routing_key.as_ref(), expected_key);
            found.push(body(&delivery));
        }
        assert_eq!(found[..found.len() - 1], *expected, "{pattern}");
    };
    check("run.finished.search", &["run.finished.search"]).await;
    check("run.finished.*", &["run.finished.search", "run.finished.thumbs"]).await;
    check("run.*", &[]).await;
    check("*.finished.#", &["run.finished.search", "phase.finished.search.fetching", "run.finished.thumbs"]).await;
    check("#", &keys).await;
}

pub(super) async fn events_nobody_wants_succeed(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    for to in [events("run.started.search"), Address::Control, Address::Presence] {
        send(&broker, &to, &["unheard"]).await;
    }
    let mut consumer = subscribe(&broker, &events("#"), 10).await;
    send(&broker, &events("run.started.search"), &["heard"]).await;
    expect(&mut consumer, &["heard"], false).await;
}

pub(super) async fn orders_reach_everybody(fixture: &dyn Fixture) {
    let (one, two) = (fixture.connect().await, fixture.connect().await);
    for to in [Address::Control, Address::Presence] {
        let mut consumers =
            [subscribe(&one, &to, 10).await, subscribe(&one, &to, 10).await, subscribe(&two, &to, 10).await];
        send(&two, &to, &["a", "b"]).await;
        for consumer in &mut consumers {
            expect(consumer, &["a", "b"], false).await;
        }
    }
}

pub(super) async fn a_subscriber_settles_its_own_copy(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let mut first = subscribe(&broker, &Address::Presence, 2).await;
    let mut second = subscribe(&broker, &Address::Presence, 10).await;
    send(&broker, &Address::Presence, &["a", "b", "c"]).await;
    let held = expect(&mut first, &["a", "b"], false).await;
    expect(&mut second, &["a", "b", "c"], false).await;
    ack(&*first, &held[..1]).await;
    expect(&mut first, &["c"], false).await;
    within("releasing", first.release(&held[1..])).await.expect("a release");
    expect(&mut first, &["b"], true).await;
}

pub(super) async fn a_subscriber_that_left_is_not_missed(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let mut staying = subscribe(&broker, &events("run.#"), 10).await;
    let leaving = subscribe(&broker, &events("run.#"), 10).await;
    send(&broker, &events("run.started.search"), &["a"]).await;
    drop(leaving);
    send(&broker, &events("run.finished.search"), &["b"]).await;
    expect(&mut staying, &["a", "b"], false).await;
    let mut late = subscribe(&broker, &events("run.#"), 10).await;
    send(&broker, &events("run.started.search"), &["c"]).await;
    expect(&mut late, &["c"], false).await;
}
