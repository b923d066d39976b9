//! What the checks commit: small drafts of runs and commits, made without chance or clock.

use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, HandlerName, JobIndex, Nonce, Revision, RunId, Shard};
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{
    BitPatch, Delta, Exception, ExceptionChange, ExceptionState, FailureRecord, ForgottenEntry, HistoryEvent,
    HistoryKind, Lease, OutputPage, RunState,
};
use phasework_workflows::time::Timestamp;
use uuid::Uuid;

use crate::{Commit, RunIndex, RunVersion, Store, StoredRun};

/// The nonce of every entry that has one.
pub(super) const NONCE: Nonce = Nonce(0x1f_ffff_ffff_fff1);

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// The `n`-th run; neighbours are of different shards.
pub(super) fn run(n: u64) -> RunId {
    RunId::new(Uuid::from_u128(u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n)))
}

/// `count` runs of one shard.
pub(super) fn runs_of(shard: Shard, count: usize) -> Vec<RunId> {
    (0..).map(run).filter(|run| run.shard() == shard).take(count).collect()
}

pub(super) fn json(text: impl Into<String>) -> Payload {
    Payload::from_json(text.into()).unwrap()
}

/// A commit that changes the head and nothing else.
pub(super) fn commit(run: RunId, expect: RunVersion) -> Commit {
    Commit {
        run,
        expect,
        head: format!("head {}", expect + 1).into_bytes(),
        entry: 1,
        handlers: 1,
        delta: Delta::default(),
        data: None,
        effects: Vec::new(),
        published: Vec::new(),
        index: live(1000),
    }
}

/// The place of a live run without timer.
pub(super) fn live(created_ms: i64) -> RunIndex {
    RunIndex {
        state: RunState::Running,
        created_at: at(created_ms),
        ended_at: None,
        wake_at: None,
        awaits_worker: false,
    }
}

/// The place of an ended run.
pub(super) fn ended(created_ms: i64, ended_ms: i64) -> RunIndex {
    RunIndex { state: RunState::Succeeded, ended_at: Some(at(ended_ms)), ..live(created_ms) }
}

pub(super) fn patch(entry: EntryNo, handler: u16, offset: u64, bytes: &[u8]) -> BitPatch {
    BitPatch { entry, handler, offset, bytes: bytes.to_vec() }
}

pub(super) fn exception(attempt: u32) -> Exception {
    let when = at(i64::from(attempt));
    let (state, sent_at) = match attempt % 4 {
        0 => (ExceptionState::Out, Some(when)),
        1 => (ExceptionState::Waiting(when), None),
        2 => (ExceptionState::Leased(Lease { until: when, deadline: at(9), progress: Some(40) }), Some(when)),
        _ => (ExceptionState::Failed, None),
    };
    let details = attempt.is_multiple_of(5).then(|| Payload::from(serde_json::json!({ "page": attempt })));
    Exception { attempt, failed_tries: attempt / 2, redelivered: attempt / 3, sent_at, state, details }
}

/// Sets the exception of a job to that of `attempt`, or removes it.
pub(super) fn except(entry: EntryNo, handler: u16, index: JobIndex, attempt: Option<u32>) -> ExceptionChange {
    ExceptionChange { entry, handler, index, exception: attempt.map(exception) }
}

pub(super) fn outputs(entry: EntryNo, handler: u16, items: &[(JobIndex, &str)]) -> OutputPage {
    let items = items.iter().map(|&(index, text)| (index, json(text))).collect();
    OutputPage { entry, handler, items }
}

pub(super) fn forgotten(entry: EntryNo, handlers: u16) -> ForgottenEntry {
    ForgottenEntry { entry, nonce: NONCE, handlers }
}

pub(super) fn event(n: u64) -> HistoryEvent {
    let what = if n == 1 {
        HistoryKind::Started { revision: Revision::from("00ff") }
    } else {
        let (handler, version) = (HandlerName::new("Page").unwrap(), semver(1, n));
        HistoryKind::Pinned { entry: n as EntryNo, handler, version }
    };
    HistoryEvent { n, at: at(n as i64), what, actor: (n == 1).then(|| "alice".into()) }
}

fn semver(major: u64, minor: u64) -> phasework_workflows::Version {
    phasework_workflows::Version::new(major, minor, 0)
}

pub(super) fn failure(index: JobIndex) -> FailureRecord {
    let error = JobError::new("panic", format!("job {index}: \"ü\"\n"));
    FailureRecord { entry: 1, handler: 0, index, attempt: 3, error, at: at(5) }
}

/// The run as it is stored; it must exist.
pub(super) async fn loaded(store: &dyn Store, run: RunId) -> StoredRun {
    find(store, run).await.unwrap_or_else(|| panic!("{run} is not there"))
}

/// The run as it is stored.
pub(super) async fn find(store: &dyn Store, run: RunId) -> Option<StoredRun> {
    let mut found = store.load(&[run]).await.unwrap();
    assert_eq!(found.len(), 1, "one answer per run");
    found.pop().flatten()
}

/// Ends a run that was made at this time, and removes it.
pub(super) async fn end_and_remove(store: &dyn Store, run: RunId, created_ms: i64) {
    let version = loaded(store, run).await.version;
    done(store, Commit { index: ended(created_ms, 5), ..commit(run, version) }).await;
    assert!(store.remove_run(run, at(6)).await.unwrap());
}

/// Commits one change, which must succeed.
pub(super) async fn done(store: &dyn Store, commit: Commit) {
    let results = store.commit(vec![commit]).await;
    assert!(matches!(results.as_slice(), [Ok(())]), "{results:?}");
}
