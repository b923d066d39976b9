//! What others do on the same RabbitMQ: queues declared otherwise, deleted, given foreign messages; names that are too
//! long; answers to nobody, in a crowd.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use phasework_broker::{Address, Broker, BrokerError, PublishError, Subscription};

use crate::{connect, insist, jobs, message, options, subscribe, url, wait_for, within};

/// A program that is not ours.
pub(crate) async fn stranger(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_declared_otherwise_is_refused_to_readers_only() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    let (_connection, channel) = stranger(&url).await;
    let name = broker.name_of(&jobs());
    let declared = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.as_str().into(), declared, FieldTable::default()).await.expect("a classic queue");

    let refused = within("subscribing", broker.subscribe(Subscription { from: jobs(), prefetch: 1 })).await.map(drop);
    assert!(matches!(refused, Err(BrokerError::Refused(_))), "{refused:?}");
    let results = within("publishing", broker.publish(vec![message(&jobs(), "a")])).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(broker.depth(&jobs()).await.expect("a depth"), 1);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_message_is_read_as_far_as_it_goes() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    let mut consumer = subscribe(&broker, &Address::Submit, 10).await;
    let (_connection, channel) = stranger(&url).await;
    let mut headers = FieldTable::default();
    headers.insert("text".into(), AMQPValue::LongString("yes".into()));
    headers.insert("number".into(), AMQPValue::LongInt(7));
    headers.insert("not-utf8".into(), AMQPValue::LongString(vec![0xff, 0xfe].into()));
    let name = broker.name_of(&Address::Submit);
    for properties in [BasicProperties::default().with_headers(headers), BasicProperties::default()] {
        let publish =
            channel.basic_publish("".into(), name.as_str().into(), BasicPublishOptions::default(), b"x", properties);
        publish.await.expect("a message").await.expect("no confirm");
    }
    let first = wait_for(&mut consumer, "x").await;
    assert_eq!((first.kind.as_ref(), first.headers), ("", vec![("text".into(), "yes".into())]));
    let second = wait_for(&mut consumer, "x").await;
    assert!(second.headers.is_empty() && second.id.is_none() && second.reply_to.is_none());
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_lost_in_silence_is_made_anew() {
    let Some(url) = url() else { return };
    let mut options = options(&url);
    options.renew_quiet_after = Duration::from_millis(300);
    let broker = connect(&options).await;
    let mut consumer = subscribe(&broker, &jobs(), 10).await;
    let (_connection, channel) = stranger(&url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    // In one go, so that the readers of the queue are not told.
    let name = broker.name_of(&jobs());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    let declared = QueueDeclareOptions { durable: true, ..Default::default() };
    let (_, _, _) = tokio::join!(
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()),
        channel.queue_declare(name.as_str().into(), declared, arguments),
        channel.basic_publish(
            "".into(),
            name.as_str().into(),
            BasicPublishOptions::default(),
            b"a",
            BasicProperties::default()
        ),
    );
    wait_for(&mut consumer, "a").await;
    // Renewed over and over, it still gets everything once.
    for n in 0..30 {
        let body = format!("m{n}");
        insist(&broker, &jobs(), &body).await;
        let delivery = wait_for(&mut consumer, &body).await;
        consumer.ack(&[delivery.tag]).await.expect("an acknowledgement");
        tokio::time::timeout(Duration::from_millis(50), consumer.next(1)).await.expect_err("nothing more");
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_is_made_again() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    let (_connection, channel) = stranger(&url).await;
    let exchange = broker.name_of(&Address::Events("".into()));
    channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.expect("a deletion");
    insist(&broker, &Address::Events("run.started.search".into()), "a").await;
    let mut consumer = subscribe(&broker, &Address::Events("#".into()), 10).await;
    insist(&broker, &Address::Events("run.started.search".into()), "b").await;
    wait_for(&mut consumer, "b").await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_too_long_harms_nobody() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    let long = Address::Jobs("x".repeat(255).into());
    let mut broken = message(&jobs(), "b");
    broken.correlation_id = Some("x".repeat(256).into());
    let results = within("publishing", broker.publish(vec![message(&long, "a"), broken, message(&jobs(), "c")])).await;
    assert!(matches!(results[0], Err(PublishError::Unroutable(_))), "{results:?}");
    assert!(matches!(results[1], Err(PublishError::TooLarge { .. })), "{results:?}");
    assert!(results[2].is_ok(), "{results:?}");
    let refused = broker.subscribe(Subscription { from: long.clone(), prefetch: 1 }).await.map(drop);
    assert!(matches!(refused, Err(BrokerError::Refused(_))), "{refused:?}");
    assert_eq!(broker.depth(&long).await.expect("a depth"), 0);
    broker.delete(&long).await.expect("a deletion");
    wait_for(&mut subscribe(&broker, &jobs(), 1).await, "c").await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_name_belongs_to_one_program() {
    let Some(url) = url() else { return };
    let mut options = options(&url);
    options.connect_timeout = Duration::from_secs(1);
    let (one, two) = (connect(&options).await, connect(&options).await);
    let private = Address::Private("worker.1".into());
    let held = subscribe(&one, &private, 1).await;
    let taken =
        within("subscribing", two.subscribe(Subscription { from: private.clone(), prefetch: 1 })).await.map(drop);
    assert!(matches!(taken, Err(BrokerError::Unavailable(_))), "{taken:?}");
    drop(held);
    within("closing", one.close()).await;
    subscribe(&two, &private, 1).await;
    two.close().await;
}

/// Many at once, so that confirms and returned messages of different calls come mixed.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_each_learns_what_became_of_its_own() {
    let Some(url) = url() else { return };
    let broker = Arc::new(connect(&options(&url)).await);
    let queues: Vec<_> = (0..5).map(|n| Address::Jobs(format!("Echo.1.0.{n}").into())).collect();
    let calls = (0..50_usize).map(|call| {
        let (broker, queue) = (broker.clone(), queues[call % 5].clone());
        tokio::spawn(async move {
            let nobody = Address::Private(format!("client.{}", call % 7).into());
            let goes_nowhere = |n: usize| n % 3 == call % 3;
            // Some are alike in everything, which must not confuse them either.
            let text = |n: usize| format!("{}", if n < 30 { n } else { n % 5 });
            let messages = (0..60).map(|n| message(if goes_nowhere(n) { &nobody } else { &queue }, &text(n))).collect();
            for (n, result) in broker.publish(messages).await.into_iter().enumerate() {
                let unroutable = matches!(result, Err(PublishError::Unroutable(_)));
                assert!(unroutable == goes_nowhere(n) && result.is_ok() != unroutable, "{call}.{n}: {result:?}");
            }
        })
    });
    for call in within("publishing", join_all(calls)).await {
        call.expect("what it should learn");
    }
    for queue in &queues {
        assert_eq!(broker.depth(queue).await.expect("a depth"), 400);
    }
    broker.close().await;
}
