//! Reading runs, and what is too large for a head.

use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, RunId};
use phasework_workflows::run::Exception;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::commit::{CHUNK, text};
use super::error::{int, most, uint};
use crate::fit::MAX_BITMAP_BYTES;
use crate::json::{from_json, payload};
use crate::{OutputsPage, RunVersion, StoreError, StoredRun};

/// The exceptions of one handler.
type Exceptions = Vec<(JobIndex, Exception)>;

/// A run.
pub(super) fn load(connection: &Connection, run: RunId) -> Result<Option<StoredRun>, StoreError> {
    let run = run.to_string();
    let mut find = connection.prepare_cached("SELECT version, handlers, head FROM runs WHERE id = ?1")?;
    let found = find.query_row([&run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u16>(1)?, row.get(2)?)));
    let Some((version, handlers, head)) = found.optional()? else { return Ok(None) };
    let bits = bits(connection, &run, handlers)?;
    let exceptions = exceptions(connection, &run, handlers)?;
    Ok(Some(StoredRun { version: uint(version)?, head, bits, exceptions, outbox: outbox(connection, &run)? }))
}

fn of_handler<'a, T>(lists: &'a mut [T], handler: u16, what: &str) -> Result<&'a mut T, StoreError> {
    let list = lists.get_mut(usize::from(handler));
    list.ok_or_else(|| StoreError::Corrupt(format!("there is {what} of handler {handler}, which is not there")))
}

fn bits(connection: &Connection, run: &str, handlers: u16) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut bitmaps = vec![Vec::new(); usize::from(handlers)];
    let mut find =
        connection.prepare_cached("SELECT handler, chunk, bytes FROM bits WHERE run = ?1 ORDER BY handler, chunk")?;
    let mut rows = find.query([run])?;
    while let Some(row) = rows.next()? {
        let (chunk, bytes) = (uint::<u64>(row.get(1)?)?, row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?);
        let bitmap = of_handler(&mut bitmaps, row.get(0)?, "a bitmap")?;
        let start = chunk.checked_mul(CHUNK).filter(|&start| start < MAX_BITMAP_BYTES);
        let start =
            start.ok_or_else(|| StoreError::Corrupt(format!("there is no place for chunk {chunk} of a bitmap")))?;
        bitmap.resize(start as usize, 0); // what was never written is zeros
        bitmap.extend_from_slice(bytes);
    }
    Ok(bitmaps)
}

fn exceptions(connection: &Connection, run: &str, handlers: u16) -> Result<Vec<Exceptions>, StoreError> {
    let mut lists = vec![Vec::new(); usize::from(handlers)];
    let mut find = connection
        .prepare_cached("SELECT handler, job, exception FROM exceptions WHERE run = ?1 ORDER BY handler, job")?;
    let mut rows = find.query([run])?;
    while let Some(row) = rows.next()? {
        let exception = from_json("exception", row.get::<_, String>(2)?.as_bytes())?;
        of_handler(&mut lists, row.get(0)?, "an exception")?.push((uint(row.get(1)?)?, exception));
    }
    Ok(lists)
}

fn outbox(connection: &Connection, run: &str) -> Result<Vec<(RunVersion, Vec<u8>)>, StoreError> {
    let mut find = connection.prepare_cached("SELECT version, effects FROM outbox WHERE run = ?1 ORDER BY version")?;
    let mut rows = find.query([run])?;
    let mut outbox = Vec::new();
    while let Some(row) = rows.next()? {
        outbox.push((uint(row.get(0)?)?, row.get(1)?));
    }
    Ok(outbox)
}

/// The `data` or the `output` of a run.
pub(super) fn single(connection: &Connection, run: RunId, name: &str) -> Result<Option<Payload>, StoreError> {
    let mut find = connection.prepare_cached("SELECT payload FROM payloads WHERE run = ?1 AND name = ?2")?;
    let found = find.query_row(params![run.to_string(), name], |row| row.get::<_, String>(0)).optional()?;
    found.map(|text| payload(text.into_bytes())).transpose()
}

/// Which inputs.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    pub(super) run: RunId,
    pub(super) entry: EntryNo,
    pub(super) nonce: Nonce,
    pub(super) handler: u16,
}

