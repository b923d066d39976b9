//! Finding runs: by their place in an index, and by their age. Removing one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use super::catalog::{put_value, value};
use super::error::{most, uint};
use crate::{ListedRun, RunCounts, RunFilter, StoreError};

/// A set of runs of which a few are taken at a time, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Members {
    /// Those that have something in their outbox.
    Unpublished,
    /// Those in which a handler waits for a worker.
    Awaiting,
}

pub(super) fn run_id(text: &str) -> Result<RunId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` stands where a run id should")))
}

/// The time and the run of a row.
fn placed(row: &Row<'_>) -> Result<(Timestamp, RunId), StoreError> {
    Ok((Timestamp::from_millis(row.get(0)?), run_id(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?))
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut find = connection.prepare_cached(sql)?;
    let mut rows = find.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Which parts of which shards were told to be damaged: each once, however often it is asked for.
#[derive(Debug, Default)]
pub(super) struct Damage(Mutex<BTreeSet<(&'static str, Shard)>>);

impl Damage {
    fn tell(&self, what: &'static str, shard: Shard, error: &StoreError) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((what, shard)) {
            tracing::error!(shard = shard.0, %error, "{what} of a shard cannot be read; its runs are not found by that");
        }
    }

    /// What a query gives for each of some shards. One that is damaged does not hold up the others.
    fn but_for<T>(
        &self,
        what: &'static str,
        shards: impl IntoIterator<Item = Shard>,
        mut ask: impl FnMut(Shard) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let (mut found, mut damage) = (Vec::new(), None);
        for shard in shards {
            match ask(shard) {
                Err(error @ StoreError::Corrupt(_)) => {
                    self.tell(what, shard, &error);
                    damage = Some(error);
                }
                answer => found.push(answer?),
            }
        }
        match damage {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

fn earliest(mut runs: Vec<(Timestamp, RunId)>, limit: usize) -> Vec<RunId> {
    runs.sort_unstable();
    runs.into_iter().take(limit).map(|(_, run)| run).collect()
}

/// Runs whose timer is due, most overdue first.
pub(super) fn due(
    connection: &Connection,
    damage: &Damage,
    shards: &[Shard],
    now: Timestamp,
    limit: usize,
) -> Result<Vec<RunId>, StoreError> {
    const DUE: &str = "SELECT wake_at, id FROM runs WHERE wake_at IS NOT NULL AND shard = ?1 AND wake_at <= ?2
        ORDER BY wake_at, id LIMIT ?3";
    let due = damage.but_for("the index of timers", shards.iter().copied(), |shard| {
        rows(connection, DUE, params![shard.0, now.as_millis(), most(limit)], placed)
    });
    Ok(earliest(due?.concat(), limit))
}

/// When the next timer is due.
pub(super) fn next_due(
    connection: &Connection,
    damage: &Damage,
    shards: &[Shard],
) -> Result<Option<Timestamp>, StoreError> {
    let mut find =
        connection.prepare_cached("SELECT min(wake_at) FROM runs WHERE wake_at IS NOT NULL AND shard = ?1")?;
    let next = damage.but_for("the index of timers", shards.iter().copied(), |shard| {
        Ok(find.query_row([shard.0], |row| row.get::<_, Option<i64>>(0))?)
    });
    Ok(next?.into_iter().flatten().min().map(Timestamp::from_millis))
}

/// The next `limit` runs of a set after the last one taken, of each shard.
pub(super) fn next_in_turn(
    connection: &Connection,
    damage: &Damage,
    set: Members,
    shards: &[(Shard, Option<RunId>)],
    limit: usize,
) -> Result<Vec<Vec<RunId>>, StoreError> {
    let (after, up_to) = match set {
        Members::Unpublished => (
            "SELECT id FROM runs WHERE unpublished AND shard = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            "SELECT id FROM runs WHERE unpublished AND shard = ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        ),
        Members::Awaiting => (
            "SELECT id FROM runs WHERE awaits_worker AND shard = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            "SELECT id FROM runs WHERE awaits_worker AND shard = ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        ),
    };
    let id = |row: &Row<'_>| run_id(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
    let what = match set {
        Members::Unpublished => "the index of outboxes",
        Members::Awaiting => "the index of what awaits workers",
    };
    let mut last = shards.iter().map(|(_, last)| last.map(|run| run.to_string()).unwrap_or_default());
    damage.but_for(what, shards.iter().map(|(shard, _)| *shard), |shard| {
        let last = last.next().unwrap_or_default();
        let mut found = rows(connection, after, params![shard.0, last, most(limit)], id)?;
        if found.len() < limit && !last.is_empty() {
            found.extend(rows(connection, up_to, params![shard.0, last, most(limit - found.len())], id)?);
        }
        Ok(found)
    })
}

/// Runs that ended before a time and have nothing in their outbox, oldest first.
pub(super) fn ended_before(
    connection: &Connection,
    damage: &Damage,
    shards: &[Shard],
    time: Timestamp,
    limit: usize,
) -> Result<Vec<RunId>, StoreError> {
    const ENDED: &str = "SELECT ended_at, id FROM runs WHERE ended_at IS NOT NULL AND shard = ?1 AND ended_at < ?2
        AND NOT unpublished ORDER BY ended_at, id LIMIT ?3";
    let ended = damage.but_for("the index of ended runs", shards.iter().copied(), |shard| {
        rows(connection, ENDED, params![shard.0, time.as_millis(), most(limit)], placed)
    });
    Ok(earliest(ended?.concat(), limit))
}

/// Live runs of a shard, the one made first first, after one of them.
pub(super) fn live_runs(
    connection: &Connection,
    shard: Shard,
    after: Option<(Timestamp, RunId)>,
    limit: usize,
) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
    const LIVE: &str = "SELECT created_at, id FROM runs WHERE NOT is_ended AND shard = ?1
        AND (created_at, id) > (?2, ?3) ORDER BY created_at, id LIMIT ?4";
    let (at, run) = after.map_or((i64::MIN, String::new()), |(at, run)| (at.as_millis(), run.to_string()));
    rows(connection, LIVE, params![shard.0, at, run, most(limit)], placed)
}

/// Runs, newest first, each with its head.
pub(super) fn list(connection: &Connection, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
    const LIVE: &str = "SELECT created_at, id, head FROM runs WHERE NOT is_ended
        AND (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT ?3";
    const ENDED: &str = "SELECT created_at, id, head FROM runs WHERE is_ended
        AND (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT ?3";
    // After every id.
    let beyond = || (i64::MAX, "g".to_owned());
    let (at, run) = filter.before.map_or_else(beyond, |(at, run)| (at.as_millis(), run.to_string()));
    let read = |row: &Row<'_>| {
        let (created_at, run) = placed(row)?;
        let head = row.get_ref(2)?.as_blob().unwrap_or_default().to_vec(); // where there is something else, it cannot be read
        Ok(ListedRun { run, created_at, head })
    };
    let mut newest = Vec::new();
    for (sql, is_ended) in [(LIVE, false), (ENDED, true)] {
        if filter.ended.is_none_or(|wanted| wanted == is_ended) {
            newest.extend(rows(connection, sql, params![at, run, most(filter.limit)], read)?);
        }
    }
    newest.sort_unstable_by_key(|listed| Reverse((listed.created_at, listed.run)));
    newest.truncate(filter.limit);
    Ok(newest)
}

/// The names of how many live and how many ended runs there are: with each of them counted anew, a list would take
/// longer the more of them there are.
const COUNTS: [(bool, &str); 2] = [(false, "live"), (true, "ended")];

/// How many runs there are.
pub(super) fn counts(connection: &Connection) -> Result<RunCounts, StoreError> {
    let kept = |(is_ended, name)| -> Result<u64, StoreError> {
        match value(connection, name)? {
            Some(text) => {
                text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` stands where a count should")))
            }
            // An earlier program did not keep them.
            None => count(connection, is_ended),
        }
    };
    let [live, ended] = COUNTS;
    Ok(RunCounts { live: kept(live)?, ended: kept(ended)? })
}

