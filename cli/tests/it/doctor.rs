//! `doctor`: on a real RabbitMQ and Redis, if the tests were given some, and where there is none.

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker as _};
use phasework_store::Store as _;
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_workflows::id::Shard;
use serde_json::Value;

use crate::command::Place;
use crate::serve::address;

#[test]
fn a_real_installation_is_looked_at() {
    let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    let (Some(broker), Some(store)) = (given("PHASEWORK_TEST_BROKER_URL"), given("PHASEWORK_TEST_STORE_URL")) else {
        println!("not run: PHASEWORK_TEST_BROKER_URL and PHASEWORK_TEST_STORE_URL are not set");
        return;
    };
    let prefix = format!("doctor-{}", std::process::id());
    let place = Place::new()
        .with("PHASEWORK_BROKER", &broker)
        .with("PHASEWORK_STORE", &store)
        .with("PHASEWORK_PREFIX", &prefix)
        .with("PHASEWORK_COORDINATOR_QUEUES", "2")
        .with("PHASEWORK_LISTEN", "127.0.0.1:0");
    let before = place.check(&["doctor"], 0, &["RabbitMQ ", "are taken", "the store is empty", "2 warnings"]);
    assert!(before.out.contains("coordinator queues  not there yet"), "{}", before.out);

    let mut serving = place.start(&["serve"]);
    let url = address(&mut serving);
    serving.until("ready: the broker and the store can be used");
    let words = [
        "serve every queue",
        &url,
        "ready               yes",
        "format              1",
        "0 live, 0 ended",
        "the broker and the store hold the same",
        "all shards are up to date",
    ];
    place.check(&["doctor", "--url", &url], 0, &words);
    let json = place.check(&["doctor", "--url", &url, "--output", "json"], 0, &[]).out;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&0.into(), &1.into()), "{json:#}");

    serving.signal("TERM");
    serving.end();
    place.check(
        &["doctor"],
        1,
        &["nobody serves 2 of 2 coordinator queues", "→ `phasework serve` starts a coordinator"],
    );
    place.check(&["doctor", "--url", &url], 3, &["cannot be reached", "--url or PHASEWORK_API says where it is"]);
    with_runtime(losses(&place, &broker, &store, &prefix));
}

/// What is said when the store, or the broker, has lost something and no coordinator has seen to it yet.
async fn losses(place: &Place, broker: &str, store: &str, prefix: &str) {
    let options = RabbitOptions { prefix: prefix.to_owned(), ..RabbitOptions::new(broker) };
    let rabbit = RabbitMq::connect(options).await.unwrap();
    let redis = RedisStore::connect(&RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::new(store) }).unwrap();
    let shards: Vec<_> = Shard::all().take(3).collect();
    redis.put_epoch(&shards, "of another time").await.unwrap();
    place.check(&["doctor"], 1, &["3 of 256 shards were not recovered", "`phasework serve` starts one"]);
    let marker = Address::Marker(redis.marker().await.unwrap().expect("a coordinator made one"));
    rabbit.delete(&marker).await.unwrap();
    place.check(&["doctor"], 1, &["the broker does not hold the one of the store", "`phasework serve` does"]);
    assert_eq!(rabbit.depth(&marker).await.unwrap(), 0, "a look changes nothing");
    let empty = format!("{}/7", store.trim_end_matches("/0").trim_end_matches('/'));
    place.check(&["doctor", "--store", &empty], 1, &["the store has none, but the broker was used", "--adopt"]);
    for queue in [Address::Coordinator(0), Address::Coordinator(1), Address::Submit, Address::Dead] {
        rabbit.delete(&queue).await.unwrap();
    }
    rabbit.close().await;
}

fn with_runtime(work: impl Future<Output = ()>) {
    rustls::crypto::ring::default_provider().install_default().ok(); // another test may have been first
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn what_cannot_be_reached_is_exit_code_3() {
    // Port 1 of this machine: nothing listens there.
    let place = Place::new().with("PHASEWORK_LISTEN", "127.0.0.1:1");
    // Whom `serve` lets in may be kept from who looks.
    let place = place.with("PHASEWORK_TOKENS_FILE", "/nowhere/tokens").with("PHASEWORK_WORKER_TOKEN", "w0rker");
    let (rabbit, redis) = ("amqp://user:sekret@127.0.0.1:1", "redis://:sekret@127.0.0.1:1");
    let rows: [(&[&str], i32, &[&str]); 4] = [
        (
            &["--broker", rabbit, "--store", redis],
            3,
            &["broker", "amqp://user:***@127.0.0.1:1 cannot be reached", "→ is it running? --store", "2 errors"],
        ),
        (
            &["--broker", "memory:", "--store", "memory:"],
            0,
            &["where nobody can look at it", "none answers at", "all is well"],
        ),
        (&["--broker", "memory:", "--store", "memory:", "--url", "http://127.0.0.1:1"], 3, &["1 error"]),
        (&[], 2, &["no broker is given (--broker or PHASEWORK_BROKER)"]),
    ];
    for (arguments, exit, expected) in rows {
        let done = place.check(&[&["doctor"], arguments].concat(), exit, expected);
        assert!(!done.out.contains("sekret") && !done.err.contains("sekret"), "{}{}", done.out, done.err);
    }
}
