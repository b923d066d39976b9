//! The promises of a store, kept by the one on Redis. Needs a server: `PHASEWORK_TEST_STORE_URL=redis://127.0.0.1:6379`.
//! Each check has a key prefix of its own, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use phasework_store::conformance::{SharedSubject, Subject, examine};
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_store::{SharedStore, Store as _};
use redis::aio::MultiplexedConnection;

struct OnRedis {
    options: RedisOptions,
    connection: MultiplexedConnection,
    handles: [SharedStore; 2],
}

impl OnRedis {
    async fn new(url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let options = RedisOptions { prefix, ..RedisOptions::new(url) };
        let connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let handle = || Arc::new(RedisStore::connect(&options).unwrap()) as SharedStore;
        let handles = [handle(), handle()];
        Self { options, connection, handles }
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.options.prefix)).arg("COUNT").arg(10_000);
            let (next, found): (u64, Vec<String>) = scan.query_async(&mut self.connection.clone()).await.unwrap();
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                keys.sort();
                keys.dedup();
                return keys;
            }
        }
    }
}

#[async_trait]
impl Subject for OnRedis {
    fn store(&self) -> SharedStore {
        self.handles[0].clone()
    }

    fn twin(&self) -> SharedStore {
        self.handles[1].clone()
    }

    async fn traces(&self) -> usize {
        self.keys().await.len()
    }
}

impl Drop for OnRedis {
    fn drop(&mut self) {
        let (prefix, url) = (self.options.prefix.clone(), self.options.url.clone());
        let clear = move || {
            let mut connection = redis::Client::open(url)?.get_connection()?;
            let keys: Vec<String> = redis::cmd("KEYS").arg(format!("{prefix}:*")).query(&mut connection)?;
            keys.chunks(1000).try_for_each(|keys| redis::cmd("UNLINK").arg(keys).exec(&mut connection))
        };
        if let Err(error) = clear() {
            eprintln!("keys of a test are left behind: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises() {
    let Ok(url) = std::env::var("PHASEWORK_TEST_STORE_URL") else {
        eprintln!("not run: PHASEWORK_TEST_STORE_URL is not set");
        return;
    };
    examine(|| async { Arc::new(OnRedis::new(&url).await) as SharedSubject }).await;
}

#[tokio::test]
async fn it_says_of_itself_how_it_is_set_up() {
    let Ok(url) = std::env::var("PHASEWORK_TEST_STORE_URL") else {
        eprintln!("not run: PHASEWORK_TEST_STORE_URL is not set");
        return;
    };
    let subject = OnRedis::new(&url).await;
    let store = RedisStore::connect(&subject.options).unwrap();
    let before = store.server().await.unwrap();
    assert!(before.format.is_none() && subject.keys().await.is_empty(), "asking writes nothing: {before:?}");
    store.check().await.unwrap();
    let after = store.server().await.unwrap();
    assert_eq!(after.format.as_deref(), Some("1"));
    assert!(after.info.contains_key("used_memory") && after.time >= before.time, "{after:?}");
    assert!(after.settings.contains_key("maxmemory-policy") && after.settings.contains_key("appendfsync"));
}
