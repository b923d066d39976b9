//! What belongs to no run: definitions, workers, dead letters.

use std::sync::Arc;

use phasework_workflows::id::{Revision, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::time::Timestamp;
use redis::Cmd;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::{Key, Keys};
use super::link::{Lane, Link, Lua};
use super::payloads::range;
use super::record::{from_json, to_json};
use crate::{StoreError, StoredWorkflow};

static PUT_WORKFLOW: Lua = Lua::new(include_str!("put_workflow.lua"));
static PUT_DEAD: Lua = Lua::new(include_str!("put_dead.lua"));
static REMOVE_DEAD: Lua = Lua::new(include_str!("remove_dead.lua"));

/// A definition as it is stored, under its revision.
#[derive(Serialize, Deserialize)]
struct Definition {
    name: WorkflowName,
    stored_at: Timestamp,
    definition: String,
}

fn command(name: &str, key: Key<'_>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

/// The records of a hash under these fields; those that are not there are left out.
async fn records<T: DeserializeOwned>(
    link: &Link,
    what: &str,
    key: Key<'_>,
    fields: &[String],
) -> Result<Vec<(String, T)>, StoreError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let mut get = command("HMGET", key);
    get.arg(fields);
    let stored: Vec<Option<Vec<u8>>> = link.ask(Lane::Pooled, get).await?;
    let there = fields.iter().zip(stored).filter_map(|(field, json)| Some((field, json?)));
    there.map(|(field, json)| Ok((field.clone(), from_json(what, &json)?))).collect()
}

/// Stores a definition and makes it the latest of its name, unless there is one and that `stays`; whether it was not stored
/// before.
pub(super) async fn put_workflow(
    link: &Link,
    keys: &Keys,
    workflow: StoredWorkflow,
    stays: bool,
) -> Result<bool, StoreError> {
    let StoredWorkflow { name, revision, definition, stored_at } = workflow;
    let mut call = PUT_WORKFLOW.calling(3);
    call.arg(keys.definitions()).arg(keys.latest()).arg(keys.revisions(&name));
    call.arg(name.as_str()).arg(revision.as_str());
    call.arg(to_json(&Definition { name, stored_at, definition })).arg(u8::from(stays));
    link.call_one(Lane::Pooled, &PUT_WORKFLOW, call).await
}

/// The definitions of these revisions, in their order.
pub(super) async fn workflows(
    link: &Link,
    keys: &Keys,
    revisions: &[String],
) -> Result<Vec<StoredWorkflow>, StoreError> {
    let stored = records::<Definition>(link, "definition", keys.definitions(), revisions).await?;
    let workflow = |(revision, stored): (String, Definition)| StoredWorkflow {
        name: stored.name,
        revision: Revision::from(revision.as_str()),
        definition: stored.definition,
        stored_at: stored.stored_at,
    };
    Ok(stored.into_iter().map(workflow).collect())
}

/// The latest revision of a name.
pub(super) async fn latest(link: &Link, keys: &Keys, name: &WorkflowName) -> Result<Option<String>, StoreError> {
    let mut get = command("HGET", keys.latest());
    get.arg(name.as_str());
    link.ask(Lane::Pooled, get).await
}

/// The latest revision of every name, in the order of the names.
pub(super) async fn all_latest(link: &Link, keys: &Keys) -> Result<Vec<String>, StoreError> {
    let mut latest: Vec<(String, String)> = link.ask(Lane::Pooled, command("HGETALL", keys.latest())).await?;
    latest.sort_unstable();
    Ok(latest.into_iter().map(|(_, revision)| revision).collect())
}

/// The revisions of a name, the latest first.
pub(super) async fn revisions(link: &Link, keys: &Keys, name: &WorkflowName) -> Result<Vec<String>, StoreError> {
    let mut get = command("LRANGE", keys.revisions(name));
    get.arg(0).arg(-1);
    link.ask(Lane::Pooled, get).await
}

pub(super) async fn put_worker(
    link: &Link,
    keys: &Keys,
    worker: &WorkerAnnounced,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut put = command("HSET", keys.workers());
    put.arg(&*worker.worker).arg(to_json(&(worker, at)));
    link.ask::<i64>(Lane::Pooled, put).await.map(drop)
}

/// The workers, in the order of their ids.
pub(super) async fn workers(link: &Link, keys: &Keys) -> Result<Vec<(WorkerAnnounced, Timestamp)>, StoreError> {
    let mut stored: Vec<(String, Vec<u8>)> = link.ask(Lane::Pooled, command("HGETALL", keys.workers())).await?;
    stored.sort_unstable();
    stored.iter().map(|(_, json)| from_json("worker", json)).collect()
}

pub(super) async fn remove_workers(link: &Link, keys: &Keys, workers: &[Arc<str>]) -> Result<(), StoreError> {
    if workers.is_empty() {
        return Ok(());
    }
    let mut remove = command("HDEL", keys.workers());
    for worker in workers {
        remove.arg(&**worker);
    }
    link.ask::<i64>(Lane::Pooled, remove).await.map(drop)
}

pub(super) async fn put_dead(link: &Link, keys: &Keys, letter: &DeadLetter) -> Result<(), StoreError> {
    let mut call = PUT_DEAD.calling(2);
    call.arg(keys.letters()).arg(keys.letter_order());
    call.arg(&*letter.id).arg(to_json(letter)).arg(letter.at.as_millis());
    link.call_one::<i64>(Lane::Pooled, &PUT_DEAD, call).await.map(drop)
}

/// Dead letters, newest first.
pub(super) async fn dead(link: &Link, keys: &Keys, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    let Some((first, last)) = range(skip as u64, limit) else { return Ok(Vec::new()) };
    let mut get = command("ZREVRANGE", keys.letter_order());
    get.arg(first).arg(last);
    let ids: Vec<String> = link.ask(Lane::Pooled, get).await?;
    let letters = records(link, "dead letter", keys.letters(), &ids).await?;
    Ok(letters.into_iter().map(|(_, letter)| letter).collect())
}

pub(super) async fn dead_letter(link: &Link, keys: &Keys, id: &str) -> Result<Option<DeadLetter>, StoreError> {
    let mut letters = records(link, "dead letter", keys.letters(), &[id.to_owned()]).await?;
    Ok(letters.pop().map(|(_, letter)| letter))
}

pub(super) async fn remove_dead(link: &Link, keys: &Keys, id: &str) -> Result<bool, StoreError> {
    let mut call = REMOVE_DEAD.calling(2);
    call.arg(keys.letters()).arg(keys.letter_order()).arg(id);
    link.call_one(Lane::Pooled, &REMOVE_DEAD, call).await
}

pub(super) async fn dead_count(link: &Link, keys: &Keys) -> Result<u64, StoreError> {
    link.ask(Lane::Pooled, command("ZCARD", keys.letter_order())).await
}
