//! A Redis that is emptied under a coordinator, which is a whole process here: it stops and says so, none starts on it
//! unless it is told to, and what is on the queues about runs that are gone is passed over.

use std::collections::BTreeSet;

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{Address, Broker};
use serde_json::json;

use crate::own;
use crate::processes::{Process, Site, block_on, definition, until};

/// How many jobs the first phase of a run has.
const JOBS: u64 = 40;

/// The job whose worker hangs.
const HANGING: u64 = 7;

/// The exit code of a coordinator whose store was emptied, as documented.
const STOPPED: i32 = 1;

/// Ends by itself, and says what to do.
async fn stops(process: &mut Process, log: &std::path::Path) {
    let status = process.ended().await;
    let said = std::fs::read_to_string(log).expect("a log");
    assert_eq!(status.code(), Some(STOPPED), "{said}");
    assert!(said.contains("the store is empty, but its broker was used before") && said.contains("--adopt"), "{said}");
}

#[test]
fn a_coordinator_whose_redis_is_emptied_stops_until_it_is_told_to_adopt_it() {
    let (Some(mut site), Some(redis)) = (Site::new(), own::redis()) else { return };
    site.store = redis.url();
    block_on(async {
        let broker =
            RabbitMq::connect(RabbitOptions { prefix: site.prefix.clone(), ..RabbitOptions::new(&site.broker) });
        let broker = broker.await.expect("the broker can be reached");
        let (mut first, url) = site.coordinator().await;
        let mut worker = site.worker(Some(HANGING));
        let mut runs = Vec::new();
        for n in 0..4 {
            let body = json!({ "definition": definition(JOBS), "key": format!("run {n}") });
            runs.push(site.submit(&url, &body).await);
        }
        let hanging = |run: &String| site.ledger().contains_key(&format!("start {run} first {HANGING} 1"));
        until("a job of each run hangs", async || runs.iter().all(hanging)).await;

        let client = redis::Client::open(redis.url()).expect("a URL");
        let mut direct = client.get_multiplexed_async_connection().await.expect("Redis answers");
        redis::cmd("FLUSHALL").query_async::<()>(&mut direct).await.expect("it can be emptied");
        stops(&mut first, &site.log_of(&url)).await;

        // With nobody to acknowledge them, the messages of the jobs that hang wait for another worker.
        worker.kill();
        let jobs = Address::Jobs("Note.1.0.0".into());
        until("the jobs wait", async || broker.depth(&jobs).await.expect("a depth") >= runs.len() as u64).await;
        let waiting = broker.depth(&jobs).await.expect("a depth");
        // Until it looked, the first noted who the workers are.
        let keys = async || {
            let keys = redis::cmd("KEYS").arg("*").query_async::<BTreeSet<String>>(&mut direct.clone()).await;
            keys.expect("keys can be listed")
        };
        let before = keys().await;
        let (mut second, url) = site.spawn_coordinator(&[]);
        stops(&mut second, &site.log_of(&url)).await;
        assert_eq!(broker.depth(&jobs).await.expect("a depth"), waiting, "nothing was touched");
        let new: Vec<_> = keys().await.difference(&before).cloned().collect();
        assert!(new.iter().all(|key| key.ends_with(":format")), "{new:?}");

        let (_third, url) = site.coordinator_with(&["--adopt"]).await;
        let _worker = site.worker(None);
        let log = site.log_of(&url);
        for run in &runs {
            let passed_over = |line: &str| line.contains(run.as_str()) && line.contains("passed over");
            until("what is left of the run is passed over", async || {
                std::fs::read_to_string(&log).expect("a log").lines().any(passed_over)
            })
            .await;
        }
        let queues = (0..8).map(Address::Coordinator).chain([jobs, Address::Dead]);
        for queue in queues {
            until("nothing is left", async || broker.depth(&queue).await.expect("a depth") == 0).await;
        }
        assert_eq!(site.get(&format!("{url}/v1/dead")).await["dead"], json!([]));
        let run = site.submit(&url, &json!({ "definition": definition(JOBS), "key": "run 0" })).await;
        let view = site.wait(&url, &run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");

        // Adopted once, it is a store like any other.
        let (_fourth, url) = site.coordinator().await;
        let view = site.wait(&url, &run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
        broker.close().await;
    });
}