fn count(connection: &Connection, is_ended: bool) -> Result<u64, StoreError> {
    const LIVE: &str = "SELECT count(*) FROM runs WHERE NOT is_ended";
    const ENDED: &str = "SELECT count(*) FROM runs WHERE is_ended";
    let mut count = connection.prepare_cached(if is_ended { ENDED } else { LIVE })?;
    uint(count.query_row([], |row| row.get(0))?)
}

/// Counts all runs, and takes down how many there are.
pub(super) fn count_anew(connection: &Connection) -> Result<(), StoreError> {
    for (is_ended, name) in COUNTS {
        let count = count(connection, is_ended)?.to_string();
        if value(connection, name)?.as_deref() != Some(&count) {
            put_value(connection, name, &count)?;
        }
    }
    Ok(())
}

/// Takes down that there are so many more live, or ended, runs.
pub(super) fn count_more(connection: &Connection, is_ended: bool, more: i8) -> Result<(), StoreError> {
    let (_, name) = COUNTS[usize::from(is_ended)];
    connection.prepare_cached("UPDATE store SET value = value + ?2 WHERE name = ?1")?.execute(params![name, more])?;
    Ok(())
}

/// Removes all that is known of a run, if it ended before a time; whether it did.
pub(super) fn remove(connection: &Connection, run: RunId, time: Timestamp) -> Result<bool, StoreError> {
    const TABLES: [&str; 9] =
        ["runs", "bits", "exceptions", "outbox", "payloads", "inputs", "outputs", "failures", "history"];
    let run = run.to_string();
    let mut find = connection.prepare_cached("SELECT is_ended FROM runs WHERE id = ?1 AND ended_at < ?2")?;
    let found = find.query_row(params![run, time.as_millis()], |row| row.get(0)).optional()?;
    if let Some(is_ended) = found {
        count_more(connection, is_ended, -1)?;
        for table in TABLES {
            let key = if table == "runs" { "id" } else { "run" };
            connection.prepare_cached(&format!("DELETE FROM {table} WHERE {key} = ?1"))?.execute([&run])?;
        }
    }
    Ok(found.is_some())
}
