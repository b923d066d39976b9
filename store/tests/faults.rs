//! What the store on Redis does when the server dies, freezes, forgets, fills up or is set up badly. Each test starts a
//! server of its own with the `redis-server` of this machine; without one they do not run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_store::{Commit, CommitError, RunIndex, Store, StoreError};
use phasework_workflows::Payload;
use phasework_workflows::id::{Nonce, RunId};
use phasework_workflows::run::{BitPatch, Delta, OutputPage, RunState};
use phasework_workflows::time::Timestamp;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// A server, which goes with this value.
struct Server {
    process: Option<Child>,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// A place for a server; none when this machine has no `redis-server`.
    fn prepare() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("not run: there is no redis-server on this machine");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Some(Self { process: None, directory: tempfile::tempdir().unwrap(), port })
    }

    fn running() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.start();
        Some(server)
    }

    /// Starts it and waits until it is ready.
    fn start(&mut self) {
        let mut process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(log.by_ref().any(|line| line.unwrap().contains("Ready to accept connections")), "it does not start");
        std::thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
    }

    /// Ends it as `kill -9` does.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn store(&self) -> Arc<RedisStore> {
        let options = RedisOptions { timeout: Duration::from_secs(5), ..RedisOptions::new(self.url()) };
        Arc::new(RedisStore::connect(&options).unwrap())
    }

    async fn direct(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a command past the store.
async fn send<T: redis::FromRedisValue>(server: &MultiplexedConnection, command: &[&str]) -> T {
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut server.clone()).await.unwrap()
}

fn run(n: u64) -> RunId {
    RunId::new(Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n))
}

fn commit(run: RunId, expect: u64) -> Commit {
    Commit {
        run,
        expect,
        head: vec![b'h'; 600],
        entry: 1,
        handlers: 1,
        delta: Delta::default(),
        data: None,
        effects: b"effects".to_vec(),
        published: (1..=expect).rev().take(1).collect(),
        index: RunIndex {
            state: RunState::Running,
            created_at: Timestamp::from_millis(1_763_000_000_000),
            ended_at: None,
            wake_at: Some(Timestamp::from_millis(expect as i64)),
            awaits_worker: false,
        },
    }
}

fn patch(offset: u64, bytes: &[u8]) -> Delta {
    let patch = BitPatch { entry: 1, handler: 0, offset, bytes: bytes.to_vec() };
    Delta { bits: vec![patch], ..Delta::default() }
}

