//! Private queues: requests and answers, and what becomes of an answer when the asker is gone.

use super::{Fixture, body, eventually, expect, jobs, message, send, subscribe, take, text, within};
use crate::{Address, PublishError};

pub(super) async fn a_request_is_answered(fixture: &dyn Fixture) {
    let (client, server) = (fixture.connect().await, fixture.connect().await);
    let private = Address::Private("client.7".into());
    let mut answers = subscribe(&client, &private, 10).await;
    let mut requests = subscribe(&server, &Address::Submit, 10).await;

    let mut request = message(&Address::Submit, "question");
    request.reply_to = Some(client.name_of(&private).into());
    request.correlation_id = text("request-1");
    within("asking", client.publish(vec![request])).await.remove(0).expect("a confirmed request");

    let request = take(&mut requests, 1).await.remove(0);
    let mut answer = message(&Address::Submit, "answer");
    answer.correlation_id = request.correlation_id.clone();
    let reply_to = request.reply_to.as_deref().expect("where the answer goes");
    within("answering", server.reply(reply_to, answer)).await.expect("a confirmed answer");

    let answer = take(&mut answers, 1).await.remove(0);
    assert_eq!((body(&answer).as_str(), answer.correlation_id.as_deref()), ("answer", Some("request-1")));
    // The queue can be addressed by its own address too.
    send(&server, &private, &["more"]).await;
    expect(&mut answers, &["more"], false).await;
}

pub(super) async fn a_private_queue_goes_with_its_consumer(fixture: &dyn Fixture) {
    let (client, server) = (fixture.connect().await, fixture.connect().await);
    let private = Address::Private("worker.9".into());
    let name = client.name_of(&private);
    let unroutable = async || {
        let result = within("answering", server.reply(&name, message(&Address::Submit, "lost"))).await;
        assert!(matches!(result, Ok(()) | Err(PublishError::Unroutable(_))), "{result:?}");
        result.is_err()
    };
    assert!(unroutable().await, "before anybody subscribed");
    let consumer = subscribe(&client, &private, 10).await;
    assert!(!unroutable().await, "while its consumer is there");
    drop(consumer);
    eventually("the private queue going away", unroutable).await;

    let mut again = subscribe(&client, &private, 10).await;
    send(&server, &private, &["new"]).await;
    expect(&mut again, &["new"], false).await;
}

pub(super) async fn an_unroutable_message_fails_alone(fixture: &dyn Fixture) {
    let broker = fixture.connect().await;
    let (queue, nobody) = (jobs("Echo.1.0.0"), Address::Private("client.nobody".into()));
    let bodies = ["a", "b", "c", "d", "e", "f"];
    let messages: Vec<_> =
        bodies.iter().enumerate().map(|(n, body)| message(if n % 3 == 1 { &nobody } else { &queue }, body)).collect();
    // The first time the queue has to be made, the second time it is there.
    for _ in 0..2 {
        let results = within("publishing", broker.publish(messages.clone())).await;
        let outcomes: Vec<_> = results
            .iter()
            .map(|result| match result {
                Ok(()) => "confirmed",
                Err(PublishError::Unroutable(_)) => "unroutable",
                Err(_) => "else",
            })
            .collect();
        let expected = ["confirmed", "unroutable", "confirmed", "confirmed", "unroutable", "confirmed"];
        assert_eq!(outcomes, expected, "{results:?}");
    }
    let mut consumer = subscribe(&broker, &queue, 10).await;
    expect(&mut consumer, &["a", "c", "d", "f", "a", "c", "d", "f"], false).await;
}
