//! Where the jobs of one handler of an entry stand: a bit for each job that has come to its end, and a record only
//! for those that are out of the ordinary. A job on its first attempt needs neither record nor memory of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Attempt, JobIndex};
use crate::message::lease::MAX_DETAILS_BYTES;
use crate::payload::Payload;
use crate::time::Timestamp;

/// The jobs of one handler of the current entry.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobSet {
    /// Which jobs have come to their end: done, or failed for good.
    pub terminal: Bitmap,
    exceptions: BTreeMap<JobIndex, Exception>,
    /// The waiting ones among the exceptions, by when they go out again.
    due: BTreeSet<(Timestamp, JobIndex)>,
    /// The leased ones, by when something has to be done about them.
    lapses: BTreeSet<(Timestamp, JobIndex)>,
}

impl JobSet {
    /// The jobs as they were stored.
    pub fn from_parts(terminal: Bitmap, exceptions: impl IntoIterator<Item = (JobIndex, Exception)>) -> Self {
        let mut jobs = Self { terminal, ..Self::default() };
        for (index, exception) in exceptions {
            jobs.set(index, exception);
        }
        jobs
    }

    /// The record of a job that has one.
    pub fn exception(&self, index: JobIndex) -> Option<&Exception> {
        self.exceptions.get(&index)
    }

    /// Every record, in the order of the jobs.
    pub fn exceptions(&self) -> impl Iterator<Item = (JobIndex, &Exception)> {
        self.exceptions.iter().map(|(&index, exception)| (index, exception))
    }

    /// Puts a record in place of the one that was there.
    pub fn set(&mut self, index: JobIndex, exception: Exception) {
        self.remove(index);
        match exception.state {
            ExceptionState::Waiting(at) => drop(self.due.insert((at, index))),
            ExceptionState::Leased(lease) => drop(self.lapses.insert((lease.lapses_at(), index))),
            ExceptionState::Out | ExceptionState::Failed => {}
        }
        self.exceptions.insert(index, exception);
    }

    /// Takes the record away; whether there was one.
    pub fn remove(&mut self, index: JobIndex) -> bool {
        let Some(exception) = self.exceptions.remove(&index) else { return false };
        match exception.state {
            ExceptionState::Waiting(at) => drop(self.due.remove(&(at, index))),
            ExceptionState::Leased(lease) => drop(self.lapses.remove(&(lease.lapses_at(), index))),
            ExceptionState::Out | ExceptionState::Failed => {}
        }
        true
    }

    /// When the next waiting job goes out again.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|&(at, _)| at)
    }

    /// When the next lease runs out, or reaches the end of what its job may take.
    pub fn next_lapse(&self) -> Option<Timestamp> {
        self.lapses.first().map(|&(at, _)| at)
    }

    /// The leased job whose lease runs out, or whose time is over, before all others; and when.
    pub fn first_lapse(&self) -> Option<(Timestamp, JobIndex, Exception)> {
        let &(at, index) = self.lapses.first()?;
        Some((at, index, self.exceptions[&index].clone()))
    }

    /// The waiting job that is most overdue at `now`.
    pub fn most_overdue(&self, now: Timestamp) -> Option<(JobIndex, Exception)> {
        let &(at, index) = self.due.first()?;
        (at <= now).then(|| (index, self.exceptions[&index].clone()))
    }
}

/// A job that is not simply out on its first attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The number of its last dispatch.
    #[serde(rename = "a")]
    pub attempt: Attempt,
    /// How many tries have failed.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failed_tries: u32,
    /// How many times it was handed back because its message came twice: its worker may have died of it.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    pub redelivered: u32,
    /// When this attempt went out.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// Where it is.
    #[serde(rename = "s")]
    pub state: ExceptionState,
    /// What it had come to, in its own words.
    #[serde(rename = "c", default, deserialize_with = "Payload::present", skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Where a job is that is not simply out on its first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExceptionState {
    /// It goes out again at this time.
    #[serde(rename = "w")]
    Waiting(Timestamp),
    /// It is out.
    #[serde(rename = "o")]
    Out,
    /// It is out, and a worker has a lease on it.
    #[serde(rename = "l")]
    Leased(Lease),
    /// It has failed for good.
    #[serde(rename = "x")]
    Failed,
}

impl ExceptionState {
    /// Whether the job is with a worker, or on its way to one.
    pub const fn is_out(self) -> bool {
        match self {
            Self::Out | Self::Leased(_) => true,
            Self::Waiting(_) | Self::Failed => false,
        }
    }
}

/// A worker's claim on a long job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// When it runs out, unless it is renewed.
    #[serde(rename = "u")]
    pub until: Timestamp,
    /// When the attempt has taken as long as it may.
    #[serde(rename = "t")]
    pub deadline: Timestamp,
    /// How far the job is, in percent, as its handler said.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
}

impl Lease {
    fn lapses_at(self) -> Timestamp {
        self.until.min(self.deadline)
    }
}

impl Exception {
    /// Takes note of what the job has come to, if that is said, and within the bounds.
    pub(super) fn note(&mut self, details: Option<&Payload>) {
        if let Some(details) = details.filter(|details| details.check(MAX_DETAILS_BYTES).is_ok()) {
            self.details = Some(details.clone());
        }
    }

    /// The record of a job on its first attempt, once it needs one.
    pub const fn first(state: ExceptionState) -> Self {
        Self { attempt: 1, failed_tries: 0, redelivered: 0, sent_at: None, state, details: None }
    }
}

