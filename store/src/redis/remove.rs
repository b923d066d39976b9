//! Removing runs. All keys of a run are named from what its record says and go in one script call, which does nothing
//! when the run has changed since.

use phasework_workflows::id::RunId;
use phasework_workflows::time::Timestamp;
use redis::Value;

use super::keys::{InputsName, Key, Keys, RunKeys, ShardKeys};
use super::link::{Lane, Link, Lua, read};
use super::record::{Header, member};
use crate::StoreError;

static REMOVE: Lua = Lua::new(include_str!("remove.lua"));

/// How often a run that changes meanwhile is looked at again.
const TRIES: usize = 20;

/// How many keys one command removes, of a run that has very many.
const KEYS_AT_ONCE: usize = 5000;

/// What there is of a run.
struct Found {
    /// The header of its record; empty when there is none.
    header: Vec<u8>,
    inputs: Vec<InputsName>,
}

/// Removes all that is known of a run, if it ended before a time; whether it did.
pub(super) async fn remove(link: &Link, keys: &Keys, run: RunId, time: Timestamp) -> Result<bool, StoreError> {
    let (of_run, of_shard) = (keys.run(run), keys.shard(run.shard()));
    for _ in 0..TRIES {
        let found = find(link, &of_run).await?;
        // Inputs without a run are of one that is about to be made.
        if found.header.is_empty() {
            return Ok(false);
        }
        let header = Header::read(&found.header)?;
        if header.ended_at.is_none_or(|ended_at| ended_at >= time) {
            return Ok(false);
        }
        if remove_found(link, run, &of_run, &of_shard, &header, &found).await? {
            return Ok(true);
        }
    }
    Err(StoreError::Unavailable(format!("run {run} keeps changing while it is removed")))
}

async fn find(link: &Link, of_run: &RunKeys) -> Result<Found, StoreError> {
    let mut commands = redis::pipe();
    commands.cmd("GETRANGE").arg(of_run.record()).arg(0).arg(40);
    commands.cmd("SMEMBERS").arg(of_run.all_inputs());
    let mut answers = link.send(Lane::Pooled, &commands).await?.into_iter();
    let header = read(answers.next().unwrap_or(Value::Nil))?;
    let names: Vec<String> = read(answers.next().unwrap_or(Value::Nil))?;
    let inputs = names.iter().map(|name| InputsName::read(name)).collect::<Result<_, _>>()?;
    Ok(Found { header, inputs })
}

/// Removes what was found; whether it was still as it was found.
async fn remove_found(
    link: &Link,
    run: RunId,
    of_run: &RunKeys,
    of_shard: &ShardKeys,
    header: &Header,
    found: &Found,
) -> Result<bool, StoreError> {
    let mut others: Vec<Key<'_>> = found.inputs.iter().map(|&name| of_run.inputs(name)).collect();
    others.extend([of_run.data(), of_run.output(), of_run.exceptions(), of_run.outbox()]);
    others.extend([of_run.history(), of_run.failures()]);
    others.extend((0..header.handlers).map(|handler| of_run.bits(handler)));
    for entry in 1..=header.entry {
        others.extend((0..header.width).map(|handler| of_run.outputs(entry, handler)));
    }
    // A run of very many entries would hold up the server for long: its outputs go ahead, in pieces. It has ended, and
    // nothing makes it anew while its record is there.
    while others.len() > KEYS_AT_ONCE {
        let mut command = redis::cmd("UNLINK");
        command.arg(others.split_off(others.len() - KEYS_AT_ONCE));
        link.ask::<i64>(Lane::Pooled, command).await?;
    }
    let mut call = REMOVE.calling(8 + others.len());
    call.arg(of_run.record()).arg(of_run.all_inputs());
    call.arg(of_shard.live()).arg(of_shard.ended()).arg(of_shard.ended_at());
    call.arg(of_shard.timers()).arg(of_shard.awaiting()).arg(of_shard.unpublished());
    call.arg(&others);
    call.arg(&found.header).arg(found.inputs.len()).arg(member(header.created_at, run)).arg(run.to_string());
    link.call_one::<bool>(Lane::Pooled, &REMOVE, call).await
}
