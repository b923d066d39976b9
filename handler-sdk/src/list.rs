//! The list of jobs that a handler makes itself: takes what its `enumerate` gives, page by page, and sends each page to
//! the owner of the run. Only so many pages are under way that the owner has not stored, whatever the list comes to: who
//! lists faster than that waits. A page that is not answered is sent again; the owner takes each once, in their order.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phasework_broker::{Address, Message, SharedBroker};
use phasework_workflows::Payload;
use phasework_workflows::id::{Attempt, Nonce};
use phasework_workflows::message::event::ReplyTo;
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::listing::{JobsListed, Sealed};
use phasework_workflows::message::{self, Body as _};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::confirm;
use crate::error::HandlerError;

/// The most jobs in a page.
const PAGE_JOBS: usize = 1024;

/// The most bytes in a page of more than one job.
const PAGE_BYTES: usize = 256 * 1024;

/// How long a page waits for more jobs at most, while there are some: it is to be seen how far a list is.
const PAGE_AGE: Duration = Duration::from_secs(2);

/// How many pages may be under way that are not known to be stored.
const WINDOW: usize = 4;

/// How long an answer may take before pages are sent again, at first and at last.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_AT_LAST: Duration = Duration::from_secs(60);

/// How often in a row it is answered that less is stored than was before, until that is believed: answers to pages that
/// are under way together may come in any order.
const BEHIND: u32 = WINDOW as u32 + 1;

/// The list of jobs of a handler that lists them itself, as its `enumerate` function is given it: see
/// [`Worker::enumerate`](crate::Worker::enumerate). Cheap to clone; may be moved into other tasks, as long as they are
/// done when the function returns.
pub struct JobList<J> {
    list: Arc<Pages>,
    jobs: PhantomData<fn(J)>,
}

impl<J: Serialize> JobList<J> {
    pub(crate) fn of(list: Arc<Pages>) -> Self {
        Self { list, jobs: PhantomData }
    }

    /// Adds a job with this input. Waits while the jobs before it are still on their way, so that a list of any length
    /// takes little memory.
    ///
    /// # Errors
    /// When the input cannot be written as JSON or is too large, for good; or when the list no longer matters. Return the
    /// error: `?` does.
    pub async fn push(&self, input: J) -> Result<(), HandlerError> {
        let input = Payload::of(&input)
            .map_err(|error| HandlerError::output(format!("a job's input cannot be written as JSON: {error}")))?;
        self.list.push(input).await
    }
}

impl<J> Clone for JobList<J> {
    fn clone(&self) -> Self {
        Self { list: Arc::clone(&self.list), jobs: PhantomData }
    }
}

impl<J> fmt::Debug for JobList<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobList")
    }
}

/// What the owner has said to pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// How many jobs it said were stored, at most.
    listed: u64,
    /// How often it has said how many are.
    answers: u64,
    /// How often in a row it has said of late that fewer are than were before.
    behind: u32,
    /// Whether it has said that another list of this attempt is taken.
    other: bool,
}

impl Heard {
    /// The owner says that so many jobs are stored.
    pub(crate) fn stored(&mut self, listed: u64) {
        self.answers += 1;
        self.behind = if listed < self.listed { self.behind + 1 } else { 0 };
        self.listed = self.listed.max(listed);
    }

    /// The owner says that it wants no more of the list; whether another is taken.
    pub(crate) fn stop(&mut self, other: bool) {
        self.other = other;
    }
}

/// The jobs of a list, and where they go.
pub(crate) struct Pages {
    max_input: usize,
    state: Mutex<State>,
    /// Of a list that is sent.
    heard: Option<watch::Receiver<Heard>>,
}

enum State {
    /// To the owner of the run.
    Sending(Box<Sending>),
    /// Nowhere: they are for a test.
    Kept(Vec<Payload>),
    /// The list is whole.
    Sealed,
}

impl Pages {
    /// A list that goes to the owner of its run.
    pub(crate) fn sent(way: Way, max_input: usize) -> Arc<Self> {
        let heard = Some(way.heard.clone());
        Arc::new(Self { max_input, state: Mutex::new(State::Sending(Box::new(Sending::new(way)))), heard })
    }