/// Commits to one run until it is at version `end`; checks that no version that was answered is lost, and that no
/// call takes longer than it may.
async fn commit_until(store: Arc<RedisStore>, run: RunId, end: u64, answered: mpsc::UnboundedSender<()>) -> usize {
    let (mut version, mut outages) = (0, 0);
    while version < end {
        let started = Instant::now();
        let change = Commit { delta: patch(version / 8, &[version as u8]), ..commit(run, version) };
        let result = store.commit(vec![change]).await.remove(0);
        assert!(started.elapsed() < Duration::from_secs(7), "a call took {:?}", started.elapsed());
        match result {
            Ok(()) => {
                version += 1;
                answered.send(()).unwrap();
            }
            Err(CommitError::Store(StoreError::Unavailable(_)) | CommitError::Conflict) => {
                outages += 1;
                if let Ok(found) = store.load(&[run]).await {
                    let found = found[0].as_ref().map_or(0, |found| found.version);
                    assert!(found == version || found == version + 1, "{found} is stored, {version} was answered");
                    version = found;
                }
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    outages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_commit_is_lost_when_the_server_dies() {
    let Some(mut server) = Server::running() else { return };
    let (answered, mut answers) = mpsc::unbounded_channel();
    let store = server.store();
    let tasks: Vec<_> =
        (0..16).map(|n| tokio::spawn(commit_until(store.clone(), run(n), 250, answered.clone()))).collect();
    drop(answered);
    for _ in 0..4 {
        for _ in 0..600 {
            answers.recv().await.unwrap();
        }
        server.kill();
        server.start();
    }
    let mut outages = 0;
    for task in tasks {
        outages += task.await.unwrap();
    }
    assert!(outages > 0, "no call met an outage");
    for n in 0..16 {
        let stored = store.load(&[run(n)]).await.unwrap().remove(0).unwrap();
        assert_eq!((stored.version, stored.outbox.len(), stored.bits[0].len()), (250, 1, 32));
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_in_time_and_found_again() {
    let Some(mut server) = Server::prepare() else { return };
    let options = RedisOptions { timeout: Duration::from_millis(300), ..RedisOptions::new(server.url()) };
    let impatient = RedisStore::connect(&options).unwrap();
    let patient = server.store();
    for _ in 0..2 {
        let started = Instant::now();
        assert!(matches!(impatient.load(&[run(1)]).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(impatient.check().await, Err(StoreError::Unavailable(_))));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    let waiting = tokio::spawn(async move { patient.load(&[run(1)]).await });
    server.start();
    assert_eq!(waiting.await.unwrap().unwrap(), [None], "who waits gets an answer");
    let frozen = server.store();
    assert!(frozen.load(&[run(1)]).await.is_ok());
    server.signal("-STOP");
    while impatient.load(&[run(1)]).await.is_ok() {}
    assert!(matches!(impatient.load(&[run(1)]).await, Err(StoreError::Unavailable(_))));
    let waiting = tokio::spawn(async move { frozen.commit(vec![commit(run(1), 0)]).await });
    server.signal("-CONT");
    assert!(waiting.await.unwrap()[0].is_ok());
    while impatient.load(&[run(1)]).await.is_err() {} // it comes back by itself
}

/// Stands before the server. What was connected before `silent` grew is carried no more, and nobody is told.
async fn wire(port: u16, silent: watch::Receiver<u64>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut silent, since) = (silent.clone(), *silent.borrow());
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let silenced = async { silent.wait_for(|silent| *silent > since).await.is_ok() };
                let silenced = tokio::select! {
                    biased;
                    silenced = silenced => silenced,
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
                };
                if silenced {
                    std::future::pending::<()>().await; // both stay open
                }
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_fell_silent_is_replaced() {
    let Some(server) = Server::running() else { return };
    let (silence, silent) = watch::channel(0);
    let url = format!("redis://127.0.0.1:{}", wire(server.port, silent).await);
    let options = RedisOptions { timeout: Duration::from_millis(300), ..RedisOptions::new(url) };
    let store = RedisStore::connect(&options).unwrap();
    for round in 1..4 {
        store.load(&[run(1)]).await.unwrap();
        store.history(run(1), 0, 1).await.unwrap();
        silence.send(round).unwrap();
        // The other side still takes what it is sent, so that no part of the system ever says that this is broken.
        assert!(matches!(store.load(&[run(1)]).await, Err(StoreError::Unavailable(_))));
        assert_eq!(store.load(&[run(1)]).await.unwrap(), [None], "round {round}");
        let since = Instant::now();
        while store.history(run(1), 0, 1).await.is_err() {
            assert!(since.elapsed() < Duration::from_secs(3), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let Some(server) = Server::running() else { return };
    let (store, direct) = (server.store(), server.direct().await);
    for round in 0..20_u64 {
        let flushing = async {
            for _ in 0..10 {
                let _: () = send(&direct, &["SCRIPT", "FLUSH"]).await;
            }
        };
        let runs: Vec<_> = (0..200).map(|n| run(round * 1000 + n)).collect();
        let committing = store.commit(runs.iter().map(|&run| commit(run, 0)).collect());
        let (results, ()) = tokio::join!(committing, flushing);
        for (result, &run) in results.iter().zip(&runs) {
            // Flushed over and over, it may be given up; but then nothing is written.
            let stored = store.load(&[run]).await.unwrap()[0].is_some();
            assert_eq!(result.is_ok(), stored, "{result:?}");
        }
        let _: () = send(&direct, &["SCRIPT", "FLUSH"]).await;
        let late: Vec<_> = runs.iter().zip(results).filter(|(_, result)| result.is_err()).collect();
        let results = store.commit(late.iter().map(|(run, _)| commit(**run, 0)).collect()).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    assert_eq!(store.run_counts().await.unwrap().live, 4000);
}

#[tokio::test]
async fn a_full_server_refuses_whole_commits() {
    let Some(server) = Server::running() else { return };
    let (store, direct) = (server.store(), server.direct().await);
    let memory: String = send(&direct, &["INFO", "memory"]).await;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = (used.parse::<u64>().unwrap() + 3 * 1024 * 1024).to_string();
    let _: () = send(&direct, &["CONFIG", "SET", "maxmemory", &limit]).await;
    let (mut done, mut refused) = (0, 0);
    for n in 0..100 {
        let before: String = send(&direct, &["DEBUG", "DIGEST"]).await;
        let text = format!("\"{}\"", "x".repeat(50_000 + n * 100));
        let output = Payload::from_json(text).unwrap();
        let page = OutputPage { entry: 1, handler: 0, items: vec![(n as u64, output.clone()), (0, output)] };
        let delta = Delta { outputs: vec![page], ..patch(9, &[1]) };
        let mut index = commit(run(1), done).index;
        (index.state, index.ended_at) = (RunState::Succeeded, Some(Timestamp::from_millis(5)));
        match store.commit(vec![Commit { delta, index, ..commit(run(1), done) }]).await.remove(0) {
            Ok(()) => done += 1,
            Err(CommitError::Store(StoreError::Full(text))) => {
                refused += 1;
                assert!(text.contains("OOM"), "{text}");
                let after: String = send(&direct, &["DEBUG", "DIGEST"]).await;
                assert_eq!(after, before, "a refused commit left something");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(done > 10 && refused > 10, "{done} done, {refused} refused");
    let _: () = send(&direct, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let inputs = vec![(0, vec![Payload::null()])];
    let checked = store.check().await;
    assert!(matches!(checked, Err(StoreError::Full(_))), "{checked:?}");
    let put = store.put_inputs(run(1), 1, Nonce(1), 0, inputs).await;
    assert!(matches!(put, Err(StoreError::Full(_))), "{put:?}");
    // What frees memory is still done: effects leave the outbox, runs are removed.
    store.published(vec![(run(1), vec![done])]).await.unwrap();
    assert_eq!(store.load(&[run(1)]).await.unwrap()[0].as_ref().unwrap().outbox, []);
    assert!(store.remove_run(run(1), Timestamp::from_millis(6)).await.unwrap());
    assert_eq!(store.load(&[run(1)]).await.unwrap(), [None]);
    let refused = store.commit(vec![commit(run(1), 0)]).await.remove(0);
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Full(_)))), "{refused:?}");
    let _: () = send(&direct, &["CONFIG", "SET", "maxmemory", &limit]).await;
    assert!(store.commit(vec![commit(run(1), 0)]).await[0].is_ok(), "there is room again");
    assert_eq!(store.check().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_must_not_be_used_is_refused() {
    let Some(server) = Server::running() else { return };
    let (store, direct) = (server.store(), server.direct().await);
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    let unusable = async || match store.check().await {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    };
    let _: () = send(&direct, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert!(unusable().await.contains("noeviction"));
    let _: () = send(&direct, &["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await;
    let _: () = send(&direct, &["CONFIG", "SET", "appendonly", "no"]).await;
    let warnings = store.check().await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("appendonly yes"), "{warnings:?}");
    let _: () = send(&direct, &["SET", "phasework:format", "2"]).await;
    assert!(unusable().await.contains("format 2"));
    let _: () = send(&direct, &["SET", "phasework:format", "hello"]).await;
    assert!(unusable().await.contains("another prefix"));
    let _: () = send(&direct, &["SET", "phasework:format", "1"]).await;
    // A managed server that hides its settings, and one that asks for a password.
    let hide = ["ACL", "SETUSER", "default", "-config", "-info"];
    let _: () = send(&direct, &hide).await;
    let warnings = store.check().await.unwrap();
    assert!(warnings.iter().any(|warning| warning.contains("maxmemory-policy")), "{warnings:?}");
    let _: () = send(&direct, &["ACL", "SETUSER", "default", "+@all", "resetpass", ">secret"]).await;
    let text = match server.store().check().await {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(text.contains("password"), "{text}");
    let url = server.url().replace("://", "://:secret@");
    let store = RedisStore::connect(&RedisOptions::new(&url)).unwrap();
    assert!(store.check().await.is_ok());
    assert!(!format!("{store:?} {:?}", RedisOptions::new(&url)).contains("secret"));
}

#[test]
fn bad_options_are_refused() {
    for (url, prefix) in [("http://localhost", "phasework"), ("redis://localhost", ""), ("redis://localhost", "a{b}")] {
        let options = RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::new(url) };
        assert!(matches!(RedisStore::connect(&options), Err(StoreError::Unusable(_))), "{url}, {prefix}");
    }
}

#[tokio::test]
async fn a_job_costs_a_bit() {
    let Some(server) = Server::running() else { return };
    let (store, direct) = (server.store(), server.direct().await);
    let used = async |key: &str| -> u64 { send(&direct, &["MEMORY", "USAGE", key, "SAMPLES", "0"]).await };
    assert!(store.commit(vec![commit(run(1), 0)]).await[0].is_ok());
    // A million jobs, as they are done: more or less in order.
    for (version, start) in (0..125_000_u64).step_by(500).enumerate() {
        let change = Commit { delta: patch(start, &[0xff; 500]), ..commit(run(1), version as u64 + 1) };
        assert!(store.commit(vec![change]).await[0].is_ok());
    }
    let base = format!("phasework:{{pw:{}}}:run:{}", run(1).shard().0, run(1));
    let bits = used(&format!("{base}:bits:0")).await;
    assert!(bits < 125_000 * 106 / 100, "a bitmap of 125 kB takes {bits} bytes");
    let others = used(&base).await + used(&format!("{base}:outbox")).await;
    assert!(others < 2000, "the rest of the run takes {others} bytes");
    // A page of inputs.
    let item = Payload::from_json(format!("\"{}\"", "x".repeat(198))).unwrap();
    store.put_inputs(run(1), 1, Nonce(1), 0, vec![(0, vec![item; 1000])]).await.unwrap();
    let page = used(&format!("{base}:inputs:1:1:0")).await;
    assert!(page < 200_000 * 120 / 100, "a page of 200 kB takes {page} bytes");
}
