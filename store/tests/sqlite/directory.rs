//! Directories and files that are in use, not ours, damaged, full.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use phasework_store::sqlite::{FILE, FILES, SqliteOptions, SqliteStore};
use phasework_store::{Commit, CommitError, RunIndex, Store as _, StoreError};
use phasework_workflows::Payload;
use phasework_workflows::id::{Nonce, RunId, Shard, SystemIds};
use phasework_workflows::run::{Delta, RunState};
use phasework_workflows::time::Timestamp;
use rusqlite::Connection;
use uuid::Uuid;

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&SqliteOptions::new(dir), &SystemIds)
}

/// Why a directory cannot be used.
#[track_caller]
fn refused(dir: &Path) -> String {
    match open(dir) {
        Err(StoreError::Unusable(words)) => words,
        other => panic!("{other:?}"),
    }
}

fn run(n: u64) -> RunId {
    RunId::new(Uuid::from_u64_pair(n, n))
}

fn commit(n: u64, expect: u64, data: Option<Payload>) -> Commit {
    Commit {
        run: run(n),
        expect,
        head: b"head".to_vec(),
        entry: 1,
        handlers: 1,
        delta: Delta::default(),
        data,
        effects: Vec::new(),
        published: Vec::new(),
        index: RunIndex {
            state: RunState::Running,
            created_at: Timestamp::from_millis(1),
            ended_at: None,
            wake_at: None,
            awaits_worker: false,
        },
    }
}

fn ended(n: u64, expect: u64) -> Commit {
    let mut commit = commit(n, expect, None);
    (commit.index.state, commit.index.ended_at) = (RunState::Succeeded, Some(Timestamp::from_millis(5)));
    commit
}

fn large(bytes: usize) -> Payload {
    Payload::from_json(format!("\"{}\"", "x".repeat(bytes))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_is_put_away_whoever_still_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.commit(vec![commit(1, 0, None)]).await.remove(0).unwrap();
    assert!(dir.path().join("phasework.db-wal").exists());
    tokio::join!(store.close(), store.close());
    assert!(!dir.path().join("phasework.db-wal").exists(), "the log was left");
    assert!(matches!(store.load(&[run(1)]).await, Err(StoreError::Unavailable(_))));
    let refused = store.commit(vec![commit(1, 1, None)]).await.remove(0);
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    drop(store);
    assert!(open(dir.path()).unwrap().load(&[run(1)]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn one_at_a_time_has_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    let first = open(&home).unwrap();
    let words = refused(&home);
    for part in [home.to_str().unwrap(), &format!("process {}", std::process::id()), "another directory"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    first.replace_marker(None, "m").await.unwrap();
    let lineage = first.lineage().await.unwrap();
    drop(first);
    let second = open(&home).unwrap();
    assert_eq!(second.marker().await.unwrap().as_deref(), Some("m"));
    assert_eq!(second.lineage().await.unwrap(), lineage, "it is made once");
    let other = open(&dir.path().join("a")).unwrap();
    assert_ne!(other.lineage().await.unwrap(), lineage);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("state");
    let store = open(&home).unwrap();
    store.replace_marker(None, "m").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home), 0o700);
    let files: Vec<_> = fs::read_dir(&home).unwrap().map(|file| file.unwrap().path()).collect();
    let names: BTreeSet<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, FILES.into(), "these and no others");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    // What others made so that it is open stays as it is, and is told.
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = store.check().await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("chmod go="), "{warnings:?}");
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let with = |sql: &str| {
        fs::remove_file(&file).ok();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&file).unwrap();
        let words = refused(dir.path());
        assert!(fs::read(&file).unwrap() == before, "it was written to");
        words
    };
    assert!(with("CREATE TABLE notes (n)").contains("no store of phasework"));
    assert!(with("PRAGMA application_id = 7; CREATE TABLE runs (n)").contains("no store of phasework"));
    assert!(with("PRAGMA user_version = 1; CREATE TABLE runs (n)").contains("no store of phasework"));
    fs::remove_file(&file).unwrap();
    drop(open(dir.path()).unwrap());
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let words = refused(dir.path());
    assert!(words.contains("format 2") && words.contains("update the program"), "{words}");
    fs::write(&file, "all sorts of things, and no tables ".repeat(100)).unwrap();
    assert!(refused(dir.path()).contains("restore it from a backup"));
}

