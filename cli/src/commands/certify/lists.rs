//! Handlers that list their jobs themselves, where the worker has one: pages in their order, answered; one list of an
//! attempt, whole; and an end when it no longer matters. A handler that lists nothing says so for good.

use std::time::Duration;

use phasework_broker::{Address, Message};
use phasework_workflows::Payload;
use phasework_workflows::id::Nonce;
use phasework_workflows::message::job::{Job, JobGroup};
use phasework_workflows::message::listing::{JobsListed, LISTING, ListAnswered, OTHER_LIST, Sealed};
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::{Body as _, encode};
use serde_json::json;

use super::check::{KEPT, Kept};
use super::faults::is_returned;
use super::heard::{Said, Told};
use super::outcomes::still_works;
use super::stage::{Asked, Fault, SOON, Stage};
use super::values::output;

/// How many jobs are listed: more than one page of most workers. And of a list that does not come to its end.
const JOBS: u64 = 3000;
const ENDLESS: u64 = 10_000_000;

/// The most pages that may be under way unanswered.
const FEW: usize = 16;

/// Within this a second list of an attempt is begun, if there is to be one, once the first is sealed.
const BESIDE: Duration = Duration::from_secs(8);

/// Within this a page is published again that nobody has answered.
const AGAIN: Duration = Duration::from_secs(30);

/// What a worker that lists says next of a list.
enum Next {
    Page(JobsListed),
    Told(Told),
}

/// What the owner of a run says to a page.
#[derive(Clone, Copy)]
enum Answer {
    /// So many jobs of the list are stored.
    Stored(u64),
    /// The list no longer matters.
    Stop,
    /// Another list of the attempt is taken.
    OtherTaken,
}

/// A list that a worker is asked for, as the owner of its run sees it.
struct List {
    asked: Asked,
    /// How much was heard of it.
    heard: usize,
    /// The number that the worker has drawn.
    list: Option<Nonce>,
    /// How many jobs are stored.
    stored: u64,
}

impl List {
    async fn ask(stage: &Stage, jobs: u64) -> Result<Self, Fault> {
        let (data, range) = (Payload::of(&json!({ "list": jobs })).ok(), Some((LISTING, 1)));
        Self::send(stage, JobGroup { enumerate: true, data, range, ..stage.group() }).await
    }

    async fn send(stage: &Stage, group: JobGroup) -> Result<Self, Fault> {
        let asked = stage.send(vec![group]).await?.remove(0);
        Ok(Self { heard: asked.from, asked, list: None, stored: 0 })
    }

    /// What is said of it next; nothing when that takes longer than `within`. All of it is of one list.
    async fn next(&mut self, stage: &Stage, within: Duration) -> Result<Option<Next>, Fault> {
        let next = self.next_of_any(stage, within).await?;
        if let Some(Next::Page(page)) = &next {
            let list = *self.list.get_or_insert(page.list);
            if list != page.list {
                return Err(format!("two lists of one attempt: {} and {}", list.0, page.list.0));
            }
        }
        Ok(next)
    }

    /// The same, where there may be several lists.
    async fn next_of_any(&mut self, stage: &Stage, within: Duration) -> Result<Option<Next>, Fault> {
        let run = self.asked.group.run;
        let next = stage.heard.wait(self.heard, within, |said| {
            said.iter().enumerate().find_map(|(at, said)| match said {
                Said::Listed(queue, page) if page.run == run => Some((at, *queue, Next::Page(page.clone()))),
                said => said.told(run, LISTING).map(|told| (at, told.queue, Next::Told(told))),
            })
        });
        let Some((at, queue, next)) = next.await else { return Ok(None) };
        self.heard += at + 1;
        if let Next::Page(page) = &next {
            self.check_page(queue, page)?;
        }
        Ok(Some(next))
    }

    /// Whether a page is addressed as it should be, and can be of a list.
    fn check_page(&self, queue: u16, page: &JobsListed) -> Result<(), Fault> {
        let group = &self.asked.group;
        let attempt = group.each().next().map_or(1, |job| job.attempt);
        let found = (page.entry, page.nonce, &page.handler, page.attempt, queue);
        let expected = (group.entry, group.nonce, &group.handler, attempt, group.coordinator);
        if found != expected {
            return Err(format!("a page says {found:?} (entry, nonce, handler, attempt, queue), not {expected:?}"));
        }
        if page.list.0 == 0 || page.list.0 >= 1 << 53 {
            return Err(format!("{} is no number for a list: it has to be from 1 to 2^53 - 1", page.list.0));
        }
        if page.items.is_empty() {
            return Err("a page has no jobs".into());
        }
        Ok(())
    }

