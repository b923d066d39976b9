//! What is too large for a head: data, results, pages of inputs, outputs, history, failures.

use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, RunId};
use redis::Value;
use serde::de::DeserializeOwned;

use super::keys::{InputsName, Key, Keys};
use super::link::{Lane, Link, Lua, read};
use super::record::{from_json, payload, to_json, unpack_outputs};
use crate::{OutputsPage, StoreError};

static OUTPUTS: Lua = Lua::new(include_str!("outputs.lua"));

/// About how many bytes of inputs go out together.
const INPUTS_AT_ONCE: usize = 4 * 1024 * 1024;

/// A payload that has a key of its own.
pub(super) async fn single(link: &Link, key: Key<'_>) -> Result<Option<Payload>, StoreError> {
    let mut command = redis::cmd("GET");
    command.arg(key);
    link.ask::<Option<Vec<u8>>>(Lane::Shared, command).await?.map(payload).transpose()
}

/// Writes pages of inputs.
pub(super) async fn put_inputs(
    link: &Link,
    keys: &Keys,
    run: RunId,
    name: InputsName,
    pages: Vec<(u64, Vec<Payload>)>,
) -> Result<(), StoreError> {
    let of_run = keys.run(run);
    let mut pages = pages.into_iter().peekable();
    while pages.peek().is_some() {
        let (mut commands, mut size) = (redis::pipe(), 0);
        // First that there are inputs, so that what is written is found when the run is removed.
        commands.cmd("SADD").arg(of_run.all_inputs()).arg(name.to_string());
        while let Some((number, page)) = pages.next_if(|_| size < INPUTS_AT_ONCE) {
            let page = to_json(&page);
            size += page.len();
            commands.cmd("HSET").arg(of_run.inputs(name)).arg(number).arg(page);
        }
        for answer in link.send(Lane::Pooled, &commands).await? {
            read::<Value>(answer)?;
        }
    }
    Ok(())
}

/// A page of inputs.
pub(super) async fn inputs(
    link: &Link,
    keys: &Keys,
    run: RunId,
    name: InputsName,
    page: u64,
) -> Result<Option<Vec<Payload>>, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(keys.run(run).inputs(name)).arg(page);
    let stored: Option<Vec<u8>> = link.ask(Lane::Shared, command).await?;
    stored.map(|page| from_json("page of inputs", &page)).transpose()
}

/// All outputs under a key, in the order of their jobs.
pub(super) async fn outputs(
    link: &Link,
    key: Key<'_>,
    max_bytes: usize,
) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
    let mut call = OUTPUTS.calling(1);
    call.arg(key).arg(max_bytes);
    match link.call_one(Lane::Pooled, &OUTPUTS, call).await? {
        Value::Int(size) => {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            Err(StoreError::TooLarge { what: "outputs", size, limit: max_bytes })
        }
        pages => {
            let mut outputs = Vec::new();
            for page in read::<Vec<Vec<u8>>>(pages)? {
                outputs.extend(unpack_outputs(&page)?);
            }
            outputs.sort_by_key(|(index, _)| *index);
            Ok(outputs)
        }
    }
}

/// How many stored pages of outputs are read at once.
const OUTPUTS_AT_ONCE: usize = 16;

/// Outputs from a stored page on.
pub(super) async fn outputs_page(
    link: &Link,
    keys: &Keys,
    (run, entry, handler): (RunId, EntryNo, u16),
    from: u64,
    bytes: usize,
) -> Result<OutputsPage, StoreError> {
    let of_run = keys.run(run);
    let (mut page, mut size, mut place) = (OutputsPage::default(), 0, from);
    while let Some((first, last)) = range(place, OUTPUTS_AT_ONCE) {
        let mut command = redis::cmd("LRANGE");
        command.arg(of_run.outputs(entry, handler)).arg(first).arg(last);
        let stored: Vec<Vec<u8>> = link.ask(Lane::Pooled, command).await?;
        for outputs in &stored {
            size += outputs.len();
            page.outputs.extend(unpack_outputs(outputs)?);
        }
        place += stored.len() as u64;
        if stored.len() < OUTPUTS_AT_ONCE {
            return Ok(page);
        }
        if size >= bytes {
            page.next = Some(place);
            return Ok(page);
        }
    }
    Ok(page)
}

/// At most `limit` records of a list after the first `skip`.
pub(super) async fn records<T: DeserializeOwned>(
    link: &Link,
    what: &'static str,
    key: Key<'_>,
    skip: u64,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let Some((first, last)) = range(skip, limit) else { return Ok(Vec::new()) };
    let mut command = redis::cmd("LRANGE");
    command.arg(key).arg(first).arg(last);
    let stored: Vec<Vec<u8>> = link.ask(Lane::Pooled, command).await?;
    stored.iter().map(|record| from_json(what, record)).collect()
}

/// The first and last place of a page, as Redis counts them; none when it has no places.
pub(super) fn range(skip: u64, limit: usize) -> Option<(i64, i64)> {
    let first = i64::try_from(skip).ok().filter(|_| limit > 0)?;
    Some((first, first.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX) - 1)))
}