#[test]
fn what_cannot_be_a_directory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(refused(&dir.path().join("file")).contains("cannot make the directory"));
    assert!(refused(&dir.path().join("file/below")).contains("cannot make the directory"));
    fs::create_dir_all(dir.path().join("taken").join(FILE)).unwrap();
    assert!(refused(&dir.path().join("taken")).contains(FILE));
}

#[test]
fn a_store_that_was_only_begun_is_made() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "").unwrap(); // the process died right after
    drop(open(dir.path()).unwrap());
    // The process died while it made the tables.
    let file = dir.path().join(FILE);
    fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("PRAGMA journal_mode = WAL; BEGIN; CREATE TABLE store (n)").unwrap();
    drop(open(dir.path()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { max_bytes: Some(4 << 20), ..SqliteOptions::new(dir.path()) };
    let store = SqliteStore::open(&options, &SystemIds).unwrap();
    let (mut there, mut refused) = (Vec::new(), 0);
    for round in 0..12_u64 {
        // One that never fits among those that may.
        let mut batch: Vec<_> = (0..6).map(|n| commit(10 * round + n, 0, Some(large(80_000)))).collect();
        batch.insert(3, commit(10 * round + 9, 0, Some(large(8 << 20))));
        let results = store.commit(batch.clone()).await;
        for (commit, result) in batch.iter().zip(results) {
            let stored = store.load(&[commit.run]).await.unwrap()[0].is_some();
            let data = store.data(commit.run).await.unwrap().is_some();
            match result {
                Ok(()) => there.push(commit.run),
                Err(CommitError::Store(StoreError::Full(words))) => {
                    assert!(words.contains("disk is full"), "{words}");
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            let expected = there.last() == Some(&commit.run);
            assert_eq!((stored, data), (expected, expected), "half a commit");
        }
    }
    assert!(there.len() > 20 && refused > 20, "{} done, {refused} refused", there.len());
    let put = store.put_inputs(run(1), 1, Nonce(1), 0, vec![(0, vec![large(100_000)])]).await;
    assert!(matches!(put, Err(StoreError::Full(_))), "{put:?}");
    // What makes room is still done, and small things are; that does not make it a disk that is not full.
    for round in 0..2 {
        assert!(matches!(store.check().await, Err(StoreError::Full(_))));
        for n in 0..3 {
            let run = 10 * round + n;
            assert!(store.commit(vec![ended(run, 1)]).await[0].is_ok());
            assert!(store.remove_run(self::run(run), Timestamp::from_millis(6)).await.unwrap());
        }
    }
    assert!(matches!(store.check().await, Err(StoreError::Full(_))), "there is room for six of these");
    for n in [3, 4, 5, 13, 14, 15, 20, 21, 22, 23] {
        assert!(store.commit(vec![ended(n, 1)]).await[0].is_ok());
        assert!(store.remove_run(run(n), Timestamp::from_millis(6)).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(store.check().await.unwrap(), [""; 0], "there is room again, and it is not for having looked");
    }
    assert!(store.commit(vec![commit(1, 0, Some(large(200_000)))]).await[0].is_ok());
    let size = fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert!(size <= 4 << 20, "{size}");
}

#[tokio::test]
async fn what_is_wrong_with_one_call_is_not_wrong_with_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(store.commit(vec![commit(1, 0, None)]).await[0].is_ok());
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("INSERT INTO store VALUES ('queues', 'many')").unwrap();
    assert!(matches!(store.raise_queues(9).await, Err(StoreError::Corrupt(_))));
    let before = changes(&other);
    assert_eq!(store.check().await.unwrap(), [""; 0]);
    assert_eq!(changes(&other), before, "nobody looks for room on a disk that is well");
}

/// A number that changes when anybody else writes.
fn changes(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn files_that_are_moved_or_replaced_are_not_written_to_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (home, away) = (dir.path().join("home"), dir.path().join("away"));
    let store = open(&home).unwrap();
    store.replace_marker(None, "first").await.unwrap();
    let refused = async |part: &str| {
        let told = [store.check().await.err(), store.replace_marker(Some("first"), "lost").await.err()];
        for told in told {
            assert!(matches!(&told, Some(StoreError::Unavailable(words)) if words.contains(part)), "{part}: {told:?}");
        }
    };
    fs::rename(&home, &away).unwrap();
    refused("phasework.db is gone").await;
    fs::create_dir(&home).unwrap();
    fs::write(home.join(FILE), "").unwrap();
    refused("phasework.db is another file").await;
    fs::remove_dir_all(&home).unwrap();
    fs::rename(&away, &home).unwrap();
    assert_eq!(store.check().await.unwrap(), [""; 0], "it is back");
    assert!(store.replace_marker(Some("first"), "second").await.unwrap());
    fs::rename(home.join("phasework.db-wal"), dir.path().join("log")).unwrap();
    let told = store.replace_marker(Some("second"), "lost").await;
    assert!(
        matches!(&told, Err(StoreError::Unavailable(words)) if words.contains("phasework.db-wal is gone")),
        "{told:?}"
    );
    fs::rename(dir.path().join("log"), home.join("phasework.db-wal")).unwrap();
    drop(store);
    assert_eq!(open(&home).unwrap().marker().await.unwrap().as_deref(), Some("second"), "what was told is there");
}

#[tokio::test]
async fn a_log_without_its_file_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let (home, copy) = (dir.path().join("home"), dir.path().join("copy"));
    let store = open(&home).unwrap();
    store.replace_marker(None, "m").await.unwrap();
    fs::create_dir(&copy).unwrap();
    let log = copy.join("phasework.db-wal");
    fs::copy(home.join("phasework.db-wal"), &log).unwrap();
    let length = fs::metadata(&log).unwrap().len();
    assert!(length > 0);
    for _ in 0..2 {
        let words = self::refused(&copy);
        assert!(words.contains("phasework.db-wal without the file"), "{words}");
        fs::write(copy.join(FILE), "").unwrap();
    }
    assert_eq!(fs::metadata(&log).unwrap().len(), length, "it is as it was");
}

/// Where a run lies in the file, by what it holds.
fn find(file: &[u8], text: &str) -> Vec<usize> {
    (0..file.len() - text.len()).filter(|&at| file[at..].starts_with(text.as_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_harms_no_run_that_is_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let marked = |n: u64| Some(Payload::from_json(format!("\"{}\"", format!("<{n}>").repeat(4000))).unwrap());
    let made = store.commit((0..40).map(|n| commit(n, 0, marked(n))).collect()).await;
    assert!(made.iter().all(Result::is_ok));
    drop(store);
    // Of the pages that continue the data of run 7, all lead nowhere now.
    let file = dir.path().join(FILE);
    let mut bytes = fs::read(&file).unwrap();
    let pages = |text| find(&bytes, text).into_iter().map(|at| at / 4096).collect::<BTreeSet<_>>();
    let (of_all, of_this) = (pages("-0000-"), pages("<7><7>"));
    let pages: Vec<_> = of_this.difference(&of_all).copied().collect();
    assert!(pages.len() > 1);
    for page in pages {
        bytes[page * 4096..][..4].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    }
    fs::write(&file, bytes).unwrap();
    let store = open(dir.path()).unwrap();
    assert!(matches!(store.data(run(7)).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.data(run(8)).await.unwrap(), marked(8));
    // In one transaction with others.
    let results = store.commit((0..40).map(|n| commit(n, 1, marked(n + 100))).collect()).await;
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(()) => assert!(n != 7),
            Err(CommitError::Store(StoreError::Corrupt(_))) => assert_eq!(n, 7),
            Err(other) => panic!("run {n}: {other:?}"),
        }
        let version = store.load(&[run(n)]).await.unwrap()[0].as_ref().unwrap().version;
        assert_eq!(version, if n == 7 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn records_that_somebody_spoilt_are_told_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let made = store.commit(vec![commit(1, 0, Some(Payload::null())), commit(2, 0, None)]).await;
    assert!(made.iter().all(Result::is_ok));
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    for (spoil, mend) in [
        ("UPDATE payloads SET payload = '{'", "UPDATE payloads SET payload = 'null'"),
        ("UPDATE payloads SET payload = x'ff00'", "UPDATE payloads SET payload = 'null'"),
    ] {
        other.execute_batch(spoil).unwrap();
        assert!(matches!(store.data(run(1)).await, Err(StoreError::Corrupt(_))), "{spoil}");
        other.execute_batch(mend).unwrap();
    }
    for (spoil, mend) in [
        ("UPDATE runs SET version = -1", "UPDATE runs SET version = 1"),
        ("UPDATE runs SET handlers = 70000", "UPDATE runs SET handlers = 1"),
        ("UPDATE runs SET head = 5", "UPDATE runs SET head = x'00'"),
        ("INSERT INTO bits SELECT id, 3, 0, x'01' FROM runs", "DELETE FROM bits"),
        ("INSERT INTO bits SELECT id, 0, 9000000000000000000, x'01' FROM runs", "DELETE FROM bits"),
        ("INSERT INTO bits SELECT id, 0, -1, x'01' FROM runs", "DELETE FROM bits"),
        ("INSERT INTO exceptions SELECT id, 0, 0, '[]' FROM runs", "DELETE FROM exceptions"),
        ("INSERT INTO outbox SELECT id, 'soon', x'01' FROM runs", "DELETE FROM outbox"),
    ] {
        other.execute_batch(spoil).unwrap();
        assert!(matches!(store.load(&[run(1)]).await, Err(StoreError::Corrupt(_))), "{spoil}");
        other.execute_batch(mend).unwrap();
    }
    assert!(store.load(&[run(1), run(2)]).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn another_program_that_holds_the_file_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(dir.path()).unwrap());
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.replace_marker(None, "m").await }
    });
    assert_eq!(store.marker().await.unwrap(), None, "reading goes on");
    other.execute_batch("COMMIT").unwrap();
    assert!(writing.await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_of_removed_runs_is_used_again_and_the_log_stays_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    let mut first = 0;
    for round in 0..40 {
        for n in 0..4 {
            let inputs = (0..5).map(|page| (page, vec![large(50_000)])).collect();
            store.put_inputs(run(n), 1, Nonce(1), 0, inputs).await.unwrap();
            assert!(store.commit(vec![commit(n, 0, Some(large(100_000)))]).await[0].is_ok());
            assert!(store.commit(vec![ended(n, 1)]).await[0].is_ok());
        }
        for n in 0..4 {
            assert!(store.remove_run(run(n), Timestamp::from_millis(6)).await.unwrap());
        }
        if round == 10 {
            first = size(FILE);
        }
    }
    assert!(first > 1 << 20 && size(FILE) < first * 5 / 4, "{first} bytes became {}", size(FILE));
    let log = size("phasework.db-wal");
    assert!(log < 20 << 20, "a log of {log} bytes");
}

#[tokio::test]
async fn a_store_is_looked_at_while_it_is_used_and_while_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(SqliteStore::look(dir.path()), Err(StoreError::Unusable(words)) if words.contains("no store in")));
    let store = open(dir.path()).unwrap();
    assert!(store.commit(vec![commit(1, 0, Some(large(50_000)))]).await[0].is_ok());
    let (looking, looked) = SqliteStore::look(dir.path()).unwrap();
    assert!((looked.log_bytes > 50_000, looked.format, looked.damage.as_slice()) == (true, 1, &[]), "{looked:?}");
    assert_eq!(looking.run_counts().await.unwrap().live, 1);
    assert!(looking.replace_marker(None, "m").await.is_err(), "who looks writes nothing");
    assert!(store.commit(vec![ended(1, 1)]).await[0].is_ok());
    assert_eq!(looking.run_counts().await.unwrap().ended, 1);
    assert!(store.remove_run(run(1), Timestamp::from_millis(6)).await.unwrap());
    drop((looking, store));
    let (looking, looked) = SqliteStore::look(dir.path()).unwrap();
    assert!(looked.free_bytes > 40_000 && looked.bytes > looked.free_bytes && looked.damage.is_empty(), "{looked:?}");
    drop(looking);
    drop(open(dir.path()).unwrap());
    // A page that is no page of a table.
    let file = dir.path().join(FILE);
    let mut bytes = fs::read(&file).unwrap();
    bytes[4096..8192].fill(0xee);
    fs::write(&file, bytes).unwrap();
    let (_, looked) = SqliteStore::look(dir.path()).unwrap();
    assert!(!looked.damage.is_empty());
}

/// The pages of an index from its first leaf to its last, and whose entries each holds.
fn leaves(dir: &Path, index: &str) -> Vec<u64> {
    let connection = Connection::open(dir.join(FILE)).unwrap();
    let mut find =
        connection.prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path").unwrap();
    find.query_map([index], |row| row.get::<_, i64>(0)).unwrap().map(|page| page.unwrap() as u64).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_of_an_index_harms_no_shard_that_is_elsewhere() {
    const RUNS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let shards = [3, 90, 200].map(Shard);
    let of = |shard: Shard| (1..).map(run).filter(move |run| run.shard() == shard).take(RUNS);
    let runs: Vec<_> = shards.iter().flat_map(|&shard| of(shard)).collect();
    let at = Timestamp::from_millis(5);
    let found_everywhere = |run: RunId| {
        let mut commit = Commit { run, effects: b"e".to_vec(), ..commit(0, 0, None) };
        (commit.index.wake_at, commit.index.awaits_worker) = (Some(at), true);
        commit
    };
    let made = store.commit(runs.iter().map(|&run| found_everywhere(run)).collect()).await;
    assert!(made.iter().all(Result::is_ok));
    drop(store);
    let file = dir.path().join(FILE);
    let mut bytes = fs::read(&file).unwrap();
    for index in ["runs_by_timer", "runs_awaiting", "runs_unpublished"] {
        let leaves = leaves(dir.path(), index);
        assert!(leaves.len() > 6, "{index}");
        bytes[(leaves[0] as usize - 1) * 4096..][..4096].fill(0xee);
    }
    fs::write(&file, bytes).unwrap();
    let store = open(dir.path()).unwrap();
    let of_first = [shards[0]];
    assert!(matches!(store.due(&of_first, at, 9).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.next_due(&of_first).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.unpublished(&of_first, 9).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.awaiting_worker(&of_first, 9).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.next_due(&shards).await.unwrap(), Some(at));
    let all = |runs: Vec<RunId>| runs.into_iter().collect::<BTreeSet<_>>();
    let others: BTreeSet<_> = runs[RUNS..].iter().copied().collect();
    assert_eq!(all(store.due(&shards, at, 5000).await.unwrap()), others);
    assert_eq!(all(store.unpublished(&shards, 5000).await.unwrap()), others);
    assert_eq!(all(store.awaiting_worker(&shards, 5000).await.unwrap()), others);
}

#[tokio::test]
async fn how_many_runs_there_are_is_known_without_counting_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(store.commit((0..40).map(|n| commit(n, 0, None)).collect()).await.iter().all(Result::is_ok));
    assert!(store.commit((0..10).map(|n| ended(n, 1)).collect()).await.iter().all(Result::is_ok));
    assert!(store.remove_run(run(3), Timestamp::from_millis(6)).await.unwrap());
    let counts = async |store: &SqliteStore| {
        let counts = store.run_counts().await.unwrap();
        (counts.live, counts.ended)
    };
    assert_eq!(counts(&store).await, (30, 9));
    // What nobody counts does not show.
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("DELETE FROM runs WHERE is_ended").unwrap();
    assert_eq!(counts(&store).await, (30, 9), "they were counted");
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(counts(&store).await, (30, 0), "a new start counts what was mended by hand");
    other.execute_batch("DELETE FROM store WHERE name IN ('live', 'ended')").unwrap();
    assert_eq!(counts(&store).await, (30, 0), "an earlier program kept no counts");
}