/// A set of job indexes, a bit each; grows as it is filled.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    bytes: Vec<u8>,
    /// Byte ranges changed since they were last taken, in the order of change.
    dirty: Vec<(usize, usize)>,
}

impl Bitmap {
    /// The set whose bits are `bytes`, the lowest index in the lowest bit of the first byte.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, dirty: Vec::new() }
    }

    /// The bits, without the zeros at the end.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &self.bytes[..end]
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: JobIndex) -> bool {
        let (byte, mask) = place(index);
        self.bytes.get(byte).is_some_and(|bits| bits & mask != 0)
    }

    /// The lowest index from `from` up to but not including `end` that is not in the set.
    pub fn first_absent(&self, from: JobIndex, end: JobIndex) -> Option<JobIndex> {
        let mut index = from;
        while index < end {
            let (byte, mask) = place(index);
            let bits = self.bytes.get(byte).copied().unwrap_or(0);
            let absent = !bits & !(mask - 1);
            let start = index - index % 8;
            if absent != 0 {
                return Some(start + u64::from(absent.trailing_zeros())).filter(|&index| index < end);
            }
            index = start.saturating_add(8);
        }
        None
    }

    /// Puts `index` in; whether it was not there before.
    pub fn insert(&mut self, index: JobIndex) -> bool {
        let (byte, mask) = place(index);
        if self.bytes.len() <= byte {
            self.bytes.resize(byte + 1, 0);
        }
        let new = self.bytes[byte] & mask == 0;
        if new {
            self.bytes[byte] |= mask;
            self.mark(byte);
        }
        new
    }

    /// Takes `index` out; whether it was there.
    pub fn remove(&mut self, index: JobIndex) -> bool {
        let was_there = self.contains(index);
        if was_there {
            let (byte, mask) = place(index);
            self.bytes[byte] &= !mask;
            self.mark(byte);
        }
        was_there
    }

    fn mark(&mut self, byte: usize) {
        match self.dirty.last_mut() {
            Some((start, end)) if (*start..=*end).contains(&byte) => *end = (*end).max(byte + 1),
            _ => self.dirty.push((byte, byte + 1)),
        }
    }

    /// How many indexes are in the set.
    pub fn count(&self) -> u64 {
        self.bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// The highest index in the set.
    pub fn last(&self) -> Option<JobIndex> {
        let (highest, before) = self.as_bytes().split_last()?;
        Some(before.len() as u64 * 8 + u64::from(highest.ilog2()))
    }

    /// The byte ranges that changed since the last call, as `(offset, bytes)`, in order and apart.
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        /// Two patches cost more than the bytes between them.
        const WORTH_JOINING: usize = 24;
        let mut ranges = std::mem::take(&mut self.dirty);
        ranges.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some(last) if start <= last.1 + WORTH_JOINING => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        joined.into_iter().map(|(start, end)| (start as u64, self.bytes[start..end].to_vec())).collect()
    }
}

impl PartialEq for Bitmap {
    /// Equal when the same indexes are in both; what was changed lately does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Bitmap {}

const fn place(index: JobIndex) -> (usize, u8) {
    ((index / 8) as usize, 1 << (index % 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_is_a_set() {
        let mut bits = Bitmap::default();
        assert!(bits.insert(3) && bits.insert(1_000_000) && !bits.insert(3));
        assert!(bits.contains(3) && bits.contains(1_000_000) && !bits.contains(4) && !bits.contains(9_000_000));
        assert_eq!((bits.count(), bits.last()), (2, Some(1_000_000)));
        assert_eq!((Bitmap::default().last(), Bitmap::from_bytes(vec![0, 3, 0]).last()), (None, Some(9)));
        assert!(bits.insert(9) && bits.remove(9) && !bits.remove(9) && !bits.contains(9) && !bits.remove(u64::MAX));
        assert_eq!(Bitmap::from_bytes(bits.as_bytes().to_vec()), bits);
    }

    #[test]
    fn what_is_absent_is_found() {
        let mut bits = Bitmap::default();
        (0..30).chain(40..50).for_each(|index| assert!(bits.insert(index)));
        for (from, end, expected) in [
            (0, 100, Some(30)),
            (0, 30, None),
            (0, 31, Some(30)),
            (35, 100, Some(35)),
            (40, 50, None),
            (47, 51, Some(50)),
            (9_000_000, u64::MAX, Some(9_000_000)),
            (5, 5, None),
            (7, 3, None),
        ] {
            assert_eq!(bits.first_absent(from, end), expected, "{from}..{end}");
        }
    }

    #[test]
    fn patches_rebuild_the_bitmap() {
        let (mut bits, mut copy) = (Bitmap::default(), Vec::new());
        for round in 0..50_u64 {
            for step in 0..round {
                bits.insert((round * 7919 + step * 31) % 5000);
            }
            for (offset, bytes) in bits.take_dirty() {
                let offset = usize::try_from(offset).unwrap();
                copy.resize(copy.len().max(offset + bytes.len()), 0);
                copy[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        assert_eq!(Bitmap::from_bytes(copy), bits);
        assert!(bits.take_dirty().is_empty());
    }

    #[test]
    fn neighbours_share_a_patch() {
        let mut bits = Bitmap::default();
        (0..800).for_each(|index| assert!(bits.insert(index)));
        assert_eq!(bits.take_dirty(), vec![(0, vec![0xff; 100])]);
        bits.insert(1000);
        bits.insert(90_000);
        assert_eq!(bits.take_dirty(), vec![(125, vec![1]), (11250, vec![1])]);
    }
}
