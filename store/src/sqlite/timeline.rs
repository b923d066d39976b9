//! How it is noticed that something was lost: the lineage of the file, the marker that the broker holds too, and for
//! which of both the runs of a shard were recovered.

use std::sync::Arc;

use phasework_workflows::id::Shard;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::catalog::{put_value, value};
use crate::StoreError;

const LINEAGE: &str = "lineage";
const MARKER: &str = "marker";
const QUEUES: &str = "queues";

/// Gives a new store its lineage.
pub(super) fn begin_lineage(connection: &Connection, lineage: &str) -> Result<(), StoreError> {
    put_value(connection, LINEAGE, lineage)
}

/// The lineage: made once, with the file. What is confirmed is on the disk, so it never changes.
pub(super) fn lineage(connection: &Connection) -> Result<Arc<str>, StoreError> {
    let lineage = value(connection, LINEAGE)?;
    lineage.map(Into::into).ok_or_else(|| StoreError::Corrupt("the store has no lineage".to_owned()))
}

pub(super) fn marker(connection: &Connection) -> Result<Option<Arc<str>>, StoreError> {
    Ok(value(connection, MARKER)?.map(Into::into))
}

/// Whether it was replaced.
pub(super) fn replace_marker(connection: &Connection, expect: Option<&str>, marker: &str) -> Result<bool, StoreError> {
    let is_expected = value(connection, MARKER)?.as_deref() == expect;
    if is_expected {
        put_value(connection, MARKER, marker)?;
    }
    Ok(is_expected)
}

/// Raises the highest number of coordinator queues there ever were. It is asked for often, and rarely raised.
pub(super) fn raise_queues(connection: &Connection, queues: u16) -> Result<u16, StoreError> {
    let known = value(connection, QUEUES)?;
    let known = known.map_or(Ok(0), |known| {
        known
            .parse::<u16>()
            .map_err(|_| StoreError::Corrupt(format!("`{known}` stands where a number of queues should")))
    })?;
    if queues > known {
        put_value(connection, QUEUES, &queues.to_string())?;
    }
    Ok(queues.max(known))
}

pub(super) fn epochs(connection: &Connection, shards: &[Shard]) -> Result<Vec<Option<Arc<str>>>, StoreError> {
    let mut find = connection.prepare_cached("SELECT epoch FROM epochs WHERE shard = ?1")?;
    let mut epoch = |shard: &Shard| -> Result<_, StoreError> {
        Ok(find.query_row([shard.0], |row| row.get::<_, String>(0)).optional()?.map(Into::into))
    };
    shards.iter().map(&mut epoch).collect()
}

pub(super) fn put_epoch(connection: &Connection, shards: &[Shard], epoch: &str) -> Result<(), StoreError> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO epochs (shard, epoch) VALUES (?1, ?2)")?;
    for shard in shards {
        put.execute(params![shard.0, epoch])?;
    }
    Ok(())
}
