//! What RabbitMQ tells who asks whether all is well, and that asking changes nothing.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use phasework_broker::rabbitmq::{Found, RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker, BrokerError};

use crate::strangers::stranger;
use crate::{connect, insist, jobs, options, subscribe, url, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_what_it_is_to_whoever_asks() {
    let Some(url) = url() else { return };
    let server = within("greeting", RabbitMq::greet(&options(&url))).await.expect("an answer");
    assert_eq!(server.product, "RabbitMQ");
    assert!(server.version.starts_with(|first: char| first.is_ascii_digit()), "{server:?}");
    let place = url.rsplit('@').next().expect("an address");
    let stranger = RabbitOptions::new(&format!("amqp://nobody:wrong@{place}"));
    assert_eq!(RabbitMq::greet(&stranger).await.expect("an answer"), server);
    let nobody = RabbitOptions::new("amqp://127.0.0.1:1");
    assert!(matches!(RabbitMq::greet(&nobody).await, Err(BrokerError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_something_else_is_told_from_rabbitmq() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    drop(rustls::crypto::ring::default_provider().install_default());
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\x01\0\0\0\0\0\x05\0\x0a\0\x0a\x09\u{4e}", "\0", ""] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let options = RabbitOptions::new(&format!("amqp://{}", listener.local_addr().expect("an address")));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.read_exact(&mut [0; 8]).await.expect("a header");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        });
        let greeted = within("greeting", RabbitMq::greet(&options)).await;
        assert!(matches!(greeted, Err(BrokerError::Unavailable(_))), "{answer:?}: {greeted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_examined_and_left_as_it_is() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    let examine = async |queue: &Address| broker.examine(queue).await.expect("an answer");
    for _ in 0..2 {
        assert_eq!(examine(&jobs()).await, Found::Missing);
    }
    insist(&broker, &jobs(), "a").await;
    assert_eq!(examine(&jobs()).await, Found::Sound { messages: 1, consumers: 0 });
    let _reader = subscribe(&broker, &Address::Coordinator(0), 1).await;
    assert_eq!(examine(&Address::Coordinator(0)).await, Found::Sound { messages: 0, consumers: 1 });
    let (_connection, channel) = stranger(&url).await;
    let name = broker.name_of(&Address::Submit);
    let declared = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.as_str().into(), declared, FieldTable::default()).await.expect("a classic queue");
    let found = examine(&Address::Submit).await;
    assert!(matches!(&found, Found::Otherwise(why) if why.contains("inequivalent arg")), "{found:?}");
    for queue in [jobs(), Address::Coordinator(0), Address::Submit] {
        broker.delete(&queue).await.expect("it is deleted");
    }
    broker.close().await;
}

/// Each look at a queue that is not there costs a channel, whose number the next one may get.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_empty_however_often_one_looks() {
    let Some(url) = url() else { return };
    let broker = connect(&options(&url)).await;
    // More often than a connection has numbers.
    for look in 0..2500 {
        let depth = broker.depth(&jobs()).await;
        assert!(matches!(depth, Ok(0)), "look {look}: {depth:?}");
    }
    broker.close().await;
}
