//! Whole processes on a real RabbitMQ and Redis: `phasework serve`, and workers, killed with SIGKILL.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use phasework_tests::Setting;
use serde_json::{Value, json};
use xtask::services::free_ports;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process that is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the process starts"))
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the process can be killed");
    }

    /// How it ended, once it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("the process can be asked about") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end by itself");
            tokio::task::yield_now().await;
        }
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let told = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().expect("kill can be run");
        assert!(told.success(), "{told}");
    }

    /// Asks it to stop, as a deploy does; whether it then ends well.
    pub(crate) fn terminate(&mut self) -> bool {
        let told = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill can be run");
        told.success() && self.0.wait().expect("the process ends").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}

/// Real parts, and what was started on them.
pub(crate) struct Site {
    pub(crate) broker: String,
    pub(crate) store: String,
    pub(crate) prefix: String,
    directory: tempfile::TempDir,
    http: reqwest::Client,
}

/// A program of this workspace, built beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("this program has a path");
    let path = me.parent().and_then(Path::parent).expect("tests lie in deps").join(name);
    assert!(path.exists(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

impl Site {
    pub(crate) fn new() -> Option<Self> {
        let Some(Setting::Real { broker, store }) = Setting::real() else {
            eprintln!("not run: no real parts were started; `cargo xtask test` does");
            return None;
        };
        Some(Self::on(broker, store))
    }

    /// Parts that each coordinator holds within itself.
    pub(crate) fn in_memory() -> Self {
        Self::on("memory:".to_owned(), "memory:".to_owned())
    }

    /// A broker that the coordinator holds within itself, and a store in a directory.
    pub(crate) fn on_sqlite(directory: &Path) -> Self {
        Self::on("memory:".to_owned(), format!("sqlite:{}", directory.display()))
    }

    /// An address that nobody listens at.
    pub(crate) fn free_url() -> String {
        let [port] = free_ports().expect("a free port");
        format!("http://127.0.0.1:{port}")
    }

    fn on(broker: String, store: String) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let name = directory.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        // Whoever was first decides the TLS provider; there is only this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { broker, store, prefix: format!("test-{name}"), directory, http: reqwest::Client::new() }
    }

    fn ledger_path(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }

    /// Starts a coordinator on a free port; returns it with its address once it answers.
    pub(crate) async fn coordinator(&self) -> (Process, String) {
        self.coordinator_with(&[]).await
    }

    /// The same, with further arguments.
    pub(crate) async fn coordinator_with(&self, arguments: &[&str]) -> (Process, String) {
        let (process, url) = self.spawn_coordinator(arguments);
        self.until_ready(&url).await;
        (process, url)
    }

    pub(crate) async fn until_ready(&self, url: &str) {
        let ready = format!("{url}/health/ready");
        until("the coordinator is ready", async || {
            self.http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Starts a coordinator, and waits for nothing.
    pub(crate) fn spawn_coordinator(&self, arguments: &[&str]) -> (Process, String) {
        let url = Self::free_url();
        (self.spawn_coordinator_at(&url, arguments), url)
    }

    /// Starts a coordinator at an address, and waits for nothing.
    pub(crate) fn spawn_coordinator_at(&self, url: &str, arguments: &[&str]) -> Process {
        let log = std::fs::File::create(self.log_of(url)).expect("a log file");
        let child = Command::new(program("phasework"))
            .args(["serve", "--broker", &self.broker, "--store", &self.store])
            .args(["--prefix", &self.prefix, "--listen", url.trim_start_matches("http://")])
            .args(arguments)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the coordinator starts");
        Process(child)
    }

    /// What the coordinator at `url` writes goes there.
    pub(crate) fn log_of(&self, url: &str) -> PathBuf {
        let address = url.trim_start_matches("http://").replace(':', "-");
        self.directory.path().join(format!("{address}.log"))
    }

    pub(crate) fn worker(&self, hang_at: Option<u64>) -> Process {
        self.worker_with(hang_at.map(|index| ("HANG_AT", index.to_string())).as_slice())
    }

    /// What workers write to standard error goes to the end of this.
    fn workers_log(&self) -> std::fs::File {
        let path = self.directory.path().join("workers.log");
        std::fs::OpenOptions::new().create(true).append(true).read(true).open(path).expect("a log file")
    }

    pub(crate) fn worker_with(&self, variables: &[(&str, String)]) -> Process {
        let mut command = Command::new(program("ledger-worker"));
        command
            .env("PHASEWORK_URL", &self.broker)
            .env("PHASEWORK_PREFIX", &self.prefix)
            .env("LEDGER", self.ledger_path())
            .stdout(Stdio::null())
            .stderr(self.workers_log())
            .envs(variables.iter().map(|(name, value)| (name, value)));
        Process(command.spawn().expect("the worker starts"))
    }

    /// The lines of the ledger, each with how often it stands there.
    pub(crate) fn ledger(&self) -> BTreeMap<String, u64> {
        let mut lines = BTreeMap::new();
        for line in std::fs::read_to_string(self.ledger_path()).unwrap_or_default().lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    }

    pub(crate) async fn submit(&self, url: &str, body: &Value) -> String {
        let answer = self.http.post(format!("{url}/v1/runs")).json(body).send().await.expect("the API answers");
        let answer: Value = answer.error_for_status().expect("it is accepted").json().await.expect("JSON");
        answer["run"].as_str().expect("a run id").to_owned()
    }

    /// What the API answers.
    pub(crate) async fn get(&self, url: &str) -> Value {
        let answer = self.http.get(url).send().await.expect("the API answers");
        answer.error_for_status().expect("it is there").json().await.expect("JSON")
    }

    /// How many queues a coordinator says that it owns.
    pub(crate) async fn owned(&self, url: &str) -> u64 {
        let answer = self.http.get(format!("{url}/metrics")).send().await.expect("the API answers");
        let metrics = answer.text().await.expect("text");
        let line = metrics.lines().find_map(|line| line.strip_prefix("phasework_coordinator_queues_owned "));
        line.and_then(|count| count.trim().parse::<f64>().ok()).map_or(0, |count| count as u64)
    }

    /// The run, once it has ended.
    pub(crate) async fn wait(&self, url: &str, run: &str) -> Value {
        let started = Instant::now();
        loop {
            let asked = self.http.get(format!("{url}/v1/runs/{run}?wait=10s")).send().await.expect("the API answers");
            let view: Value = asked.error_for_status().expect("the run is there").json().await.expect("JSON");
            if view["state"] != "running" {
                return view;
            }
            assert!(started.elapsed() < PATIENCE, "stuck: {view:#}");
        }
    }
}

/// Looks again and again until `holds`.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        // What is looked at sends no word when it changes, and needs the processor more than who looks.
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(crate) fn block_on(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(scenario);
}

pub(crate) fn definition(jobs: u64) -> Value {
    json!({
        "workflow": "processes",
        "phases": {
            "first": { "is_initial": true, "transitions_to": "second",
                       "handlers": [{ "name": "Note", "for_each": jobs }] },
            "second": { "transitions_to": "end", "handlers": [{ "name": "Note", "for_each": 2 }] },
            "end": { "is_final": true }
        }
    })
}

#[test]
fn a_worker_killed_with_9_in_mid_job_loses_nothing() {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (_coordinator, url) = site.coordinator().await;
        let mut victim = site.worker(Some(7));
        let run = site.submit(&url, &json!({ "definition": definition(50) })).await;
        let hanging = format!("start {run} first 7 1");
        until("job 7 hangs", async || site.ledger().contains_key(&hanging)).await;
        victim.kill();
        let mut successor = site.worker(None);
        let view = site.wait(&url, &run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
        let ledger = site.ledger();
        let done = |phase: &str, index: u64| {
            let begins = format!("done {run} {phase} {index} ");
            ledger.iter().filter(|(line, _)| line.starts_with(&begins)).map(|(_, times)| *times).sum::<u64>()
        };
        assert!((0..50).all(|index| done("first", index) >= 1) && (0..2).all(|index| done("second", index) >= 1));
        assert_eq!(done("first", 7), 1, "the job that was cut off was done by the successor");
        assert!(!ledger.contains_key(&format!("done {run} first 7 1")), "with a new attempt");
        assert!(successor.terminate(), "SIGTERM ends a worker well");
    });
}

#[test]
fn a_worker_whose_runtime_is_blocked_ends_and_another_one_does_its_job() {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (_coordinator, url) = site.coordinator().await;
        let blocked = [("BLOCK_AT", "1".to_owned()), ("PHASEWORK_WATCHDOG", "1s".to_owned())];
        let mut blocked = site.worker_with(&blocked);
        let run = site.submit(&url, &json!({ "definition": definition(2) })).await;
        let status = blocked.ended().await;
        let mut said = String::new();
        site.workers_log().read_to_string(&mut said).expect("text");
        assert_eq!(status.code(), Some(70), "{said}");
        assert!(said.contains("nothing has run for 1s in this worker"), "{said}");
        let mut successor = site.worker(None);
        let view = site.wait(&url, &run).await;
        assert_eq!(view["state"], "succeeded", "{view:#}");
        let ledger = site.ledger();
        assert!(ledger.contains_key(&format!("start {run} first 1 1")), "{ledger:?}");
        assert!(ledger.contains_key(&format!("done {run} first 1 2")), "{ledger:?}");
        assert!(successor.terminate(), "SIGTERM ends a worker well");
    });
}

#[test]
fn coordinators_killed_with_9_one_after_the_other_lose_nothing() {
    let Some(site) = Site::new() else { return };
    block_on(async {
        let (mut first, url) = site.coordinator().await;
        let _workers = [site.worker(None), site.worker(None)];
        let mut runs = Vec::new();
        for n in 0..20 {
            let body = json!({ "definition": definition(200), "key": format!("run {n}") });
            runs.push(site.submit(&url, &body).await);
        }
        // In the middle of it: some jobs are done, most are not.
        until("work is under way", async || site.ledger().len() > 200).await;
        let (mut second, url) = site.coordinator().await;
        first.kill();
        until("work goes on", async || site.ledger().len() > 2000).await;
        let (mut third, last) = site.coordinator().await;
        second.kill();
        assert_ne!(url, last);
        for run in &runs {
            let view = site.wait(&last, run).await;
            assert_eq!(view["state"], "succeeded", "{view:#}");
        }
        let ledger = site.ledger();
        for run in &runs {
            let done = ledger.keys().filter(|line| line.starts_with(&format!("done {run} ")));
            let jobs: std::collections::BTreeSet<_> =
                done.map(|line| line.rsplit_once(' ').expect("an attempt").0).collect();
            assert_eq!(jobs.len(), 202, "{run}");
        }
        assert!(third.terminate(), "SIGTERM ends a coordinator well");
    });
}
