//! Commits, and what takes effects out of the outbox again. Everything is checked before the first write.

use phasework_workflows::id::RunId;
use phasework_workflows::run::{BitPatch, Delta};
use phasework_workflows::time::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::error::{int, uint};
use super::find::count_more;
use crate::fit::history_gap;
use crate::json::to_json;
use crate::{Commit, CommitError, RunIndex, RunVersion, StoreError};

/// How many bytes of a bitmap are a row.
pub(super) const CHUNK: u64 = 512;

/// What is stored of a run, without what is large.
struct Row {
    rowid: i64,
    version: i64,
    entry: i64,
    handlers: i64,
    events: i64,
    state: String,
    is_ended: bool,
    ended_at: Option<i64>,
    wake_at: Option<i64>,
    awaits_worker: bool,
    unpublished: bool,
}

const ROW: &str =
    "SELECT rowid, version, entry, handlers, events, state, ended_at, wake_at, awaits_worker, unpublished,
    is_ended FROM runs WHERE id = ?1";

impl Row {
    fn find(connection: &Connection, run: &str) -> Result<Option<Self>, StoreError> {
        let mut find = connection.prepare_cached(ROW)?;
        let found = find.query_row([run], |row| {
            Ok(Self {
                rowid: row.get(0)?,
                version: row.get(1)?,
                entry: row.get(2)?,
                handlers: row.get(3)?,
                events: row.get(4)?,
                state: row.get(5)?,
                ended_at: row.get(6)?,
                wake_at: row.get(7)?,
                awaits_worker: row.get(8)?,
                unpublished: row.get(9)?,
                is_ended: row.get(10)?,
            })
        });
        Ok(found.optional()?)
    }
}

/// Where a commit is written to.
struct Writing<'a> {
    connection: &'a Connection,
    run: String,
    commit: &'a Commit,
}

