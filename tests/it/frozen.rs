//! Coordinators that are frozen and thawed again: whole processes, stopped with SIGSTOP.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::processes::{Site, block_on, definition, until};

/// How many jobs the first phase of a run has.
const JOBS: u64 = 100;

/// How many runs are under way at once.
const RUNS: usize = 10;

/// How many coordinator queues there are.
const QUEUES: u64 = 8;

#[test]
fn a_coordinator_frozen_for_a_second_goes_on() {
    freeze_the_owner(Duration::from_secs(1), false);
}

/// RabbitMQ gives its queues to another when it misses two heartbeats.
#[test]
fn a_coordinator_frozen_for_half_a_minute_is_replaced_and_does_no_harm() {
    freeze_the_owner(Duration::from_secs(30), true);
}

/// The same for five minutes, in which others have long forgotten it. It was run when it was written; with
/// `PHASEWORK_TEST_LONG=1` it is run again.
#[test]
fn a_coordinator_frozen_for_five_minutes_is_replaced_and_does_no_harm() {
    if std::env::var_os("PHASEWORK_TEST_LONG").is_some() {
        freeze_the_owner(Duration::from_secs(300), true);
    } else {
        eprintln!("not run: it takes five minutes; PHASEWORK_TEST_LONG=1 has it run");
    }
}

/// Freezes the owner of half the queues under load; the other one takes over meanwhile if `is_replaced`.
fn freeze_the_owner(length: Duration, is_replaced: bool) {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (first, frozen_url) = site.coordinator().await;
        let (_second, url) = site.coordinator().await;
        until("each has half of the queues", async || {
            site.owned(&url).await == QUEUES / 2 && site.owned(&frozen_url).await == QUEUES / 2
        })
        .await;
        let _workers = [site.worker(None), site.worker(None)];
        let before = submit(&site, &url, "before").await;
        until("work is under way", async || site.ledger().len() > 200).await;
        let frozen_at = Instant::now();
        first.signal("STOP");
        if is_replaced {
            // Without any help of the one that is frozen.
            all_end(&site, &url, &before).await;
            println!("half the queues were taken over, and all runs ended, {:?} after the freeze", frozen_at.elapsed());
        }
        // The freeze itself, and not a wait for something else.
        tokio::time::sleep(length.saturating_sub(frozen_at.elapsed())).await;
        let after = if is_replaced { submit(&site, &url, "while frozen").await } else { Vec::new() };
        first.signal("CONT");
        all_end(&site, &url, &before).await;
        all_end(&site, &frozen_url, &after).await;
        // Whoever owns a queue, it is one of them.
        until("the queues are shared again", async || {
            site.owned(&url).await == QUEUES / 2 && site.owned(&frozen_url).await == QUEUES / 2
        })
        .await;
        let last = submit(&site, &frozen_url, "at last").await;
        all_end(&site, &url, &last).await;
        for run in [before, after, last].concat() {
            counted_once(&site, &url, &run).await;
        }
    });
}

async fn submit(site: &Site, url: &str, name: &str) -> Vec<String> {
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let body = json!({ "definition": definition(JOBS), "key": format!("{name} {number}") });
        runs.push(site.submit(url, &body).await);
    }
    runs
}

async fn all_end(site: &Site, url: &str, runs: &[String]) {
    for run in runs {
        let view = site.wait(url, run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
    }
}

/// Every job was done, and every job counts once.
async fn counted_once(site: &Site, url: &str, run: &str) {
    let begins = format!("done {run} ");
    let lines = site.ledger();
    let done = lines.keys().filter(|line| line.starts_with(&begins));
    let jobs: BTreeSet<_> = done.map(|line| line.rsplit_once(' ').expect("an attempt").0).collect();
    assert_eq!(jobs.len() as u64, JOBS + 2, "{run}");
    let history = site.get(&format!("{url}/v1/runs/{run}/history")).await;
    let events = history["events"].as_array().expect("events");
    let finished = events.iter().filter(|event| event["what"] == "finished");
    let counts: Vec<_> = finished.filter_map(|event| event["handlers"][0]["done"].as_u64()).collect();
    assert_eq!(counts, [JOBS, 2], "{history:#}");
    let entered = events.iter().filter(|event| event["what"] == "entered").count();
    assert_eq!(entered, 3, "{history:#}");
}
