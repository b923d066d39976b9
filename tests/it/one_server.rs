//! One process with its store on SQLite, and workers over HTTP in processes of their own: it is killed with SIGKILL, and
//! its disk gets full.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::StatusCode;
use serde_json::{Value, json};
use xtask::disk::Disk;
use xtask::tied::{self, Tied};

use crate::processes::{Process, Site, block_on, definition, program, until};

/// A worker that reaches the engine at `url`.
fn worker(site: &Site, url: &str) -> Process {
    site.worker_with(&[("PHASEWORK_URL", url.to_owned())])
}

/// Waits until each run has succeeded, and checks that each of its jobs was done.
async fn all_succeed(site: &Site, url: &str, runs: &[String], jobs: u64) {
    for run in runs {
        let view = site.wait(url, run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
    }
    let ledger = site.ledger();
    for run in runs {
        let done = ledger.keys().filter(|line| line.starts_with(&format!("done {run} ")));
        let done: BTreeSet<_> = done.map(|line| line.rsplit_once(' ').expect("an attempt").0).collect();
        assert_eq!(done.len() as u64, jobs + 2, "{run}");
    }
}

#[test]
fn an_engine_killed_with_9_again_and_again_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let site = Site::on_sqlite(&directory.path().join("state"));
    block_on(async {
        let (mut engine, url) = site.coordinator().await;
        let mut workers = [worker(&site, &url), worker(&site, &url)];
        let mut runs = Vec::new();
        for kill in 1..=4 {
            for n in 0..5 {
                let body = json!({ "definition": definition(100), "key": format!("run {kill} {n}") });
                runs.push(site.submit(&url, &body).await);
            }
            // In the middle of it: some jobs of these are done, most are not.
            until("work is under way", async || site.ledger().len() > (kill - 1) * 1000 + 100).await;
            engine.kill();
            engine = site.spawn_coordinator_at(&url, &[]);
            site.until_ready(&url).await;
        }
        all_succeed(&site, &url, &runs, 100).await;
        assert!(workers.iter_mut().all(Process::terminate), "SIGTERM ends a worker well");
        assert!(engine.terminate(), "SIGTERM ends an engine well");
    });
}

/// What keeps an engine from writing, until it is to be able to again.
enum Shortage {
    /// A small disk, of which this takes a part.
    Ballast(std::path::PathBuf),
    /// A limit on the size of its files, which a quota looks like.
    Limit(u32),
}

impl Shortage {
    fn end(self) {
        match self {
            Self::Ballast(path) => std::fs::remove_file(path).expect("the ballast can be removed"),
            Self::Limit(process) => limit(process, "unlimited"),
        }
    }
}

/// Limits the size that a process may give to files.
fn limit(process: u32, bytes: &str) {
    let process = process.to_string();
    let told = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={bytes}:")]).status();
    assert!(told.expect("prlimit can be run").success());
}

/// Starts an engine with a command that ends in the program; where it logs to is told.
async fn start(site: &Site, mut command: Command, url: &str, state: &Path) -> Tied {
    let log = File::create(site.log_of(url)).expect("a log file");
    command.arg(program("phasework")).args(["serve", "--embedded", "--state"]).arg(state);
    command.args(["--listen", url.trim_start_matches("http://")]).env("PHASEWORK_LOG", "warn");
    let engine = Tied::spawn(command.stdout(Stdio::null()).stderr(log)).expect("the engine starts");
    site.until_ready(url).await;
    engine
}

/// Has the engine at `url` do what does not fit, until it says that its disk is full; then ends the shortage. Nothing that
/// was answered may be lost.
async fn runs_out_of_room(site: &Site, url: &str, shortage: Shortage) {
    let mut workers = [worker(site, url), worker(site, url)];
    let http = reqwest::Client::new();
    let ready = async || {
        let answer = http.get(format!("{url}/health/ready")).send().await.expect("the API answers");
        let status = answer.status();
        (status, answer.text().await.expect("text"))
    };
    let is_full = async || {
        let (status, words) = ready().await;
        status == StatusCode::SERVICE_UNAVAILABLE && words.contains("disk is full")
    };
    let mut runs = Vec::new();
    while !is_full().await {
        let data = "x".repeat(50_000);
        let body = json!({ "definition": definition(20), "data": data, "key": format!("run {}", runs.len()) });
        let submitting = http.post(format!("{url}/v1/runs")).json(&body).send();
        tokio::select! {
            biased;
            answer = submitting => {
                let answer = answer.expect("the API answers");
                if answer.status().is_success() {
                    let answer: Value = answer.json().await.expect("JSON");
                    runs.push(answer["run"].as_str().expect("a run id").to_owned());
                }
            }
            // What is asked for then is answered when there is room, or never.
            () = until("the disk is full", &is_full) => {}
        }
    }
    assert!(!runs.is_empty(), "none was accepted before the disk was full");
    // It can still be asked, says so all the while, and takes nothing.
    let list = site.get(&format!("{url}/v1/runs?limit=1000")).await;
    assert!(list["runs"].as_array().expect("runs").len() >= runs.len());
    let body = json!({ "definition": definition(1).to_string().replace("processes", "another") });
    let refused = http.post(format!("{url}/v1/runs")).json(&body).send().await.expect("the API answers");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    for _ in 0..5 {
        assert!(is_full().await, "{:?}", ready().await);
    }
    shortage.end();
    until("there is room again", async || ready().await.0 == StatusCode::OK).await;
    all_succeed(site, url, &runs, 20).await;
    assert_eq!(ready().await.0, StatusCode::OK);
    assert!(workers.iter_mut().all(Process::terminate), "SIGTERM ends a worker well");
}

#[test]
fn a_full_disk_is_told_and_all_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let disk = match Disk::new(12, directory.path()) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("not run: {why}"),
    };
    let site = Site::on_sqlite(directory.path());
    block_on(async {
        let url = Site::free_url();
        let engine = start(&site, disk.command(), &url, &directory.path().join("state")).await;
        let ballast = disk.of(engine.id()).join("ballast");
        File::create(&ballast).and_then(|mut file| file.write_all(&vec![0; 6 << 20])).expect("there is room for that");
        runs_out_of_room(&site, &url, Shortage::Ballast(ballast)).await;
        assert!(engine.terminate().expect("it can be asked to stop").success());
    });
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_too() {
    let can_limit = Command::new("prlimit").arg("--version").stdout(Stdio::null()).status();
    if !can_limit.is_ok_and(|told| told.success()) {
        return eprintln!("not run: there is no prlimit on this machine");
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let site = Site::on_sqlite(directory.path());
    block_on(async {
        let url = Site::free_url();
        // As with a quota, who writes too much is told so and not killed.
        let mut command = tied::command("/bin/sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"]);
        let state = directory.path().join("state");
        let engine = start(&site, command, &url, &state).await;
        limit(engine.id(), &(1 << 20).to_string());
        runs_out_of_room(&site, &url, Shortage::Limit(engine.id())).await;
        assert!(engine.terminate().expect("it can be asked to stop").success());
    });
}
