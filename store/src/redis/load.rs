//! Loading runs: one script call per run, all together in one round trip. A run with more handlers than the call named
//! bitmaps for is asked for once more.

use phasework_workflows::id::RunId;
use redis::{Pipeline, Value};

use super::keys::Keys;
use super::link::{Lane, Link, Lua, read};
use super::record::{HEADER, Header, exceptions};
use crate::{StoreError, StoredRun};

static LOAD: Lua = Lua::new(include_str!("load.lua"));

/// How many bitmaps a call names before it is known how many there are.
const BITMAPS: u16 = 4;

/// The runs, in the order asked for.
pub(super) async fn load(link: &Link, keys: &Keys, runs: &[RunId]) -> Result<Vec<Option<StoredRun>>, StoreError> {
    let mut found = vec![None; runs.len()];
    let mut pending: Vec<_> = (0..runs.len()).map(|n| (n, BITMAPS)).collect();
    while !pending.is_empty() {
        let mut calls = Pipeline::with_capacity(pending.len());
        for &(n, bitmaps) in &pending {
            let of_run = keys.run(runs[n]);
            let mut call = LOAD.calling(3 + usize::from(bitmaps));
            call.arg(of_run.record()).arg(of_run.outbox()).arg(of_run.exceptions());
            for handler in 0..bitmaps {
                call.arg(of_run.bits(handler));
            }
            calls.add_command(call);
        }
        let answers = link.call(Lane::Shared, &LOAD, &calls).await?;
        let mut again = Vec::new();
        for ((n, _), answer) in pending.into_iter().zip(answers) {
            match answer {
                Value::Int(handlers) => again.push((n, handlers as u16)),
                Value::Nil => {}
                answer => found[n] = Some(stored(read(answer)?)?),
            }
        }
        pending = again;
    }
    Ok(found)
}

/// A run, out of what `load.lua` answers.
fn stored(answer: Vec<Value>) -> Result<StoredRun, StoreError> {
    let mut answer = answer.into_iter();
    let mut next = || answer.next().unwrap_or(Value::Nil);
    let mut record: Vec<u8> = read(next())?;
    let header = Header::read(&record)?;
    let head = record.split_off(HEADER);
    let mut outbox: Vec<(u64, Vec<u8>)> = read(next())?;
    outbox.sort_unstable_by_key(|(version, _)| *version);
    let exceptions = exceptions(read(next())?, header.handlers)?;
    let bits = (0..header.handlers).map(|_| read(next()).map(without_zeros)).collect::<Result<_, _>>()?;
    Ok(StoredRun { version: header.version, head, bits, exceptions, outbox })
}

/// The bitmap without the zeros at the end, which are there because bitmaps grow ahead of their use.
fn without_zeros(mut bits: Vec<u8>) -> Vec<u8> {
    bits.truncate(bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    bits
}
