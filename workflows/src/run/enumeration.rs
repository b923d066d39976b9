//! Lists that handlers make themselves. Making one is a job: one attempt at a time, with tries, leases and probes, under a
//! nonce of its own. Its pages are taken in their order, of one list only; the list is sealed once, with exactly what was
//! taken, and counts and is seen from then on.

use super::apply::{Applied, Turn};
use super::delta::{ExceptionChange, ForgottenList};
use super::entry::{Enumeration, Stage};
use super::event::Ignored;
use super::state::{HistoryKind, RunState};
use super::{MAX_LISTED_BYTES, MAX_LISTED_JOBS};
use crate::definition::RetryPolicy;
use crate::id::{Attempt, HandlerName, JobIndex, Nonce};
use crate::message::listing::{LISTING, OTHER_LIST, Sealed};
use crate::message::outcome::{JobError, Outcome, Status};
use crate::payload::Payload;

/// A page of a list, as its maker gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) attempt: Attempt,
    pub(super) list: Nonce,
    pub(super) first: JobIndex,
    pub(super) items: Result<&'a [Payload], &'a JobError>,
}

impl Turn<'_> {
    /// Whether what is out of a handler is the making of its list.
    pub(super) fn is_listing(&self, place: usize) -> bool {
        self.run.head.entry.handlers[place].is_listing()
    }

    /// What is said of the making of a list is not said of a job of it, nor the other way round.
    pub(super) fn must_speak_of(&self, place: usize, nonce: Nonce) -> Applied {
        let entry = &self.run.head.entry;
        let current = if self.is_listing(place) { entry.nonce.of_lists() } else { entry.nonce };
        if nonce == current { Ok(()) } else { Err(Ignored::Stale) }
    }

    /// Takes a page that goes on where the list stands. The list whose first page comes first is the attempt's. One that is
    /// unfit fails it.
    pub(super) fn jobs_listed(&mut self, name: &HandlerName, nonce: Nonce, page: Page<'_>) -> Applied {
        if matches!(self.run.head.entry.stage, Stage::Finished { .. }) || self.run.head.state == RunState::Canceling {
            return Err(Ignored::TooLate);
        }
        let place = self.run.head.entry.handlers.iter().position(|handler| handler.name == *name);
        let spec = self.phase().and_then(|phase| phase.handler(name));
        let (Some(place), Some((_, spec))) = (place, spec) else { return Err(Ignored::UnknownHandler) };
        self.must_speak_of(place, nonce)?;
        let (retry, now) = (spec.retry, self.moment.now);
        let is_current = self.is_current(place, LISTING, page.attempt);
        let list = self.stored_under(place, page.attempt, page.list);
        let handler = &mut self.run.head.entry.handlers[place];
        let Some(enumeration) = &mut handler.enumeration else { return Err(Ignored::Stale) };
        let goes_on = page.first == enumeration.jobs && enumeration.list.is_none_or(|taken| taken == list);
        if !is_current || !goes_on || page.items.is_ok_and(<[Payload]>::is_empty) {
            return Err(Ignored::Stale);
        }
        enumeration.list = Some(list);
        let fault = match page.items {
            Ok(items) => {
                enumeration.add(items);
                enumeration.beyond().map(|words| JobError::new("limit", words).for_good())
            }
            Err(unfit) => Some(unfit.clone()),
        };
        (handler.heard_at, handler.unmanned_since) = (Some(now), None);
        if let Some(fault) = fault {
            self.list_failed(place, page.attempt, &fault, retry);
        }
        self.settle();
        Ok(())
    }

    /// The maker of a list says that it is whole; whether that is news. It is sealed when all of it was taken. What
    /// another maker says, whose list was not taken up, changes nothing.
    pub(super) fn listed(&mut self, place: usize, outcome: &Outcome, retry: RetryPolicy) -> bool {
        let Some(enumeration) = self.run.head.entry.handlers[place].enumeration else { return false };
        let sealed = outcome.output.as_ref().and_then(|output| output.read::<Sealed>().ok());
        let Some(Sealed { list, jobs }) = sealed else {
            let words = "it was asked for its list of jobs, and did a job: its worker does not know of lists";
            self.list_failed(place, outcome.attempt, &JobError::new("enumerate", words).for_good(), retry);
            return true;
        };
        let list = self.stored_under(place, outcome.attempt, list);
        if enumeration.list.is_some_and(|taken| taken != list) {
            return false;
        }
        if jobs == enumeration.jobs {
            self.seal(place, outcome.attempt, enumeration);
        } else {
            let words = format!("of the {jobs} jobs of its list {} have come", enumeration.jobs);
            self.list_failed(place, outcome.attempt, &JobError::new("list-incomplete", words), retry);
        }
        true
    }

    /// What the pages are stored under of a list that its maker has given this number.
    fn stored_under(&self, place: usize, attempt: Attempt, list: Nonce) -> Nonce {
        self.run.head.entry.nonce.of_list(place as u16, attempt, list)
    }

    /// A list was asked for by a message that came twice, and one of its two makers was told to stop. That says nothing of
    /// the other, whose list is taken.
    pub(super) fn is_of_other_list(&self, place: usize, outcome: &Outcome) -> bool {
        let handler = &self.run.head.entry.handlers[place];
        let is_taken = handler.is_listing() && handler.enumeration.is_some_and(|it| it.list.is_some());
        let is_said = outcome.error.as_ref().is_some_and(|error| &*error.kind == OTHER_LIST);
        is_taken && outcome.status == Status::Returned && is_said
    }

    /// A worker that does not know of lists reports a job without output, in a range; whether that is news.
    pub(super) fn done_in_place_of_list(
        &mut self,
        place: usize,
        ranges: &[(JobIndex, u64)],
        retry: RetryPolicy,
    ) -> bool {
        let is_said = ranges.iter().any(|&(first, count)| first == LISTING && count > 0);
        let outcome =
            Outcome { index: LISTING, attempt: 1, status: Status::Done, output: None, error: None, details: None };
        is_said && self.is_current(place, LISTING, 1) && self.listed(place, &outcome, retry)
    }

    /// From now on the handler has these jobs, none of which was ever out.
    fn seal(&mut self, place: usize, attempt: Attempt, enumeration: Enumeration) {
        self.come_back(place, LISTING);
        if self.run.jobs[place].remove(LISTING) {
            let entry = self.run.head.entry.number;
            let change = ExceptionChange { entry, handler: place as u16, index: LISTING, exception: None };
            self.run.delta.exceptions.push(change);
        }
        let entry = &mut self.run.head.entry;
        let handler = &mut entry.handlers[place];
        handler.total = Some(enumeration.jobs);
        handler.stored_inputs = enumeration.jobs > 0;
        handler.cursor = 0;
        (handler.heard_at, handler.asked_at, handler.probe) = (None, None, None);
        let (entry, handler, jobs) = (entry.number, handler.name.clone(), enumeration.jobs);
        self.record(HistoryKind::Listed { entry, handler, attempt, jobs });
    }

    fn list_failed(&mut self, place: usize, attempt: Attempt, error: &JobError, retry: RetryPolicy) {
        let error = Some(error.clone());
        let outcome = Outcome { index: LISTING, attempt, status: Status::Failed, output: None, error, details: None };
        self.failed(place, &outcome, retry);
    }

    /// An attempt at a list is over that has not sealed it: what it has listed goes, also when no other attempt follows.
    pub(super) fn begin_list_anew(&mut self, place: usize) {
        if !self.is_listing(place) {
            return;
        }
        self.forget_list(place);
        if let Some(enumeration) = &mut self.run.head.entry.handlers[place].enumeration {
            *enumeration = Enumeration::default();
        }
    }

    /// Nobody needs the pages of a list any more.
    pub(super) fn forget_list(&mut self, place: usize) {
        let entry = &self.run.head.entry;
        let list = entry.handlers[place].enumeration.and_then(|enumeration| enumeration.list);
        if let Some(nonce) = list {
            let gone = ForgottenList { entry: entry.number, nonce, handler: place as u16 };
            self.run.delta.forget_inputs.push(gone);
        }
    }
}

impl Enumeration {
    fn add(&mut self, items: &[Payload]) {
        let bytes = items.iter().map(|item| item.len() as u64).sum();
        self.jobs = self.jobs.saturating_add(items.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// What is too much of it, in words.
    fn beyond(&self) -> Option<String> {
        if self.jobs > MAX_LISTED_JOBS {
            Some(format!("its list has more than {MAX_LISTED_JOBS} jobs"))
        } else if self.bytes > MAX_LISTED_BYTES {
            Some(format!("the jobs of its list take more than {MAX_LISTED_BYTES} bytes"))
        } else {
            None
        }
    }
}