    /// A list that is kept.
    pub(crate) fn kept(max_input: usize) -> Arc<Self> {
        Arc::new(Self { max_input, state: Mutex::new(State::Kept(Vec::new())), heard: None })
    }

    /// Adds a job, which has its limits.
    pub(crate) async fn push(&self, input: Payload) -> Result<(), HandlerError> {
        if let Err(words) = input.check(self.max_input) {
            return Err(HandlerError::output(format!("a job's input {words}")));
        }
        match &mut *self.state.lock().await {
            State::Sending(sending) => sending.push(input).await,
            State::Kept(jobs) => {
                jobs.push(input);
                Ok(())
            }
            State::Sealed => Err(HandlerError::fail("a job was added to a list that was whole")),
        }
    }

    /// The list is whole: waits until all of it is stored. What is to be reported of it.
    pub(crate) async fn seal(&self) -> Result<Payload, HandlerError> {
        let mut state = self.state.lock().await;
        let State::Sending(sending) = &mut *state else { return Ok(Payload::null()) };
        sending.flush().await?;
        let sealed = Sealed { list: sending.way.list, jobs: sending.sent };
        *state = State::Sealed;
        Payload::of(&sealed).map_err(|error| HandlerError::output(error.to_string()))
    }

    /// The jobs of a list that was kept.
    pub(crate) async fn take(&self) -> Vec<Payload> {
        match std::mem::replace(&mut *self.state.lock().await, State::Sealed) {
            State::Kept(jobs) => jobs,
            State::Sending(_) | State::Sealed => Vec::new(),
        }
    }

    /// Whether the owner takes another list of the same attempt: the message that asked for it came twice.
    pub(crate) fn is_other(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.borrow().other)
    }

    /// Whether the owner has lost what it had stored, so that another attempt has to begin anew. Not said while somebody
    /// else still adds to the list.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state.try_lock().as_deref(), Ok(State::Sending(sending)) if sending.is_lost)
    }
}

/// How a list goes to its owner.
pub(crate) struct Way {
    pub(crate) broker: SharedBroker,
    pub(crate) group: Arc<JobGroup>,
    pub(crate) attempt: Attempt,
    /// The number that was drawn for this list.
    pub(crate) list: Nonce,
    pub(crate) worker: Arc<str>,
    /// The full name of the worker's private queue.
    pub(crate) reply: Arc<str>,
    pub(crate) heard: watch::Receiver<Heard>,
    pub(crate) canceled: CancellationToken,
    pub(crate) leave: CancellationToken,
}

/// A list on its way.
struct Sending {
    way: Way,
    page: Vec<Payload>,
    page_bytes: usize,
    page_began: Instant,
    /// How many jobs are in pages that were sent.
    sent: u64,
    /// How many of those are known to be stored.
    stored: u64,
    /// Pages that are not known to be stored, each with how many jobs there are up to its end.
    under_way: VecDeque<(u64, Message)>,
    is_lost: bool,
}

impl Sending {
    fn new(way: Way) -> Self {
        Self {
            way,
            page: Vec::new(),
            page_bytes: 0,
            page_began: Instant::now(),
            sent: 0,
            stored: 0,
            under_way: VecDeque::new(),
            is_lost: false,
        }
    }

    async fn push(&mut self, input: Payload) -> Result<(), HandlerError> {
        let is_full = self.page.len() >= PAGE_JOBS || self.page_bytes + input.len() > PAGE_BYTES;
        if !self.page.is_empty() && (is_full || self.page_began.elapsed() >= PAGE_AGE) {
            self.send().await?;
        }
        if self.page.is_empty() {
            self.page_began = Instant::now();
        }
        self.page_bytes += input.len() + 1;
        self.page.push(input);
        Ok(())
    }