/// Makes a commit that fits together.
///
/// # Errors
/// Of SQLite. What came of the commit itself is inside.
pub(super) fn commit(connection: &Connection, commit: &Commit) -> Result<Result<(), CommitError>, StoreError> {
    let writing = Writing { connection, run: commit.run.to_string(), commit };
    let old = Row::find(connection, &writing.run)?;
    let version = old.as_ref().map_or(Ok(0), |old| uint::<u64>(old.version))?;
    if version != commit.expect {
        return Ok(Err(CommitError::Conflict));
    }
    let events = old.as_ref().map_or(0, |old| old.events);
    if let Some(first) = commit.delta.history.first()
        && int(first.n)? != events + 1
    {
        return Ok(Err(history_gap(commit.run, first.n).into()));
    }
    writing.write(old.as_ref(), events + commit.delta.history.len() as i64).map(Ok)
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

impl Writing<'_> {
    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    fn write(&self, old: Option<&Row>, events: i64) -> Result<(), StoreError> {
        let commit = self.commit;
        match old {
            Some(old) => self.update(old, events)?,
            None => self.insert(events)?,
        }
        let place = (i64::from(commit.entry), i64::from(commit.handlers));
        if old.is_some_and(|old| (old.entry, old.handlers) != place) {
            self.forget_jobs()?;
        }
        for (name, payload) in [("data", &commit.data), ("output", &commit.delta.output)] {
            if let Some(payload) = payload {
                let mut put =
                    self.statement("INSERT OR REPLACE INTO payloads (run, name, payload) VALUES (?1, ?2, ?3)")?;
                put.execute(params![self.run, name, payload.as_json()])?;
            }
        }
        self.write_jobs()?;
        self.append(&commit.delta)?;
        self.forget(&commit.delta)?;
        self.write_outbox(old)
    }

    fn insert(&self, events: i64) -> Result<(), StoreError> {
        let Commit { run, entry, handlers, head, index, .. } = self.commit;
        let RunIndex { state, created_at, ended_at, wake_at, awaits_worker } = index;
        let mut insert = self.statement(
            "INSERT INTO runs (id, shard, created_at, version, entry, handlers, events, state, is_ended, ended_at, \
             wake_at, awaits_worker, unpublished, head) VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12)",
        )?;
        insert.execute(params![
            self.run,
            run.shard().0,
            created_at.as_millis(),
            entry,
            handlers,
            events,
            state.as_str(),
            state.is_ended(),
            millis(*ended_at),
            millis(*wake_at),
            awaits_worker,
            head,
        ])?;
        count_more(self.connection, state.is_ended(), 1)
    }

    /// Writes the row anew. Of where the run is found only what has changed: each of it costs an index.
    fn update(&self, old: &Row, events: i64) -> Result<(), StoreError> {
        let Commit { expect, entry, handlers, head, index, .. } = self.commit;
        let mut update = self.statement(
            "UPDATE runs SET version = ?2, entry = ?3, handlers = ?4, events = ?5, head = ?6 WHERE rowid = ?1",
        )?;
        update.execute(params![old.rowid, int(expect + 1)?, entry, handlers, events, head])?;
        let (state, ended_at, wake_at) = (index.state, millis(index.ended_at), millis(index.wake_at));
        if (old.state.as_str(), old.ended_at) != (state.as_str(), ended_at) {
            let mut update =
                self.statement("UPDATE runs SET state = ?2, is_ended = ?3, ended_at = ?4 WHERE rowid = ?1")?;
            update.execute(params![old.rowid, state.as_str(), state.is_ended(), ended_at])?;
            if old.is_ended != state.is_ended() {
                count_more(self.connection, old.is_ended, -1)?;
                count_more(self.connection, state.is_ended(), 1)?;
            }
        }
        if old.wake_at != wake_at {
            self.statement("UPDATE runs SET wake_at = ?2 WHERE rowid = ?1")?.execute(params![old.rowid, wake_at])?;
        }
        if old.awaits_worker != index.awaits_worker {
            let mut update = self.statement("UPDATE runs SET awaits_worker = ?2 WHERE rowid = ?1")?;
            update.execute(params![old.rowid, index.awaits_worker])?;
        }
        Ok(())
    }

    fn write_jobs(&self) -> Result<(), StoreError> {
        let Commit { entry, delta, .. } = self.commit;
        for patch in delta.bits.iter().filter(|patch| patch.entry == *entry) {
            self.patch(patch)?;
        }
        for change in delta.exceptions.iter().filter(|change| change.entry == *entry) {
            let (handler, job) = (change.handler, int(change.index)?);
            match &change.exception {
                Some(exception) => {
                    let mut put = self.statement(
                        "INSERT OR REPLACE INTO exceptions (run, handler, job, exception) VALUES (?1, ?2, ?3, ?4)",
                    )?;
                    put.execute(params![self.run, handler, job, text(exception)?])?;
                }
                None => {
                    let mut remove =
                        self.statement("DELETE FROM exceptions WHERE run = ?1 AND handler = ?2 AND job = ?3")?;
                    remove.execute(params![self.run, handler, job])?;
                }
            }
        }
        Ok(())
    }

    /// Overwrites bytes of a bitmap, chunk by chunk.
    fn patch(&self, patch: &BitPatch) -> Result<(), StoreError> {
        let mut get = self.statement("SELECT bytes FROM bits WHERE run = ?1 AND handler = ?2 AND chunk = ?3")?;
        let mut put =
            self.statement("INSERT OR REPLACE INTO bits (run, handler, chunk, bytes) VALUES (?1, ?2, ?3, ?4)")?;
        let (mut at, mut rest) = (patch.offset, patch.bytes.as_slice());
        while !rest.is_empty() {
            let (chunk, start) = (int(at / CHUNK)?, (at % CHUNK) as usize);
            let (now, later) = rest.split_at(rest.len().min(CHUNK as usize - start));
            let stored = get.query_row(params![self.run, patch.handler, chunk], |row| row.get::<_, Vec<u8>>(0));
            let mut bytes = stored.optional()?.unwrap_or_default();
            let end = start + now.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(now);
            put.execute(params![self.run, patch.handler, chunk, bytes])?;
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    fn append(&self, delta: &Delta) -> Result<(), StoreError> {
        for page in delta.outputs.iter().filter(|page| !page.items.is_empty()) {
            let size: usize = page.items.iter().map(|(_, output)| output.len()).sum();
            let mut put = self.statement(
                "INSERT INTO outputs (run, entry, handler, page, size, jobs) VALUES (?1, ?2, ?3, (SELECT \
                 coalesce(max(page) + 1, 0) FROM outputs WHERE run = ?1 AND entry = ?2 AND handler = ?3), ?4, ?5)",
            )?;
            put.execute(params![self.run, page.entry, page.handler, int(size as u64)?, text(&page.items)?])?;
        }
        for failure in &delta.failures {
            let mut put = self.statement(
                "INSERT INTO failures (run, n, failure) \
                 VALUES (?1, (SELECT coalesce(max(n) + 1, 0) FROM failures WHERE run = ?1), ?2)",
            )?;
            put.execute(params![self.run, text(failure)?])?;
        }
        for event in &delta.history {
            let mut put = self.statement("INSERT INTO history (run, n, event) VALUES (?1, ?2, ?3)")?;
            put.execute(params![self.run, int(event.n)?, text(event)?])?;
        }
        Ok(())
    }

    fn forget(&self, delta: &Delta) -> Result<(), StoreError> {
        for gone in &delta.forget_jobs {
            let mut remove = self.statement("DELETE FROM inputs WHERE run = ?1 AND entry <= ?2")?;
            remove.execute(params![self.run, gone.entry])?;
        }
        for gone in &delta.forget_inputs {
            let mut remove =
                self.statement("DELETE FROM inputs WHERE run = ?1 AND entry = ?2 AND nonce = ?3 AND handler = ?4")?;
            remove.execute(params![self.run, gone.entry, int(gone.nonce.0)?, gone.handler])?;
        }
        for gone in &delta.forget_jobs {
            if gone.entry == self.commit.entry {
                self.forget_jobs()?;
            }
        }
        for gone in &delta.forget_outputs {
            let mut remove = self.statement("DELETE FROM outputs WHERE run = ?1 AND entry = ?2")?;
            remove.execute(params![self.run, gone.entry])?;
        }
        Ok(())
    }

    fn forget_jobs(&self) -> Result<(), StoreError> {
        self.statement("DELETE FROM bits WHERE run = ?1")?.execute([&self.run])?;
        self.statement("DELETE FROM exceptions WHERE run = ?1")?.execute([&self.run])?;
        Ok(())
    }

    fn write_outbox(&self, old: Option<&Row>) -> Result<(), StoreError> {
        let Commit { expect, effects, published, .. } = self.commit;
        if !effects.is_empty() {
            let mut put = self.statement("INSERT INTO outbox (run, version, effects) VALUES (?1, ?2, ?3)")?;
            put.execute(params![self.run, int(expect + 1)?, effects])?;
        }
        if !effects.is_empty() || !published.is_empty() {
            take_out(self.connection, &self.run, published, old.is_some_and(|old| old.unpublished))?;
        }
        Ok(())
    }
}

/// Removes versions from an outbox, and notes whether it holds anything then, unless that is what was noted.
fn take_out(connection: &Connection, run: &str, versions: &[RunVersion], noted: bool) -> Result<(), StoreError> {
    let mut remove = connection.prepare_cached("DELETE FROM outbox WHERE run = ?1 AND version = ?2")?;
    for version in versions.iter().filter_map(|&version| i64::try_from(version).ok()) {
        remove.execute(params![run, version])?;
    }
    let mut any = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE run = ?1)")?;
    let unpublished = any.query_row([run], |row| row.get::<_, bool>(0))?;
    if unpublished != noted {
        let mut note = connection.prepare_cached("UPDATE runs SET unpublished = ?2 WHERE id = ?1")?;
        note.execute(params![run, unpublished])?;
    }
    Ok(())
}

/// Takes published effects out of outboxes.
pub(super) fn published(connection: &Connection, runs: &[(RunId, Vec<RunVersion>)]) -> Result<(), StoreError> {
    for (run, versions) in runs {
        let run = run.to_string();
        if let Some(old) = Row::find(connection, &run)? {
            take_out(connection, &run, versions, old.unpublished)?;
        }
    }
    Ok(())
}

/// A record as it is stored.
pub(super) fn text<T: serde::Serialize + ?Sized>(record: &T) -> Result<String, StoreError> {
    String::from_utf8(to_json(record)).map_err(|error| StoreError::Corrupt(error.to_string()))
}
