//! Lists of jobs that handlers make themselves: pages of a list on their way to the owner of its run, and what the owner
//! says to them.

use std::fmt;
use std::sync::Arc;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Body;
use super::event::ReplyTo;
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use crate::payload::Payload;

/// The kind of error that the making of a list is handed back with while another list of the attempt is taken.
pub const OTHER_LIST: &str = "other-list";

/// The job that the making of a list counts as, while it is made.
pub const LISTING: JobIndex = 0;

/// How many jobs a page of a list may have.
pub const MAX_PAGE_JOBS: usize = 65_536;

/// A page of a list. Pages are taken in their order; one that does not go on where the list stands is passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobsListed {
    /// The run.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// The nonce, as the message had it that asked for the list.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// The attempt, as that message had it.
    pub attempt: Attempt,
    /// A number that whoever makes the list has drawn for it. What two workers make of one message never mixes.
    pub list: Nonce,
    /// The number of the first of these jobs in the list.
    pub first: JobIndex,
    /// What each job is to work on. Of a page with more than [`MAX_PAGE_JOBS`], that many and one are read.
    #[serde(deserialize_with = "page")]
    pub items: Vec<Payload>,
    /// Who makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<str>>,
    /// Where the answer goes: the worker's private queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyTo>,
}

/// Reads as much of a page as shows that it is too long: a message has room for millions of jobs that say nothing.
fn page<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<Payload>, D::Error> {
    struct Page;

    impl<'de> Visitor<'de> for Page {
        type Value = Vec<Payload>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut page = Vec::new();
            while page.len() <= MAX_PAGE_JOBS {
                let Some(item) = items.next_element()? else { return Ok(page) };
                page.push(item);
            }
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(page)
        }
    }

    json.deserialize_seq(Page)
}

impl Body for JobsListed {
    const KIND: &'static str = "JobsListed";
}

/// The answer to a [`JobsListed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAnswered {
    /// The run.
    pub run: RunId,
    /// The entry.
    pub entry: EntryNo,
    /// The nonce.
    pub nonce: Nonce,
    /// The handler.
    pub handler: HandlerName,
    /// The attempt.
    pub attempt: Attempt,
    /// The list, as the page named it.
    pub list: Nonce,
    /// How many of its jobs are stored; none when it no longer matters, so that whoever makes it shall stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<u64>,
    /// Whether that is because another list of this attempt is taken: its message came twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
}

impl Body for ListAnswered {
    const KIND: &'static str = "ListAnswered";
}

/// The output of the making of a list: it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The number that was drawn for it.
    pub list: Nonce,
    /// How many jobs it has.
    pub jobs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode;

    #[test]
    fn of_a_page_that_is_too_long_no_more_is_read_than_shows_it() {
        let body = |jobs: usize| {
            let golden: String = include_str!("golden/jobs_listed.json").lines().map(str::trim).collect();
            let (start, end) = (golden.find("\"items\":[").unwrap() + 9, golden.find("],").unwrap());
            format!("{}{}0{}", &golden[..start], "0,".repeat(jobs - 1), &golden[end..])
        };
        for (jobs, read) in [(1, 1), (MAX_PAGE_JOBS, MAX_PAGE_JOBS), (MAX_PAGE_JOBS + 1, MAX_PAGE_JOBS + 1)] {
            assert_eq!(decode::<JobsListed>(body(jobs).as_bytes()).unwrap().items.len(), read);
        }
        let page = decode::<JobsListed>(body(8_000_000).as_bytes()).unwrap();
        assert_eq!(page.items.len(), MAX_PAGE_JOBS + 1);
        assert!(page.items.capacity() <= 2 * MAX_PAGE_JOBS, "{}", page.items.capacity());
    }
}