/// Writes pages of inputs.
pub(super) fn put_inputs(connection: &Connection, of: Inputs, pages: &[(u64, Vec<Payload>)]) -> Result<(), StoreError> {
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO inputs (run, entry, nonce, handler, page, jobs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (page, jobs) in pages {
        put.execute(params![of.run.to_string(), of.entry, int(of.nonce.0)?, of.handler, int(*page)?, text(jobs)?])?;
    }
    Ok(())
}

/// A page of inputs.
pub(super) fn inputs(connection: &Connection, of: Inputs, page: u64) -> Result<Option<Vec<Payload>>, StoreError> {
    let mut find = connection.prepare_cached(
        "SELECT jobs FROM inputs WHERE run = ?1 AND entry = ?2 AND nonce = ?3 AND handler = ?4 AND page = ?5",
    )?;
    let Ok(page) = i64::try_from(page) else { return Ok(None) };
    let key = params![of.run.to_string(), of.entry, int(of.nonce.0)?, of.handler, page];
    let found = find.query_row(key, |row| row.get::<_, String>(0)).optional()?;
    found.map(|jobs| from_json("page of inputs", jobs.as_bytes())).transpose()
}

/// All outputs of a handler of an entry, in the order of their jobs.
pub(super) fn outputs(
    connection: &Connection,
    (run, entry, handler): (RunId, EntryNo, u16),
    max_bytes: usize,
) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
    const OF: &str = "FROM outputs WHERE run = ?1 AND entry = ?2 AND handler = ?3";
    let run = run.to_string();
    let mut sum = connection.prepare_cached(&format!("SELECT coalesce(sum(size), 0) {OF}"))?;
    let size = uint(sum.query_row(params![run, entry, handler], |row| row.get(0))?)?;
    if size > max_bytes {
        return Err(StoreError::TooLarge { what: "outputs", size, limit: max_bytes });
    }
    let mut find = connection.prepare_cached(&format!("SELECT jobs {OF} ORDER BY page"))?;
    let mut rows = find.query(params![run, entry, handler])?;
    let mut outputs: Vec<(JobIndex, Payload)> = Vec::new();
    while let Some(row) = rows.next()? {
        outputs.extend(from_json::<Vec<_>>("page of outputs", row.get::<_, String>(0)?.as_bytes())?);
    }
    outputs.sort_by_key(|(index, _)| *index);
    Ok(outputs)
}

/// Outputs of a handler of an entry from a stored page on.
pub(super) fn outputs_page(
    connection: &Connection,
    (run, entry, handler): (RunId, EntryNo, u16),
    from: u64,
    bytes: usize,
) -> Result<OutputsPage, StoreError> {
    let mut page = OutputsPage::default();
    let Ok(from) = i64::try_from(from) else { return Ok(page) };
    let mut find = connection.prepare_cached(
        "SELECT page, size, jobs FROM outputs WHERE run = ?1 AND entry = ?2 AND handler = ?3 AND page >= ?4 ORDER BY page",
    )?;
    let mut rows = find.query(params![run.to_string(), entry, handler, from])?;
    let mut size = 0;
    while let Some(row) = rows.next()? {
        if size >= bytes && !page.outputs.is_empty() {
            page.next = Some(uint(row.get(0)?)?);
            break;
        }
        size += uint::<usize>(row.get(1)?)?;
        page.outputs.extend(from_json::<Vec<_>>("page of outputs", row.get::<_, String>(2)?.as_bytes())?);
    }
    Ok(page)
}

/// At most `limit` records of a list of a run, from number `first` on.
pub(super) fn records<T: DeserializeOwned>(
    connection: &Connection,
    what: List,
    run: RunId,
    first: u64,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let Ok(first) = i64::try_from(first) else { return Ok(Vec::new()) };
    let (sql, name) = match what {
        List::History => ("SELECT event FROM history WHERE run = ?1 AND n >= ?2 ORDER BY n LIMIT ?3", "event"),
        List::Failures => ("SELECT failure FROM failures WHERE run = ?1 AND n >= ?2 ORDER BY n LIMIT ?3", "failure"),
    };
    let mut find = connection.prepare_cached(sql)?;
    let mut rows = find.query(params![run.to_string(), first, most(limit)])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(from_json(name, row.get::<_, String>(0)?.as_bytes())?);
    }
    Ok(records)
}

/// A list of records of a run.
#[derive(Clone, Copy)]
pub(super) enum List {
    History,
    Failures,
}
