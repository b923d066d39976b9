//! Finding runs by the indexes of their shards. Many shards are asked in one round trip.

use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::time::Timestamp;
use redis::{Pipeline, Value};

use super::keys::{Key, Keys, ShardKeys};
use super::link::{Lane, Link, Lua, read};
use super::record::run_id;
use crate::{RunCounts, StoreError};

static ENDED: Lua = Lua::new(include_str!("ended.lua"));

/// The most runs that are asked for at once, whatever the caller says.
const MOST: usize = 100_000;

/// Which set of runs that take turns.
pub(super) type Members = fn(&ShardKeys) -> Key<'_>;

fn of_shards(keys: &Keys, shards: &[Shard]) -> Vec<ShardKeys> {
    shards.iter().map(|&shard| keys.shard(shard)).collect()
}

/// Runs whose timer is due, most overdue first.
pub(super) async fn due(
    link: &Link,
    keys: &Keys,
    shards: &[Shard],
    now: Timestamp,
    limit: usize,
) -> Result<Vec<RunId>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut commands = redis::pipe();
    for shard in of_shards(keys, shards) {
        let command = commands.cmd("ZRANGEBYSCORE").arg(shard.timers()).arg("-inf").arg(now.as_millis());
        command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(limit.min(MOST));
    }
    earliest(link.send(Lane::Shared, &commands).await?, limit)
}

/// The runs with the lowest scores of all answers, each of them runs with their scores.
fn earliest(answers: Vec<Value>, limit: usize) -> Result<Vec<RunId>, StoreError> {
    let mut runs = Vec::new();
    for answer in answers {
        for (run, score) in read::<Vec<(String, f64)>>(answer)? {
            runs.push((score, run_id(&run)?));
        }
    }
    runs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    Ok(runs.into_iter().take(limit).map(|(_, run)| run).collect())
}

/// When the next timer is due.
pub(super) async fn next_due(link: &Link, keys: &Keys, shards: &[Shard]) -> Result<Option<Timestamp>, StoreError> {
    let mut commands = redis::pipe();
    for shard in of_shards(keys, shards) {
        commands.cmd("ZRANGE").arg(shard.timers()).arg(0).arg(0).arg("WITHSCORES");
    }
    let mut next: Option<Timestamp> = None;
    for answer in link.send(Lane::Shared, &commands).await? {
        for (_, score) in read::<Vec<(String, f64)>>(answer)? {
            let at = Timestamp::from_millis(score as i64);
            next = Some(next.map_or(at, |next| next.min(at)));
        }
    }
    Ok(next)
}

/// Some members of a set of each shard, by chance, so that all have their turn.
pub(super) async fn some(
    link: &Link,
    keys: &Keys,
    shards: &[Shard],
    limit: usize,
    set: Members,
) -> Result<Vec<Vec<RunId>>, StoreError> {
    let mut commands = redis::pipe();
    for shard in of_shards(keys, shards) {
        commands.cmd("SRANDMEMBER").arg(set(&shard)).arg(limit.min(MOST));
    }
    let mut lists = Vec::new();
    for answer in link.send(Lane::Shared, &commands).await? {
        lists.push(read::<Vec<String>>(answer)?.iter().map(|run| run_id(run)).collect::<Result<_, _>>()?);
    }
    Ok(lists)
}

/// Runs that ended before a time and have nothing in their outbox, oldest first.
pub(super) async fn ended_before(
    link: &Link,
    keys: &Keys,
    shards: &[Shard],
    time: Timestamp,
    limit: usize,
) -> Result<Vec<RunId>, StoreError> {
    let mut calls = Pipeline::with_capacity(shards.len());
    for shard in of_shards(keys, shards) {
        let mut call = ENDED.calling(2);
        call.arg(shard.ended_at()).arg(shard.unpublished()).arg(time.as_millis()).arg(limit.min(MOST));
        calls.add_command(call);
    }
    earliest(link.call(Lane::Pooled, &ENDED, &calls).await?, limit)
}

/// How many runs there are.
pub(super) async fn counts(link: &Link, keys: &Keys) -> Result<RunCounts, StoreError> {
    let mut commands = redis::pipe();
    for shard in Shard::all().map(|shard| keys.shard(shard)) {
        commands.cmd("ZCARD").arg(shard.live()).cmd("ZCARD").arg(shard.ended());
    }
    let mut counts = RunCounts::default();
    let mut answers = link.send(Lane::Pooled, &commands).await?.into_iter();
    while let (Some(live), Some(ended)) = (answers.next(), answers.next()) {
        counts.live += read::<u64>(live)?;
        counts.ended += read::<u64>(ended)?;
    }
    Ok(counts)
}
