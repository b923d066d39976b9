//! Whole processes: workers that reach `phasework serve` over HTTP, and coordinators and workers that are killed or stand
//! still meanwhile.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::processes::{Process, Site, block_on, definition, until};

/// The address of a coordinator, as a worker is told it.
fn at(url: &str) -> (&'static str, String) {
    ("PHASEWORK_URL", url.to_owned())
}

/// How often a job was done.
fn done(site: &Site, run: &str, phase: &str, index: u64) -> u64 {
    let begins = format!("done {run} {phase} {index} ");
    site.ledger().iter().filter(|(line, _)| line.starts_with(&begins)).map(|(_, times)| *times).sum()
}

fn all_done(site: &Site, run: &str, jobs: u64) {
    assert!((0..jobs).all(|index| done(site, run, "first", index) >= 1), "{:?}", site.ledger());
    assert!((0..2).all(|index| done(site, run, "second", index) >= 1), "{:?}", site.ledger());
}

#[test]
fn an_engine_that_holds_everything_within_itself_has_workers_of_their_own() {
    block_on(async {
        let site = Site::in_memory();
        let tokens = ["--token", "s3cret", "--worker-token", "w0rker"];
        let (_closed, url) = site.coordinator_with(&tokens).await;
        let mut refused = site.worker_with(&[at(&url), ("PHASEWORK_TOKEN", "other".to_owned())]);
        assert!(!refused.ended().await.success(), "another token opens nothing");
        let mut let_in = site.worker_with(&[at(&url), ("PHASEWORK_TOKEN", "w0rker".to_owned())]);
        let (mut first, url) = site.coordinator().await;
        let mut worker = site.worker_with(&[at(&url)]);
        let run = site.submit(&url, &json!({ "definition": definition(200) })).await;
        assert_eq!(site.wait(&url, &run).await["state"], "succeeded");
        all_done(&site, &run, 200);
        // All it had is gone with it; the worker finds its successor all the same.
        first.kill();
        let _second = site.spawn_coordinator_at(&url, &[]);
        site.until_ready(&url).await;
        let run = site.submit(&url, &json!({ "definition": definition(20) })).await;
        assert_eq!(site.wait(&url, &run).await["state"], "succeeded");
        all_done(&site, &run, 20);
        assert!(worker.terminate() && let_in.terminate(), "SIGTERM ends a worker well");
    });
}

#[test]
fn workers_over_http_survive_a_coordinator_that_is_killed() {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (mut first, url) = site.coordinator().await;
        let mut workers: Vec<Process> = (0..2).map(|_| site.worker_with(&[at(&url)])).collect();
        let mut runs = Vec::new();
        for _ in 0..10 {
            runs.push(site.submit(&url, &json!({ "definition": definition(200) })).await);
        }
        until("work is under way", async || site.ledger().len() > 200).await;
        first.kill();
        let mut again = site.spawn_coordinator_at(&url, &[]);
        for run in &runs {
            site.until_ready(&url).await;
            let view = site.wait(&url, run).await;
            assert_eq!(view["state"], "succeeded", "{view:#}");
            all_done(&site, run, 200);
        }
        assert!(workers.iter_mut().all(Process::terminate), "SIGTERM ends a worker well");
        assert!(again.terminate(), "SIGTERM ends a coordinator well");
    });
}

#[test]
fn a_worker_needs_nothing_but_http() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|version| version.status.success()) {
        eprintln!("not run: there is no python3; `cargo xtask test` brings it");
        return;
    }
    block_on(async {
        let site = Site::in_memory();
        let (_coordinator, url) = site.coordinator().await;
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("examples");
        let mut command = Command::new("python3");
        command.arg("-B").arg(examples.join("python/http_worker.py")).env("PHASEWORK_URL", &url);
        let mut worker = Process::start(&mut command);
        let definition = std::fs::read_to_string(examples.join("word-count.json")).expect("it can be read");
        let definition: Value = serde_json::from_str(&definition).expect("JSON");
        let body =
            json!({ "definition": definition, "data": { "texts": ["to be or not to be", "that is the question"] } });
        let run = site.submit(&url, &body).await;
        let view = site.wait(&url, &run).await;
        assert_eq!((&view["state"], &view["output"]["words"]), (&json!("succeeded"), &json!(10)), "{view:#}");
        assert!(worker.terminate(), "SIGTERM ends a worker well");
        assert_eq!(site.get(&format!("{url}/v1/workers")).await, json!({ "workers": [] }), "it said goodbye");
    });
}

/// A worker that hangs in a job, what becomes of it, and that another does the job.
fn the_job_goes_to_another(happens: impl FnOnce(&mut Process), ends: impl FnOnce(&mut Process)) {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (_coordinator, url) = site.coordinator().await;
        let mut victim = site.worker_with(&[at(&url), ("HANG_AT", "7".to_owned())]);
        let run = site.submit(&url, &json!({ "definition": definition(20) })).await;
        let hanging = format!("start {run} first 7 1");
        until("job 7 hangs", async || site.ledger().contains_key(&hanging)).await;
        happens(&mut victim);
        let mut successor = site.worker_with(&[at(&url)]);
        let view = site.wait(&url, &run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
        all_done(&site, &run, 20);
        assert_eq!(done(&site, &run, "first", 7), 1, "the job that was cut off was done by the successor");
        assert!(!site.ledger().contains_key(&format!("done {run} first 7 1")), "with a new attempt");
        ends(&mut victim);
        assert!(successor.terminate(), "SIGTERM ends a worker well");
    });
}

#[test]
fn a_worker_over_http_killed_with_9_loses_nothing() {
    the_job_goes_to_another(Process::kill, |_| ());
}

#[test]
fn a_worker_over_http_that_stands_still_loses_its_session() {
    the_job_goes_to_another(|victim| victim.signal("STOP"), |victim| victim.signal("CONT"));
}
