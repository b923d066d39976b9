//! The worker's own port: what it says while the worker starts, works, drains and is gone.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::Address;
use phasework_broker::memory::MemoryBroker;
use phasework_sdk::{CancellationToken, Context, HandlerError, Worker, WorkerHealth};
use phasework_workflows::message::job::{JobGroup, Jobs};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::bench::{Bench, range};

async fn get(health: &WorkerHealth, path: &str) -> Result<(u16, String), reqwest::Error> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let address = health.address().expect("it listens");
    let answer = reqwest::get(format!("http://{address}{path}")).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let gate = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&gate);
    let work = move |index: u64, _: Context| {
        let gate = Arc::clone(&permits);
        async move {
            gate.acquire().await?.forget();
            if index == 0 { Ok(()) } else { Err(HandlerError::fail("no")) }
        }
    };
    let mut health = None;
    let mut bench = Bench::start(|worker: Worker| {
        health = Some(worker.health());
        worker.handler("Echo", "9.9.9", work).listen("127.0.0.1:0")
    })
    .await;
    let health = health.unwrap();
    assert_eq!(get(&health, "/health/live").await.unwrap(), (200, r#"{"live":true}"#.to_owned()));
    assert_eq!(get(&health, "/health/ready").await.unwrap(), (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));
    // A version of its own, as all tests of a process measure together.
    let jobs = JobGroup { version: "9.9.9".parse().unwrap(), ..range(0, 3) };
    bench.publish(Address::Jobs("Echo.9.9.9".into()), &Jobs { groups: vec![jobs] }).await;
    gate.add_permits(2);
    bench.outcomes(2).await;
    let (status, metrics) = get(&health, "/metrics").await.unwrap();
    assert_eq!(status, 200);
    for line in [
        "phasework_jobs_total{handler=\"Echo\",version=\"9.9.9\",outcome=\"done\"} 1",
        "phasework_jobs_total{handler=\"Echo\",version=\"9.9.9\",outcome=\"failed\"} 1",
        "phasework_job_seconds_bucket{handler=\"Echo\",version=\"9.9.9\",le=\"120\"} 2",
        "phasework_worker_ready ",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    bench.stop.cancel();
    let (status, ready) = get(&health, "/health/ready").await.unwrap();
    assert_eq!(
        (status, serde_json::from_str::<Value>(&ready).unwrap()),
        (503, json!({ "ready": false, "reasons": ["it is draining"] }))
    );
    gate.add_permits(1);
    bench.worker.await.unwrap().unwrap();
    assert!(get(&health, "/health/live").await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, expected) in
        [("9100", "cannot listen at `9100`, which is no"), (&taken, "cannot listen at 127.0.0.1:")]
    {
        let worker = Worker::new(Arc::new(MemoryBroker::new())).listen(address);
        let running = worker.handler("Echo", "1.0.0", |(): (), _| async { Ok(()) }).run_until(CancellationToken::new());
        let error = tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
