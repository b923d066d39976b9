//! What is written in tests about deaths: of a run at a version all that there is can be told from that version, so that
//! half a commit shows. And the process that writes it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_store::{Commit, RunIndex, Store as _};
use phasework_workflows::Payload;
use phasework_workflows::id::{Nonce, Revision, RunId, SystemIds};
use phasework_workflows::run::{
    BitPatch, Delta, Exception, ExceptionChange, ExceptionState, HistoryEvent, HistoryKind, OutputPage, RunState,
};
use phasework_workflows::time::Timestamp;
use uuid::Uuid;

/// How many runs there are.
pub(crate) const RUNS: u64 = 8;

const DIRECTORY: &str = "PHASEWORK_TEST_WRITES_TO";
const TASKS: &str = "PHASEWORK_TEST_TASKS";

pub(crate) fn run(n: u64) -> RunId {
    RunId::new(Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n))
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms as i64)
}

/// The output of a job; sometimes long, so that it does not fit into a page of the file.
fn output(n: u64, version: u64) -> Payload {
    let length = [10, 300, 6000][((n + version) % 3) as usize];
    Payload::from_json(format!("\"{n}/{version} {}\"", "x".repeat(length))).unwrap()
}

/// The commit that makes `version` of a run. All commits change a little of everything.
fn commit(n: u64, version: u64) -> Commit {
    let exception = Exception {
        attempt: version as u32,
        failed_tries: 1,
        redelivered: 0,
        sent_at: None,
        state: ExceptionState::Waiting(at(version)),
        details: None,
    };
    let change = |index, exception| ExceptionChange { entry: 1, handler: 0, index, exception };
    let delta = Delta {
        bits: vec![BitPatch { entry: 1, handler: 0, offset: version * 40, bytes: version.to_be_bytes().to_vec() }],
        exceptions: vec![change(version, Some(exception)), change(version - 1, None)],
        outputs: vec![OutputPage { entry: 1, handler: 0, items: vec![(version, output(n, version))] }],
        history: vec![HistoryEvent {
            n: version,
            at: at(version),
            what: HistoryKind::Started { revision: Revision::from("00ff") },
            actor: None,
        }],
        ..Delta::default()
    };
    Commit {
        run: run(n),
        expect: version - 1,
        head: format!("run {n} at {version}").into_bytes(),
        entry: 1,
        handlers: 1,
        delta,
        data: (version == 1).then(|| output(n, 0)),
        effects: version.to_string().into_bytes(),
        published: vec![version - 1],
        index: RunIndex {
            state: RunState::Running,
            created_at: at(n),
            ended_at: None,
            wake_at: Some(at(version)),
            awaits_worker: version % 2 == 1,
        },
    }
}

/// The version of a run. All that is stored of it must be of that version.
pub(crate) async fn whole(store: &SqliteStore, n: u64) -> u64 {
    let Some(stored) = store.load(&[run(n)]).await.unwrap().remove(0) else {
        assert_eq!(store.history(run(n), 0, 10).await.unwrap(), []);
        assert_eq!(store.outputs(run(n), 1, 0, 1 << 30).await.unwrap(), []);
        assert_eq!(store.data(run(n)).await.unwrap(), None);
        return 0;
    };
    let version = stored.version;
    assert_eq!(String::from_utf8(stored.head).unwrap(), format!("run {n} at {version}"));
    assert_eq!(stored.outbox, [(version, version.to_string().into_bytes())]);
    assert_eq!(stored.exceptions[0].iter().map(|(job, _)| *job).collect::<Vec<_>>(), [version]);
    let mut bits = vec![0; (version * 40 + 8) as usize];
    for done in 1..=version {
        bits[done as usize * 40..][..8].copy_from_slice(&done.to_be_bytes());
    }
    assert!(stored.bits[0] == bits, "the bitmap of run {n} at {version}");
    let history = store.history(run(n), 0, usize::MAX).await.unwrap();
    assert!(history.iter().map(|event| event.n).eq(1..=version));
    let outputs = store.outputs(run(n), 1, 0, 1 << 30).await.unwrap();
    assert!(outputs.into_iter().eq((1..=version).map(|done| (done, output(n, done)))));
    assert_eq!(store.data(run(n)).await.unwrap(), Some(output(n, 0)));
    let shards = [run(n).shard()];
    assert_eq!(store.next_due(&shards).await.unwrap(), Some(at(version)));
    assert_eq!(store.unpublished(&shards, 9).await.unwrap(), [run(n)]);
    assert_eq!(!store.awaiting_worker(&shards, 9).await.unwrap().is_empty(), version % 2 == 1);
    assert_eq!(store.inputs(run(n), 1, Nonce(version), 0, 0).await.unwrap(), Some(vec![output(n, version)]));
    version
}