    /// Stores a page, if it goes on where the list stands. One that came before is no harm.
    fn store(&mut self, page: &JobsListed) -> Result<(), Fault> {
        if page.first > self.stored {
            return Err(format!(
                "a page begins at job {}, and {} are there: they are out of order",
                page.first, self.stored
            ));
        }
        for (n, item) in (page.first..).zip(&page.items) {
            let (found, expected) = (item.to_value(), json!({ "do": "echo", "value": n }));
            if found != expected {
                return Err(format!("job {n} of the list is {found}, not {expected}"));
            }
        }
        self.stored = self.stored.max(page.first + page.items.len() as u64);
        Ok(())
    }

    /// Stores a page and says so, if the worker wants to hear it.
    async fn take(&mut self, stage: &Stage, page: &JobsListed) -> Result<(), Fault> {
        self.store(page)?;
        let stored = Answer::Stored(self.stored);
        if page.reply.is_some() { self.answer(stage, page, stored).await } else { Ok(()) }
    }

    /// Says something to a page.
    async fn answer(&self, stage: &Stage, page: &JobsListed, answer: Answer) -> Result<(), Fault> {
        let Some(reply) = &page.reply else {
            return Err("a page says no `reply`, so nobody can tell it to stop".into());
        };
        let JobsListed { run, entry, nonce, ref handler, attempt, list, .. } = *page;
        let handler = handler.clone();
        let (listed, other) = match answer {
            Answer::Stored(jobs) => (Some(jobs), false),
            Answer::Stop => (None, false),
            Answer::OtherTaken => (None, true),
        };
        let body = encode(&ListAnswered { run, entry, nonce, handler, attempt, list, listed, other });
        let mut message = Message::new(Address::Private(reply.queue.clone()), ListAnswered::KIND, body);
        message.correlation_id.clone_from(&reply.correlation_id);
        // A worker that hears nothing publishes again.
        stage.broker.reply(&reply.queue, message).await.ok();
        Ok(())
    }

    /// Stores and answers pages until the worker says what became of it.
    async fn until_told(&mut self, stage: &Stage) -> Result<Told, Fault> {
        loop {
            match self.next(stage, SOON).await? {
                Some(Next::Page(page)) => self.take(stage, &page).await?,
                Some(Next::Told(told)) => return Ok(told),
                None => return Err(format!("of a list nothing was heard for {} s", SOON.as_secs())),
            }
        }
    }

    /// Whether it was sealed with what is stored.
    fn is_sealed(&self, told: &Told, jobs: u64) -> Result<(), Fault> {
        let found = output(told)?;
        let sealed =
            sealed(told).ok_or_else(|| format!("a list ends with the output {found}, not with `list` and `jobs`"))?;
        if (sealed.jobs, self.stored) != (jobs, jobs) {
            return Err(format!(
                "of {jobs} jobs {} were listed, and the list is sealed with {}",
                self.stored, sealed.jobs
            ));
        }
        match self.list {
            Some(list) if list != sealed.list => {
                Err("the list is sealed under another number than its pages have".into())
            }
            _ => Ok(()),
        }
    }
}

/// What a list was sealed with.
fn sealed(told: &Told) -> Option<Sealed> {
    told.outcome.output.as_ref()?.read().ok()
}

/// Whether the worker's handler lists jobs at all; if not, that it says so.
async fn is_listing(stage: &Stage) -> Result<bool, Fault> {
    let mut empty = List::ask(stage, 0).await?;
    let told = empty.until_told(stage).await?;
    match (told.outcome.status, &told.outcome.error) {
        (Status::Failed, Some(error)) if !error.retry => Ok(false),
        (Status::Failed, _) => {
            Err("asked for a list, it fails in a way that is tried again: `retry` is not false".into())
        }
        _ => empty.is_sealed(&told, 0).map(|()| true),
    }
}

const NOT_TRIED: &str = "not tried: the handler does not list its jobs, and says so";

pub(super) async fn lists(stage: &mut Stage) -> Kept {
    if !is_listing(stage).await? {
        return Ok(Some(NOT_TRIED.into()));
    }
    let mut list = List::ask(stage, JOBS).await?;
    let told = list.until_told(stage).await?;
    list.is_sealed(&told, JOBS)?;
    // Nothing more is said of it.
    match list.next(stage, Duration::from_secs(1)).await? {
        None => KEPT,
        Some(Next::Page(_)) => Err("a page came after the list was sealed".into()),
        Some(Next::Told(_)) => Err("the list was sealed twice".into()),
    }
}

pub(super) async fn unanswered(stage: &mut Stage) -> Kept {
    if !is_listing(stage).await? {
        return Ok(Some(NOT_TRIED.into()));
    }
    let mut list = List::ask(stage, ENDLESS).await?;
    let (mut pages, mut first) = (0, None);
    // Until the first comes again.
    let again = loop {
        match list.next(stage, AGAIN).await? {
            Some(Next::Page(page)) if first.is_some() && page.first == 0 => break page,
            Some(Next::Page(page)) => {
                pages += 1;
                first.get_or_insert(page);
                if pages > FEW {
                    return Err(format!(
                        "{pages} pages came, and none of them was answered: a long list fills the broker"
                    ));
                }
            }
            Some(Next::Told(told)) => {
                return Err(format!("no page was answered, and it says {:?}", told.outcome.status));
            }
            None => return Err(format!("a page was not answered, and not published again in {} s", AGAIN.as_secs())),
        }
    };
    list.answer(stage, &again, Answer::Stop).await?;
    ends(stage, &mut list).await
}

