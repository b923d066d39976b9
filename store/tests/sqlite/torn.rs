//! What a loss of power leaves, as far as that can be had without one: the files as they are at a chance moment, the end
//! of the log torn off or garbled. Never what is in the file too: before anything of the log is copied into the file, the
//! log is safe on the disk.

use std::fs;
use std::path::Path;

use phasework_store::sqlite::{FILE, SqliteOptions, SqliteStore};
use phasework_workflows::id::SystemIds;

use super::story::{RUNS, Writer, intact, whole};

const MOMENTS: usize = 10;
const TEARS: usize = 4;

const LOG: &str = "phasework.db-wal";
const INDEX: &str = "phasework.db-shm";

/// How many commits there are, made in the order of the runs: those that there are must be the first ones.
async fn commits(dir: &Path) -> u64 {
    let store = SqliteStore::open(&SqliteOptions::new(dir), &SystemIds).unwrap();
    let mut versions = Vec::new();
    for n in 0..RUNS {
        versions.push(whole(&store, n).await);
    }
    let commits = versions.iter().sum();
    let expected: Vec<_> = (0..RUNS).map(|n| (commits + RUNS - 1 - n) / RUNS).collect();
    assert_eq!(versions, expected, "not the first {commits} commits");
    drop(store);
    intact(dir);
    commits
}

/// Files as they were at a moment.
#[derive(Clone)]
struct Moment {
    file: Vec<u8>,
    log: Vec<u8>,
    /// From where on the log can be torn.
    from: usize,
}

impl Moment {
    /// The files of a process that stands still.
    fn of(dir: &Path) -> Self {
        let [file, log, index] = [FILE, LOG, INDEX].map(|name| fs::read(dir.join(name)).unwrap());
        // See "WAL-Index Format" in SQLite's documentation: the salts of the log that the index is of, and how much of
        // that log may be in the file. Where the log on the disk is still an older one, all of it is.
        let copied = u32::from_ne_bytes(index[128..132].try_into().unwrap()) as usize;
        let from = if log[16..24] == index[32..40] { 32 + copied * (24 + 4096) } else { log.len() };
        Self { file, log, from }
    }

    /// The same moment with a log that ends sooner.
    fn torn(&self, from: usize) -> Self {
        Self { file: self.file.clone(), log: self.log[..from].to_vec(), from }
    }

    /// A directory with these files.
    fn put(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), &self.file).unwrap();
        fs::write(dir.path().join(LOG), &self.log).unwrap();
        dir
    }
}

#[tokio::test]
async fn a_loss_of_power_leaves_the_first_commits_and_all_that_were_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = fastrand::Rng::with_seed(11);
    let mut writer = Writer::start(dir.path(), 1);
    let mut torn = 0;
    for _ in 0..MOMENTS {
        assert!(writer.hear(chance.usize(1..40)));
        let told: u64 = writer.versions.iter().sum();
        let moment = writer.frozen(|| Moment::of(dir.path()));
        let there = commits(moment.put().path()).await;
        assert!(there >= told, "{told} commits were told, {there} are there");
        for _ in 0..if moment.from < moment.log.len() { TEARS } else { 0 } {
            let mut moment = moment.clone();
            let from = chance.usize(moment.from..moment.log.len());
            match chance.u8(..3) {
                0 => moment.log.truncate(from),
                1 => moment.log[from..].fill(0),
                _ => moment.log[from..].iter_mut().take(6000).for_each(|byte| *byte ^= chance.u8(1..)),
            }
            let left = commits(moment.put().path()).await;
            assert!(left <= there);
            torn += usize::from(left < there);
        }
    }
    assert!(torn > MOMENTS / 2, "only {torn} times was something torn off that counts");
}

#[tokio::test]
async fn a_log_torn_at_any_byte_of_its_last_commits_leaves_the_first_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path(), 1);
    assert!(writer.hear(3));
    let moment = writer.frozen(|| Moment::of(dir.path()));
    assert_eq!(moment.from, 32, "nothing was copied yet");
    let all = commits(moment.put().path()).await;
    let mut seen = vec![all];
    // Every kind of place in a page of the log, and not each of its thousands of bytes.
    for from in (0..moment.log.len()).rev().step_by(1999) {
        let torn = moment.torn(from);
        // So early that not even the tables were there: a new store is made.
        let left = commits(torn.put().path()).await;
        assert!(left <= seen[seen.len() - 1], "{left} commits are left of a log of {from} bytes");
        seen.push(left);
    }
    seen.dedup();
    assert!(seen.len() as u64 == all + 1 && seen[seen.len() - 1] == 0, "{seen:?}");
}