/// Whether SQLite itself finds nothing wrong.
pub(crate) fn intact(dir: &Path) {
    let connection = rusqlite::Connection::open(dir.join(phasework_store::sqlite::FILE)).unwrap();
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

/// A process that writes, and tells each commit once the store has told it.
pub(crate) struct Writer {
    process: Child,
    told: BufReader<ChildStdout>,
    /// The highest version of each run that was told.
    pub(crate) versions: [u64; RUNS as usize],
}

impl Writer {
    /// Starts one with that many commits under way at a time.
    pub(crate) fn start(dir: &Path, tasks: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "story::a_process_that_writes", "--nocapture", "--ignored"]);
        command.env(DIRECTORY, dir).env(TASKS, tasks.to_string()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let told = BufReader::new(process.stdout.take().unwrap());
        Self { process, told, versions: [0; RUNS as usize] }
    }

    /// Waits for that many commits, and says whether there are more to come.
    pub(crate) fn hear(&mut self, commits: usize) -> bool {
        let mut heard = 0;
        while heard < commits {
            let mut line = String::new();
            if self.told.read_line(&mut line).unwrap() == 0 {
                return false;
            }
            let mut words = line.split_whitespace();
            if words.next() == Some("told") && line.ends_with('\n') {
                let mut number = || words.next().unwrap().parse::<u64>().unwrap();
                let (n, version) = (number(), number());
                self.versions[n as usize] = version;
                heard += 1;
            }
        }
        true
    }

    /// Looks at something while no thread of the process does anything.
    pub(crate) fn frozen<T>(&self, look: impl FnOnce() -> T) -> T {
        self.signal("-STOP");
        let tasks = format!("/proc/{}/task", self.process.id());
        let stands = |task: std::io::Result<std::fs::DirEntry>| {
            let told = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            told.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().all(stands) {
            std::thread::yield_now();
        }
        let seen = look();
        self.signal("-CONT");
        seen
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as `kill -9` does, and hears what it had told until then.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        assert!(!self.hear(usize::MAX));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }
}

/// What [`Writer`] starts; nothing by itself.
#[tokio::test]
#[ignore = "is started by other tests"]
async fn a_process_that_writes() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let tasks: u64 = std::env::var(TASKS).unwrap().parse().unwrap();
    let store = Arc::new(SqliteStore::open(&SqliteOptions::new(dir), &SystemIds).unwrap());
    let writers = (0..tasks).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut runs: Vec<_> = (0..RUNS).filter(|n| n % tasks == task).collect();
            let loaded = store.load(&runs.iter().map(|&n| run(n)).collect::<Vec<_>>()).await.unwrap();
            let mut versions: Vec<_> = loaded.iter().map(|run| run.as_ref().map_or(0, |run| run.version)).collect();
            // Where an earlier one was killed, so that runs take turns.
            let behind = (0..runs.len()).find(|&place| versions[place] < versions[0]).unwrap_or(0);
            runs.rotate_left(behind);
            versions.rotate_left(behind);
            for turn in 0.. {
                let place = turn % runs.len();
                let (n, version) = (runs[place], versions[place] + 1);
                let inputs = vec![(0, vec![output(n, version)])];
                store.put_inputs(run(n), 1, Nonce(version), 0, inputs).await.unwrap();
                store.commit(vec![commit(n, version)]).await.remove(0).unwrap();
                versions[place] = version;
                let mut out = std::io::stdout().lock();
                out.write_all(format!("told {n} {version}\n").as_bytes()).unwrap();
                out.flush().unwrap();
            }
        })
    });
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
}
