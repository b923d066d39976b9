//! How a run is packed into bytes: the record (a header of fixed size, then the head as it came), exceptions, pages of
//! outputs. Scripts read the header by the same offsets; see `commit.lua`.

use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, RunId};
use phasework_workflows::run::Exception;
use phasework_workflows::time::Timestamp;

pub(super) use crate::json::{from_json, payload, to_json};
use crate::{Commit, RunIndex, RunVersion, StoreError};

/// The length of a record's header: version 8, entry 4, handlers 2, index 25, width 2, all big-endian.
pub(super) const HEADER: usize = 41;

/// What the header of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: RunVersion,
    pub(super) entry: EntryNo,
    pub(super) handlers: u16,
    /// The most handlers that any of its entries had.
    pub(super) width: u16,
    /// When the run was made.
    pub(super) created_at: Timestamp,
    /// When it ended, if it has.
    pub(super) ended_at: Option<Timestamp>,
}

impl Header {
    /// Reads the header of a record.
    pub(super) fn read(record: &[u8]) -> Result<Self, StoreError> {
        let short = || StoreError::Corrupt(format!("a record of {} bytes has no header", record.len()));
        let header: &[u8; HEADER] = record.first_chunk().ok_or_else(short)?;
        let is_ended = header[14] & 0b101 == 0b101;
        Ok(Self {
            version: u64::from_be_bytes(part(header, 0)),
            entry: u32::from_be_bytes(part(header, 8)),
            handlers: u16::from_be_bytes(part(header, 12)),
            created_at: Timestamp::from_millis(i64::from_be_bytes(part(header, 15))),
            ended_at: is_ended.then(|| Timestamp::from_millis(i64::from_be_bytes(part(header, 23)))),
            width: u16::from_be_bytes(part(header, 39)),
        })
    }
}

fn part<const N: usize>(header: &[u8; HEADER], start: usize) -> [u8; N] {
    std::array::from_fn(|n| header[start + n])
}

/// The record that a commit makes. The script raises the width to that of the record before.
pub(super) fn record(commit: &Commit) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + commit.head.len());
    record.extend((commit.expect + 1).to_be_bytes());
    record.extend(commit.entry.to_be_bytes());
    record.extend(commit.handlers.to_be_bytes());
    pack_index(&commit.index, &mut record);
    record.extend(commit.handlers.to_be_bytes());
    record.extend_from_slice(&commit.head);
    record
}

/// The index, so that a script sees at once whether it has changed.
fn pack_index(index: &RunIndex, record: &mut Vec<u8>) {
    let flags = [index.state.is_ended(), index.awaits_worker, index.ended_at.is_some(), index.wake_at.is_some()];
    record.push(flags.iter().enumerate().map(|(bit, &set)| u8::from(set) << bit).sum());
    for at in [Some(index.created_at), index.ended_at, index.wake_at] {
        record.extend(at.map_or(0, Timestamp::as_millis).to_be_bytes());
    }
}

/// How a run stands in the lists: its time in hexadecimal, negative ones first, then its id.
pub(super) fn member(created_at: Timestamp, run: RunId) -> String {
    format!("{:016x}:{run}", created_at.as_millis() as u64 ^ 1 << 63)
}

/// The run that a list's member is of.
pub(super) fn member_run(member: &str) -> Result<RunId, StoreError> {
    run_id(member.split_once(':').map_or("", |(_, run)| run))
}

/// The time that a list's member is of.
pub(super) fn member_time(member: &str) -> Result<Timestamp, StoreError> {
    let time = member.split_once(':').and_then(|(time, _)| u64::from_str_radix(time, 16).ok());
    let time = time.ok_or_else(|| StoreError::Corrupt(format!("a list holds `{member}`, which has no time")))?;
    Ok(Timestamp::from_millis((time ^ 1 << 63) as i64))
}

pub(super) fn run_id(text: &str) -> Result<RunId, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("an index holds `{text}`, which is no run id")))
}

/// The field of an exception.
pub(super) fn exception_field(handler: u16, index: JobIndex) -> Vec<u8> {
    format!("{handler}:{index}").into_bytes()
}

/// Reads exceptions, as fields and values, into a list per handler, in the order of the jobs.
pub(super) fn exceptions(
    stored: Vec<(String, Vec<u8>)>,
    handlers: u16,
) -> Result<Vec<Vec<(JobIndex, Exception)>>, StoreError> {
    let mut exceptions = vec![Vec::new(); usize::from(handlers)];
    for (field, value) in stored {
        let place =
            field.split_once(':').and_then(|(handler, index)| Some((handler.parse().ok()?, index.parse().ok()?)));
        let (handler, index): (usize, JobIndex) =
            place.ok_or_else(|| StoreError::Corrupt(format!("an exception of `{field}`, which is no job")))?;
        let of_handler = exceptions.get_mut(handler);
        let of_handler = of_handler.ok_or_else(|| StoreError::Corrupt(format!("an exception of handler {handler}")))?;
        of_handler.push((index, from_json("exception", &value)?));
    }
    for of_handler in &mut exceptions {
        of_handler.sort_unstable_by_key(|(index, _)| *index);
    }
    Ok(exceptions)
}

/// A page of outputs: the size of the outputs in decimal, a space, and `[[job, output], …]`. The size in front lets a
/// script add up without reading JSON.
pub(super) fn pack_outputs(items: &[(JobIndex, Payload)]) -> Vec<u8> {
    let size: usize = items.iter().map(|(_, output)| output.len()).sum();
    let mut page = format!("{size} ").into_bytes();
    page.extend(to_json(items));
    page
}

/// Reads a page of outputs.
pub(super) fn unpack_outputs(page: &[u8]) -> Result<Vec<(JobIndex, Payload)>, StoreError> {
    let start = page.iter().position(|&byte| byte == b' ').map_or(0, |space| space + 1);
    from_json("page of outputs", &page[start..])
}

#[cfg(test)]
mod tests {
    use phasework_workflows::run::{Delta, RunState};

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_packed() {
        let commit = Commit {
            run: "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b".parse().unwrap(),
            expect: 258,
            head: b"{}".to_vec(),
            entry: 3,
            handlers: 515,
            delta: Delta::default(),
            data: None,
            effects: Vec::new(),
            published: Vec::new(),
            index: RunIndex {
                state: RunState::Failed,
                created_at: Timestamp::from_millis(-1),
                ended_at: Some(Timestamp::from_millis(2)),
                wake_at: None,
                awaits_worker: true,
            },
        };
        let packed = record(&commit);
        let created_at = Timestamp::from_millis(-1);
        assert_eq!(
            Header::read(&packed).unwrap(),
            Header {
                version: 259,
                entry: 3,
                handlers: 515,
                width: 515,
                created_at,
                ended_at: Some(Timestamp::from_millis(2))
            }
        );
        assert_eq!(packed[14], 0b0111);
        assert_eq!(&packed[HEADER..], b"{}");
        assert!(Header::read(&packed[..HEADER - 1]).is_err());
    }

    #[test]
    fn members_sort_by_time_and_id() {
        let run = |n| RunId::new(uuid::Uuid::from_u128(n));
        let times = [(i64::MIN, 9), (-1, 1), (-1, 2), (0, 0), (5, 1), (i64::MAX, 0)];
        let members = times.map(|(ms, n)| member(Timestamp::from_millis(ms), run(n)));
        assert!(members.is_sorted(), "{members:?}");
        assert_eq!(member_run(&members[2]).unwrap(), run(2));
        assert_eq!(member_time(&members[2]).unwrap(), Timestamp::from_millis(-1));
        assert!(member_run("5").is_err());
    }
}
