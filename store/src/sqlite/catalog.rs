//! What belongs to no run: definitions, workers, dead letters.

use std::sync::Arc;

use phasework_workflows::id::{Revision, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use serde::de::DeserializeOwned;

use super::commit::text;
use super::error::{most, uint};
use crate::json::from_json;
use crate::{StoreError, StoredWorkflow};

/// The records that a query gives, the first column of each row.
fn records<T: DeserializeOwned>(
    connection: &Connection,
    what: &str,
    sql: &str,
    params: impl Params,
) -> Result<Vec<T>, StoreError> {
    let mut find = connection.prepare_cached(sql)?;
    let mut rows = find.query(params)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(from_json(what, row.get::<_, String>(0)?.as_bytes())?);
    }
    Ok(records)
}

/// Stores a definition and makes it the latest of its name; whether it was not stored before.
pub(super) fn put_workflow(connection: &Connection, workflow: &StoredWorkflow) -> Result<bool, StoreError> {
    let is_new = insert(connection, workflow, "coalesce(max(place), 0) + 1")?;
    if !is_new {
        let mut raise = connection.prepare_cached(
            "UPDATE workflows SET place = (SELECT max(place) + 1 FROM workflows WHERE name = ?1) \
             WHERE name = ?1 AND revision = ?2",
        )?;
        raise.execute(params![workflow.name.as_str(), workflow.revision.as_str()])?;
    }
    Ok(is_new)
}

/// Stores a definition if it is not stored, as the oldest of its name; whether it was not.
pub(super) fn keep_workflow(connection: &Connection, workflow: &StoredWorkflow) -> Result<bool, StoreError> {
    insert(connection, workflow, "coalesce(min(place), 1) - 1")
}

/// Stores a definition at a place among those of its name, unless it is there.
fn insert(connection: &Connection, workflow: &StoredWorkflow, place: &str) -> Result<bool, StoreError> {
    let StoredWorkflow { name, revision, definition, stored_at } = workflow;
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO workflows (revision, name, place, stored_at, definition) \
         VALUES (?1, ?2, (SELECT {place} FROM workflows WHERE name = ?2), ?3, ?4) ON CONFLICT (revision) DO NOTHING",
    ))?;
    let inserted = insert.execute(params![revision.as_str(), name.as_str(), stored_at.as_millis(), definition])?;
    Ok(inserted > 0)
}

fn workflow(row: &Row<'_>) -> Result<StoredWorkflow, StoreError> {
    let (name, revision): (String, String) = (row.get(0)?, row.get(1)?);
    let name = WorkflowName::new(&name).map_err(|error| StoreError::Corrupt(format!("definition: {error}")))?;
    let stored_at = Timestamp::from_millis(row.get(2)?);
    Ok(StoredWorkflow { name, revision: Revision::from(revision.as_str()), definition: row.get(3)?, stored_at })
}

/// The definitions that fulfil a condition.
pub(super) fn workflows(
    connection: &Connection,
    condition: &str,
    params: impl Params,
) -> Result<Vec<StoredWorkflow>, StoreError> {
    let sql = format!("SELECT name, revision, stored_at, definition FROM workflows {condition}");
    let mut find = connection.prepare_cached(&sql)?;
    let mut rows = find.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(workflow(row)?);
    }
    Ok(found)
}

pub(super) fn put_worker(connection: &Connection, worker: &WorkerAnnounced, at: Timestamp) -> Result<(), StoreError> {
    let mut put =
        connection.prepare_cached("INSERT OR REPLACE INTO workers (id, seen_at, worker) VALUES (?1, ?2, ?3)")?;
    put.execute(params![&*worker.worker, at.as_millis(), text(worker)?])?;
    Ok(())
}

/// The workers, in the order of their ids.
pub(super) fn workers(connection: &Connection) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError> {
    let mut find = connection.prepare_cached("SELECT worker, seen_at FROM workers ORDER BY id")?;
    let mut rows = find.query([])?;
    let mut workers = Vec::new();
    while let Some(row) = rows.next()? {
        let worker = from_json("worker", row.get::<_, String>(0)?.as_bytes())?;
        workers.push((worker, Timestamp::from_millis(row.get(1)?)));
    }
    Ok(workers)
}

pub(super) fn remove_workers(connection: &Connection, workers: &[Arc<str>]) -> Result<(), StoreError> {
    let mut remove = connection.prepare_cached("DELETE FROM workers WHERE id = ?1")?;
    for worker in workers {
        remove.execute([&**worker])?;
    }
    Ok(())
}

pub(super) fn put_dead(connection: &Connection, letter: &DeadLetter) -> Result<(), StoreError> {
    let mut put = connection
        .prepare_cached("INSERT INTO dead_letters (id, at, letter) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING")?;
    put.execute(params![&*letter.id, letter.at.as_millis(), text(letter)?])?;
    Ok(())
}

/// Dead letters, newest first.
pub(super) fn dead(connection: &Connection, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    const DEAD: &str = "SELECT letter FROM dead_letters ORDER BY at DESC, id DESC LIMIT ?1 OFFSET ?2";
    records(connection, "dead letter", DEAD, params![most(limit), most(skip)])
}

pub(super) fn dead_letter(connection: &Connection, id: &str) -> Result<Option<DeadLetter>, StoreError> {
    Ok(records(connection, "dead letter", "SELECT letter FROM dead_letters WHERE id = ?1", [id])?.pop())
}

pub(super) fn remove_dead(connection: &Connection, id: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id])? > 0)
}

pub(super) fn dead_count(connection: &Connection) -> Result<u64, StoreError> {
    let count = connection.prepare_cached("SELECT count(*) FROM dead_letters")?.query_row([], |row| row.get(0))?;
    uint(count)
}

/// What there is one of, by its name.
pub(super) fn value(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut find = connection.prepare_cached("SELECT value FROM store WHERE name = ?1")?;
    Ok(find.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn put_value(connection: &Connection, name: &str, value: &str) -> Result<(), StoreError> {
    connection.prepare_cached("INSERT OR REPLACE INTO store (name, value) VALUES (?1, ?2)")?.execute([name, value])?;
    Ok(())
}
