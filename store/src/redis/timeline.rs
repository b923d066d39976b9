//! How it is noticed that something was lost: which server this is and whose data it goes on with, the marker that the
//! broker holds too, and for which of both the runs of a shard were recovered.

use std::sync::Arc;

use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::time::Timestamp;
use redis::Value;

use super::check::facts;
use super::keys::{Key, Keys};
use super::link::{Lane, Link, Lua, read};
use super::record::{member, member_run, member_time};
use crate::StoreError;

static REPLACE_MARKER: Lua = Lua::new(include_str!("replace_marker.lua"));
static RAISE_QUEUES: Lua = Lua::new(include_str!("raise_queues.lua"));

/// The process that serves, and whose data it goes on with. A server that does not tell is taken to be always the same.
pub(super) async fn lineage(link: &Link) -> Result<Arc<str>, StoreError> {
    let mut commands = redis::pipe();
    commands.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    let mut told = Vec::new();
    for (answer, name) in link.send(Lane::Shared, &commands).await?.into_iter().zip(["run_id", "master_replid"]) {
        match read::<String>(answer) {
            Ok(info) => told.push(facts(&info).remove(name).unwrap_or_else(|| "untold".to_owned())),
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(_) => told.push("untold".to_owned()), // refused
        }
    }
    Ok(told.join("-").into())
}

fn get(key: Key<'_>) -> redis::Cmd {
    let mut get = redis::cmd("GET");
    get.arg(key);
    get
}

pub(super) async fn marker(link: &Link, keys: &Keys) -> Result<Option<Arc<str>>, StoreError> {
    let marker: Option<String> = link.ask(Lane::Shared, get(keys.marker())).await?;
    Ok(marker.map(Into::into))
}

/// Whether it was replaced.
pub(super) async fn replace_marker(
    link: &Link,
    keys: &Keys,
    expect: Option<&str>,
    marker: &str,
) -> Result<bool, StoreError> {
    let mut call = REPLACE_MARKER.calling(1);
    call.arg(keys.marker()).arg(expect.unwrap_or_default()).arg(marker);
    link.call_one(Lane::Shared, &REPLACE_MARKER, call).await
}

pub(super) async fn raise_queues(link: &Link, keys: &Keys, queues: u16) -> Result<u16, StoreError> {
    let mut call = RAISE_QUEUES.calling(1);
    call.arg(keys.queues()).arg(queues);
    link.call_one(Lane::Shared, &RAISE_QUEUES, call).await
}

pub(super) async fn epochs(link: &Link, keys: &Keys, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError> {
    let mut commands = redis::pipe();
    for &shard in shards {
        commands.cmd("GET").arg(keys.shard(shard).epoch());
    }
    let answers = link.send(Lane::Shared, &commands).await?.into_iter();
    answers.map(|answer| Ok(read::<Option<String>>(answer)?.map(Into::into))).collect()
}

pub(super) async fn put_epoch(link: &Link, keys: &Keys, shards: &[Shard], epoch: &str) -> Result<(), StoreError> {
    let mut commands = redis::pipe();
    for &shard in shards {
        commands.cmd("SET").arg(keys.shard(shard).epoch()).arg(epoch);
    }
    link.send(Lane::Shared, &commands).await?.into_iter().try_for_each(|answer| read::<Value>(answer).map(drop))
}

/// Live runs of a shard, the one made first first, after one of them.
pub(super) async fn live_runs(
    link: &Link,
    keys: &Keys,
    shard: Shard,
    after: Option<(Timestamp, RunId)>,
    limit: usize,
) -> Result<Vec<(Timestamp, RunId)>, StoreError> {
    let after = after.map_or("-".to_owned(), |(at, run)| format!("({}", member(at, run)));
    let mut range = redis::cmd("ZRANGEBYLEX");
    range.arg(keys.shard(shard).live()).arg(after).arg("+").arg("LIMIT").arg(0).arg(limit);
    let members: Vec<String> = link.ask(Lane::Pooled, range).await?;
    members.iter().map(|member| Ok((member_time(member)?, member_run(member)?))).collect()
}
