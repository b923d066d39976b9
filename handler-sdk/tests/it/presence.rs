//! Who works here: told at the start, on request, and every heartbeat.

use std::time::Duration;

use phasework_broker::{Address, Broker as _, Message};
use phasework_sdk::{Context, HandlerError};
use phasework_workflows::message::presence::{HEARTBEAT, WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::time::Timestamp;
use tokio::time::Instant;

use crate::bench::{Bench, Reader};

async fn done(_: u64, _: Context) -> Result<(), HandlerError> {
    Ok(())
}

async fn hosting() -> Bench {
    Bench::start(|worker| worker.handler("Echo", "1.0.0", done).concurrency(3).handler("Other", "0.2.0-rc.1", done))
        .await
}

#[tokio::test(start_paused = true)]
async fn a_worker_says_what_it_hosts_every_heartbeat() {
    let mut bench = hosting().await; // which has read the first announcement
    let began = Instant::now();
    let announced: WorkerAnnounced = bench.presence.body().await;
    assert_eq!(began.elapsed(), Duration::from(HEARTBEAT));
    assert_eq!((announced.pid, announced.draining), (std::process::id(), false));
    assert_eq!(announced.started_at, Timestamp::from_millis(1_763_000_000_123));
    assert!(announced.sdk.starts_with("rust/"));
    let handlers = announced.handlers.iter().map(|h| (h.name.to_string(), h.version.to_string(), h.slots, h.in_flight));
    assert_eq!(
        handlers.collect::<Vec<_>>(),
        [("Echo".into(), "1.0.0".into(), 3, 0), ("Other".into(), "0.2.0-rc.1".into(), 10, 0)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_answers_when_workers_are_wanted() {
    let bench = hosting().await;
    let mut listener = Reader::of(&*bench.broker, Address::Presence).await;
    let began = Instant::now();
    bench.broker.publish(vec![Message::new(Address::Presence, "Unknown", "{}")]).await;
    bench.publish(Address::Presence, &WorkerGone { worker: "somebody else".into() }).await;
    bench.publish(Address::Presence, &WorkersWanted { from: "c1".into() }).await;
    for kind in ["Unknown", "WorkerGone", "WorkersWanted", "WorkerAnnounced"] {
        assert_eq!(&*listener.delivery().await.kind, kind);
    }
    assert_eq!(began.elapsed().as_millis(), 0, "not only the next heartbeat");
}