/// Told that its list no longer matters, the worker stops: it hands the job back, and works on.
async fn ends(stage: &Stage, list: &mut List) -> Kept {
    let mut pages = 0;
    loop {
        match list.next(stage, SOON).await? {
            Some(Next::Page(page)) if pages < FEW => {
                pages += 1;
                list.answer(stage, &page, Answer::Stop).await?;
            }
            Some(Next::Page(_)) => {
                return Err(format!("it was told that the list no longer matters, and {pages} more pages came"));
            }
            Some(Next::Told(told)) => {
                is_returned(&told, &["canceled"])?;
                return still_works(stage).await;
            }
            None => return Err("it was told that the list no longer matters, and did not hand it back".into()),
        }
    }
}

/// What comes twice is listed once, or twice under a number each. Where the one list is taken, the other gives way, and the
/// one is not disturbed by what the other is told.
pub(super) async fn one_list(stage: &mut Stage) -> Kept {
    if !is_listing(stage).await? {
        return Ok(Some(NOT_TRIED.into()));
    }
    let mut taken = List::ask(stage, JOBS).await?;
    stage.send(vec![taken.asked.group.clone()]).await?;
    let (mut other, mut is_sealed, mut gave_way, mut refused) = (None, false, false, 0);
    while !(is_sealed && gave_way) {
        // Two lists are made at the same time. So once the one is sealed there is another, or there will be none.
        let within = if is_sealed && other.is_none() { BESIDE } else { SOON };
        match taken.next_of_any(stage, within).await? {
            None if is_sealed && other.is_none() => break,
            Some(Next::Page(page)) if *taken.list.get_or_insert(page.list) == page.list => {
                taken.take(stage, &page).await?;
            }
            Some(Next::Page(page)) => {
                refused += 1;
                if *other.get_or_insert(page.list) != page.list || gave_way || refused > FEW {
                    return Err("asked twice for a list of which one was taken, it went on with another".into());
                }
                taken.answer(stage, &page, Answer::OtherTaken).await?;
            }
            Some(Next::Told(told)) if told.outcome.status == Status::Done => {
                if other.is_some() && sealed(&told).map(|sealed| sealed.list) == other {
                    return Err("asked twice for a list of which one was taken, it sealed the other".into());
                }
                if is_sealed {
                    return Err("asked twice for a list, it sealed two: do they have the same number?".into());
                }
                taken.is_sealed(&told, JOBS)?;
                is_sealed = true;
            }
            Some(Next::Told(_)) if gave_way => {
                return Err("the list that was taken is handed back, too: it heeds what another list is told".into());
            }
            Some(Next::Told(told)) => {
                is_returned(&told, &[OTHER_LIST])?;
                gave_way = true;
            }
            None if is_sealed => {
                return Err("of two lists of one attempt the one that was not taken was not handed back".into());
            }
            None => return Err(format!("of a list that was taken nothing was heard for {} s", SOON.as_secs())),
        }
    }
    KEPT
}

/// What a worker had listed that died is not gone on with: whoever gets its message hands it back, and the next attempt
/// begins a list of its own.
pub(super) async fn lists_apart(stage: &mut Stage) -> Kept {
    if !is_listing(stage).await? {
        return Ok(Some(NOT_TRIED.into()));
    }
    let mut list = List::ask(stage, ENDLESS).await?;
    let Some(Next::Page(_)) = list.next(stage, SOON).await? else {
        return Err(format!("asked for a list, it published no page within {} s", SOON.as_secs()));
    };
    let (begun, group) = (list.list, list.asked.group.clone());
    stage.kill().await;
    let from = stage.heard.so_far();
    stage.start().await?;
    let mut again = List { heard: from, asked: Asked { from, group: group.clone() }, list: None, stored: 0 };
    match again.next(stage, SOON).await? {
        Some(Next::Told(told)) => is_returned(&told, &["redelivered"])?,
        Some(Next::Page(_)) => return Err("a message that was delivered before is listed again: two lists mix".into()),
        None => return Err("nothing was said of a message that was delivered before".into()),
    }
    let jobs = vec![Job { attempt: 2, tried: 2, ..Job::fresh(LISTING) }];
    let data = Payload::of(&json!({ "list": JOBS })).ok();
    let mut next = List::send(stage, JobGroup { range: None, jobs, data, ..group }).await?;
    let told = next.until_told(stage).await?;
    next.is_sealed(&told, JOBS)?;
    if next.list == begun {
        return Err("the next attempt has the number of the list before: what both have listed mixes".into());
    }
    KEPT
}