    /// Sends what there is of a page, and waits until few enough are under way.
    async fn send(&mut self) -> Result<(), HandlerError> {
        let items = std::mem::take(&mut self.page);
        self.page_bytes = 0;
        let first = self.sent;
        self.sent += items.len() as u64;
        let message = self.way.message(first, items);
        self.under_way.push_back((self.sent, message.clone()));
        self.publish(vec![message]).await?;
        self.wait_until_under_way(WINDOW - 1).await
    }

    /// Sends what is left, and waits until all is stored.
    async fn flush(&mut self) -> Result<(), HandlerError> {
        if !self.page.is_empty() {
            self.send().await?;
        }
        self.wait_until_under_way(0).await
    }

    async fn publish(&self, messages: Vec<Message>) -> Result<(), HandlerError> {
        let Way { broker, canceled, leave, .. } = &self.way;
        tokio::select! {
            biased;
            () = canceled.cancelled() => Err(no_longer()),
            published = confirm::publish_all(broker, messages, leave) => match published {
                None => Err(no_longer()),
                Some(results) => match results.into_iter().find_map(Result::err) {
                    None => Ok(()),
                    Some(too_large) => Err(HandlerError::output(format!(
                        "a job's input makes a message of {} bytes; the broker takes {}",
                        too_large.size, too_large.limit
                    ))),
                },
            },
        }
    }

    /// Waits until at most so many pages are not known to be stored; sends them again when nothing is heard.
    async fn wait_until_under_way(&mut self, most: usize) -> Result<(), HandlerError> {
        let (mut patience, mut until) = (PATIENCE, Instant::now() + PATIENCE);
        let mut answers = self.way.heard.borrow().answers;
        let canceled = self.way.canceled.clone();
        loop {
            let heard = *self.way.heard.borrow_and_update();
            let advanced = heard.listed > self.stored;
            self.stored = self.stored.max(heard.listed);
            while self.under_way.front().is_some_and(|(end, _)| *end <= self.stored) {
                self.under_way.pop_front();
            }
            if self.under_way.len() <= most {
                return Ok(());
            }
            if heard.behind >= BEHIND {
                self.is_lost = true;
                return Err(HandlerError::retry("what was listed is stored no more"));
            }
            if advanced {
                (patience, until) = (PATIENCE, Instant::now() + PATIENCE);
            }
            let answer = tokio::select! {
                biased;
                () = canceled.cancelled() => return Err(no_longer()),
                answer = timeout_at(until, self.way.heard.changed()) => answer,
            };
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(_gone)) => return Err(no_longer()),
                Err(_elapsed) => {
                    // It is silence that is met with more patience.
                    let is_silent = heard.answers == answers;
                    patience = if is_silent { (patience * 2).min(PATIENCE_AT_LAST) } else { PATIENCE };
                    answers = heard.answers;
                    self.publish(self.under_way.iter().map(|(_, message)| message.clone()).collect()).await?;
                    until = Instant::now() + patience;
                }
            }
        }
    }
}

impl Way {
    fn message(&self, first: u64, items: Vec<Payload>) -> Message {
        let page = JobsListed {
            run: self.group.run,
            entry: self.group.entry,
            nonce: self.group.nonce,
            handler: self.group.handler.clone(),
            attempt: self.attempt,
            list: self.list,
            first,
            items,
            worker: Some(Arc::clone(&self.worker)),
            reply: Some(ReplyTo { queue: Arc::clone(&self.reply), correlation_id: None }),
        };
        let to = Address::Coordinator(self.group.coordinator);
        Message::new(to, JobsListed::KIND, Bytes::from(message::encode(&page)))
    }
}

/// Nobody waits for the list any more. What is said of that does not count.
fn no_longer() -> HandlerError {
    HandlerError::retry("the list no longer matters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_that_is_whole_takes_nothing_more() {
        let pages = Pages::kept(10);
        let list = JobList::of(Arc::clone(&pages));
        list.push("a").await.unwrap();
        let too_large = list.push("123456789").await.unwrap_err();
        assert!(!too_large.is_retryable() && too_large.to_string().contains("is 11 bytes long"), "{too_large}");
        assert_eq!(pages.take().await, [Payload::of("a").unwrap()]);
        assert!(!list.push("b").await.unwrap_err().is_retryable());
    }
}
