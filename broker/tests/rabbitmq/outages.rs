//! Connections that break, stall and cannot be made: nothing confirmed is lost, nothing hangs, everything goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker, BrokerError, Message, PublishError, Subscription};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::{connect, eventually, insist, jobs, message, options, subscribe, tags, url, wait_for, within};

/// A broker behind a proxy, and its settings.
async fn behind_proxy(change: impl FnOnce(&mut RabbitOptions)) -> Option<(RabbitMq, Proxy, RabbitOptions)> {
    let url = url()?;
    let proxy = Proxy::before(&url).await;
    let mut options = options(&proxy.url(&url));
    change(&mut options);
    Some((connect(&options).await, proxy, options))
}

/// Publishes in batches, again what was not confirmed; says what was ever published twice.
async fn publish_all(broker: &RabbitMq, bodies: &[String]) -> BTreeSet<String> {
    let mut again = BTreeSet::new();
    for batch in bodies.chunks(20) {
        let mut open: Vec<&String> = batch.iter().collect();
        while !open.is_empty() {
            let messages = open.iter().map(|body| message(&jobs(), body)).collect();
            let results = within("publishing", broker.publish(messages)).await;
            let failed = open.iter().zip(results).filter_map(|(body, result)| result.is_err().then_some(*body));
            open = failed.collect();
            again.extend(open.iter().map(|body| (*body).clone()));
        }
    }
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_when_connections_are_cut() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let bodies: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let mut consumer = subscribe(&broker, &jobs(), 50).await;
    let reading = async {
        let (mut seen, mut again, mut cuts) = (BTreeSet::new(), BTreeSet::new(), 0);
        while seen.len() < bodies.len() {
            let taken = within("deliveries", consumer.next(20)).await.expect("deliveries");
            for delivery in &taken {
                let body = String::from_utf8(delivery.body.to_vec()).expect("text");
                if !seen.insert(body.clone()) {
                    again.insert((body, delivery.redelivered));
                }
            }
            consumer.ack(&tags(&taken)).await.expect("an acknowledgement");
            // By progress, so that there is always something under way.
            if seen.len() > 200 * (cuts + 1) {
                cuts += 1;
                proxy.cut();
            }
        }
        (again, cuts)
    };
    let (published_again, (seen_again, cuts)) = tokio::join!(publish_all(&broker, &bodies), reading);
    assert!(cuts >= 9, "{cuts} cuts");
    // What came twice was published twice, or is marked as redelivered.
    let unexplained: Vec<_> =
        seen_again.iter().filter(|(body, redelivered)| !redelivered && !published_again.contains(body)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
    // The last cut may still be felt: what was read came over one connection, health tells of both.
    eventually("a healthy broker", || async { broker.health().is_ok() }).await;
    // Acknowledged is acknowledged, except for what was lost with the last connection.
    insist(&broker, &jobs(), "last").await;
    let last = wait_for(&mut consumer, "last").await;
    consumer.ack(&[last.tag]).await.expect("an acknowledgement");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_lost_connection_acknowledge_nothing() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let mut consumer = subscribe(&broker, &jobs(), 1).await;
    insist(&broker, &jobs(), "a").await;
    insist(&broker, &jobs(), "b").await;
    let first = consumer.next(1).await.expect("a delivery").remove(0);
    proxy.cut();
    let again = within("a redelivery", consumer.next(1)).await.expect("a delivery").remove(0);
    assert_eq!((&again.body[..], again.redelivered), (&b"a"[..], true));
    assert!(again.tag.generation > first.tag.generation);
    // With a prefetch of 1, `b` would come if the old tag settled anything.
    consumer.ack(&[first.tag]).await.expect("an old tag is passed over");
    consumer.release(&[first.tag]).await.expect("an old tag is passed over");
    eventually("b waiting", || async { broker.depth(&jobs()).await.expect("a depth") == 1 }).await;
    consumer.ack(&[again.tag]).await.expect("an acknowledgement");
    assert!(!wait_for(&mut consumer, "b").await.redelivered);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_read_is_read_again_after_an_outage() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let private = Address::Private("worker.7".into());
    let all = [
        jobs(),
        Address::Coordinator(2),
        Address::Submit,
        Address::Dead,
        private.clone(),
        Address::Events("run.finished.search".into()),
        Address::Control,
        Address::Presence,
    ];
    let mut consumers = Vec::new();
    for address in &all {
        let from = if let Address::Events(_) = address { Address::Events("run.#".into()) } else { address.clone() };
        consumers.push(subscribe(&broker, &from, 10).await);
    }
    for round in ["before", "after", "again"] {
        for (address, consumer) in all.iter().zip(&mut consumers) {
            // A subscriber to an exchange misses what is published before it is back, so publish until it is.
            let taken = within("a delivery", async {
                loop {
                    insist(&broker, address, round).await;
                    let patience = Duration::from_millis(500);
                    if let Ok(taken) = tokio::time::timeout(patience, consumer.next(10)).await {
                        let taken = taken.expect("deliveries");
                        consumer.ack(&tags(&taken)).await.expect("an acknowledgement");
                        if taken.iter().any(|delivery| delivery.body == round.as_bytes()) {
                            return taken;
                        }
                    }
                }
            });
            assert!(!taken.await.is_empty());
        }
        let name = broker.name_of(&private);
        let answered = || async { broker.reply(&name, message(&private, "answer")).await.is_ok() };
        eventually("an answer", answered).await;
        proxy.cut();
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_reported_in_time_and_ends() {
    let Some((broker, proxy, _)) = behind_proxy(|options| {
        options.publish_timeout = Duration::from_secs(1);
        options.connect_timeout = Duration::from_secs(1);
    })
    .await
    else {
        return;
    };
    let mut consumer = subscribe(&broker, &jobs(), 10).await;
    proxy.refuse(true);
    proxy.cut();
    eventually("being unwell", || async { broker.health().is_err() }).await;

    let in_time = |since: Instant| assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let since = Instant::now();
    let results =
        within("publishing", broker.publish(vec![message(&jobs(), "a"), message(&Address::Control, "b")])).await;
    assert!(results.iter().all(|result| matches!(result, Err(PublishError::Unconfirmed(_)))), "{results:?}");
    in_time(since);
    let since = Instant::now();
    let subscription = Subscription { from: jobs(), prefetch: 1 };
    let refused = within("subscribing", broker.subscribe(subscription)).await.map(drop);
    assert!(matches!(refused, Err(BrokerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(within("a depth", broker.depth(&jobs())).await, Err(BrokerError::Unavailable(_))));
    in_time(since);

    proxy.refuse(false);
    insist(&broker, &jobs(), "back").await;
    wait_for(&mut consumer, "back").await;
    broker.health().expect("a healthy broker");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_connection_is_replaced() {
    let Some(url) = url() else { return };
    let proxy = Proxy::before(&url).await;
    let mut options = options(&proxy.url(&url));
    options.heartbeat = Duration::from_secs(1);
    options.publish_timeout = Duration::from_millis(500);
    let broker = connect(&options).await;
    let mut consumer = subscribe(&broker, &jobs(), 10).await;
    insist(&broker, &jobs(), "a").await;
    wait_for(&mut consumer, "a").await;
    proxy.stall();
    // It looks like any connection, until nothing is confirmed, and in the end no heartbeat comes.
    let results = within("publishing", broker.publish(vec![message(&jobs(), "b")])).await;
    assert!(matches!(results[..], [Err(PublishError::Unconfirmed(_))]), "{results:?}");
    insist(&broker, &jobs(), "c").await;
    wait_for(&mut consumer, "c").await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_consumer_settles_quietly_after_an_outage() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let mut consumer = subscribe(&broker, &jobs(), 10).await;
    insist(&broker, &jobs(), "a").await;
    let held = consumer.next(1).await.expect("a delivery");
    within("stopping", consumer.stop()).await.expect("a stop");
    proxy.cut();
    let mut other = subscribe(&broker, &jobs(), 10).await;
    let again = within("a redelivery", other.next(1)).await.expect("a delivery").remove(0);
    assert!(again.redelivered);
    consumer.ack(&tags(&held)).await.expect("an old tag is passed over");
    let end = within("the end", consumer.next(1)).await;
    assert!(matches!(end, Err(BrokerError::Closed)), "{end:?}");
    // Stopping while there is no connection ends at once.
    proxy.refuse(true);
    proxy.cut();
    within("stopping", other.stop()).await.expect("a stop");
    within("closing", broker.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_an_outage_to_end() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let broker = Arc::new(broker);
    let mut consumer = subscribe(&broker, &jobs(), 10).await;
    proxy.refuse(true);
    proxy.cut();
    eventually("being unwell", || async { broker.health().is_err() }).await;
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(vec![message(&jobs(), "a")]).await }
    });
    let since = Instant::now();
    within("closing", broker.close()).await;
    assert!(matches!(within("the end", consumer.next(1)).await, Err(BrokerError::Closed)));
    let results = within("publishing", publishing).await.expect("no panic");
    assert!(matches!(results[..], [Err(PublishError::Unconfirmed(_))]), "{results:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn not_connecting_says_why() {
    let Some(url) = url() else { return };
    let check = async |url: &str, refused: bool| {
        let mut options = options(url);
        options.connect_timeout = Duration::from_secs(2);
        let since = Instant::now();
        let error = within("failing", RabbitMq::connect(options)).await.expect_err("no connection");
        assert_eq!(matches!(error, BrokerError::Refused(_)), refused, "{error:?}");
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    };
    let (_, server) = url.rsplit_once('@').expect("a user");
    let (host, _) = server.split_once('/').unwrap_or((server, ""));
    check("not a url", true).await;
    check("http://127.0.0.1/", true).await;
    check(&format!("amqp://guest:wrong@{server}"), true).await;
    let (user, _) = url.rsplit_once('@').expect("a user");
    check(&format!("{user}@{host}/no-such-vhost"), true).await;
    // Nobody listens; somebody does, and says nothing; somebody hangs up at once.
    check("amqp://guest:guest@127.0.0.1:1/%2f", false).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    check(&format!("amqp://guest:guest@{}/%2f", silent.local_addr().expect("an address")), false).await;
    let rude = Proxy::before(&url).await;
    rude.refuse(true);
    check(&rude.url(&url), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again_once() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    assert_eq!(proxy.made(), 2, "one to publish, one to consume");
    let mut consumers = Vec::new();
    for n in 0..20 {
        consumers.push(subscribe(&broker, &Address::Jobs(format!("Echo.1.0.{n}").into()), 10).await);
    }
    proxy.cut();
    for (n, consumer) in consumers.iter_mut().enumerate() {
        insist(&broker, &Address::Jobs(format!("Echo.1.0.{n}").into()), "back").await;
        wait_for(consumer, "back").await;
    }
    assert_eq!(proxy.made(), 4, "however many read on them");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_pass_while_connections_are_cut() {
    let Some((broker, proxy, _)) = behind_proxy(|_| ()).await else { return };
    let body = "x".repeat(300_000);
    let mut consumer = subscribe(&broker, &jobs(), 3).await;
    let publishing = async {
        for round in 0..4 {
            let mut open: Vec<Message> = (0..8).map(|_| message(&jobs(), &body)).collect();
            while !open.is_empty() {
                let results = within("publishing", broker.publish(open.clone())).await;
                open = open.into_iter().zip(results).filter_map(|(sent, result)| result.err().map(|_| sent)).collect();
            }
            if round % 2 == 0 {
                proxy.cut();
            }
        }
    };
    let reading = async {
        let mut count = 0;
        while count < 32 {
            let taken = within("deliveries", consumer.next(3)).await.expect("deliveries");
            assert!(taken.iter().all(|delivery| delivery.body.len() == body.len()));
            consumer.ack(&tags(&taken)).await.expect("an acknowledgement");
            count += taken.len();
        }
    };
    tokio::join!(publishing, reading);
    broker.close().await;
}
