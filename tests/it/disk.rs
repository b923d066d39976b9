//! A Redis whose disk is full: nothing is lost, and all goes on when there is room again.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use xtask::install::find_on_path;
use xtask::redis::Redis;

use crate::processes::{Site, block_on, definition, until};

/// A Redis with a small disk of its own; none where there is no Redis, or no such disk can be made.
fn on_a_small_disk(directory: &Path) -> Option<Redis> {
    let program = find_on_path("redis-server").or_else(|| not_run("there is no redis-server on this machine"))?;
    let redis = Redis::prepare(&program, directory, "everysec").expect("a free port");
    let mut redis = redis.with_disk(16).map_err(|why| not_run::<()>(&why.to_string())).ok()?;
    redis.start().expect("Redis starts");
    Some(redis)
}

fn not_run<T>(why: &str) -> Option<T> {
    eprintln!("not run: {why}");
    None
}

/// Writes until nothing more goes on the disk.
fn fill(mut ballast: &File) {
    let mut size = 1 << 20;
    while size > 0 {
        if ballast.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
}

#[test]
fn a_full_disk_of_redis_holds_everything_up_and_loses_nothing() {
    let Some(mut site) = Site::new() else { return };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let Some(redis) = on_a_small_disk(directory.path()) else { return };
    site.store = redis.url();
    block_on(async {
        let client = redis::Client::open(redis.url()).expect("a URL");
        let direct = client.get_multiplexed_async_connection().await.expect("Redis answers");
        let refuses = async || {
            let written = redis::cmd("SET").arg(&["probe", "1"]).query_async::<()>(&mut direct.clone()).await;
            written.is_err_and(|error| error.to_string().contains("MISCONF"))
        };
        let (_coordinator, url) = site.coordinator().await;
        let _workers = [site.worker(None), site.worker(None)];
        let mut runs = Vec::new();
        for n in 0..10 {
            let body = json!({ "definition": definition(300), "key": format!("run {n}") });
            runs.push(site.submit(&url, &body).await);
        }
        until("work is under way", async || site.ledger().len() > 600).await;
        let path = redis.disk().expect("it runs").join("ballast");
        let ballast = File::create(&path).expect("its disk can be written");
        // What Redis has written since is on the disk as well, so there may be some room again.
        until("Redis refuses to write", async || {
            fill(&ballast);
            refuses().await
        })
        .await;
        // Every job of the first phases is out already and gets done; that it was cannot be taken down now.
        until("workers go on", async || site.ledger().len() >= 10 * 300 * 2).await;
        assert!(refuses().await, "it was full all the while");
        std::fs::remove_file(&path).expect("its disk can be emptied");
        drop(ballast);
        for run in &runs {
            let view = site.wait(&url, run).await;
            assert_eq!(view["state"], "succeeded", "{view:#}");
        }
        let ledger = site.ledger();
        for run in &runs {
            let done = ledger.keys().filter(|line| line.starts_with(&format!("done {run} ")));
            let jobs: std::collections::BTreeSet<_> =
                done.map(|line| line.rsplit_once(' ').expect("an attempt").0).collect();
            assert_eq!(jobs.len(), 302, "{run}");
        }
    });
}
