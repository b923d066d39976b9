//! Plays the outside of a run in memory: answers its questions, commits its deltas, carries out its effects, delivers
//! what is on the wire, dies and comes back. After every step the invariants are checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Check, JobStatus, Stored, check_history, check_state, check_step};
use crate::definition::Workflow;
use crate::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, RunId};
use crate::message::event::{Control, ControlAction, StartRun};
use crate::message::lease::LeaseWanted;
use crate::message::listing::{LISTING, Sealed};
use crate::message::notice::Lifecycle;
use crate::message::outcome::{JobError, Outcome, Status};
use crate::payload::Payload;
use crate::run::audit::ensure;
use crate::run::{
    Effect, Event, ExceptionState, Ignored, Listing, Moment, Question, Resolution, Run, RunState, Stage, Step, apply,
    start,
};
use crate::time::{Millis, Timestamp};

/// What stands in for [`apply`].
pub type ApplyFn = fn(&Workflow, &mut Run, &Event, Moment) -> Step;

/// What the outside knows.
#[derive(Clone, Debug)]
pub struct Outside {
    /// How many slots the live workers of each handler have; those that are not named have one.
    pub slots: BTreeMap<HandlerName, u32>,
    /// The handlers that have no worker.
    pub absent: Vec<HandlerName>,
    /// The version that the live workers host.
    pub version: semver::Version,
    /// The lists of jobs by handler; others have one job with a stored input.
    pub lists: BTreeMap<HandlerName, Result<Listing, JobError>>,
    /// The run's result.
    pub output: Result<Payload, JobError>,
}

impl Default for Outside {
    fn default() -> Self {
        let output = Ok(Payload::from(serde_json::json!("the result")));
        let version = semver::Version::new(1, 0, 0);
        Self { slots: BTreeMap::new(), absent: Vec::new(), version, lists: BTreeMap::new(), output }
    }
}

/// A job that was put on a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOut {
    /// Its entry.
    pub entry: EntryNo,
    /// Its entry's nonce, or that of its lists.
    pub nonce: Nonce,
    /// Whether it is the making of its handler's list.
    pub enumerate: bool,
    /// Its handler.
    pub handler: HandlerName,
    /// The job.
    pub index: JobIndex,
    /// The attempt.
    pub attempt: Attempt,
    /// Which try it is.
    pub tried: u32,
    /// Whether it travels alone.
    pub alone: bool,
}

/// A run and its outside.
#[derive(Clone, Debug)]
pub struct Harness {
    /// The definition.
    pub workflow: Arc<Workflow>,
    /// The run as the coordinator holds it.
    pub run: Run,
    /// What the store holds.
    pub stored: Stored,
    /// The time.
    pub now: Timestamp,
    /// Since when the coordinator has been listening.
    pub listening_since: Timestamp,
    /// What chance is drawn from; the same for all events of an entry.
    pub seed: u64,
    /// What the outside knows.
    pub outside: Outside,
    /// Jobs on their queues, in the order in which they were put there.
    pub jobs: Vec<JobOut>,
    /// Events on the coordinator queue.
    pub events: Vec<Event>,
    /// What was told to the world.
    pub told: Vec<Lifecycle>,
    /// Probes on their way: the event that each will be.
    pub probes: Vec<Event>,
    /// The transition function.
    pub apply: ApplyFn,
    uncommitted: Vec<Effect>,
}

impl Harness {
    /// Starts a run, with a worker for every handler.
    ///
    /// # Panics
    /// When an invariant breaks.
    pub fn start(workflow: Workflow) -> Self {
        Self::start_with(workflow, Outside::default())
    }

    /// Starts a run.
    ///
    /// # Panics
    /// When an invariant breaks.
    pub fn start_with(workflow: Workflow, outside: Outside) -> Self {
        Self::try_start(workflow, outside, 1).unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// Starts a run whose chance is drawn from `seed`.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub fn try_start(workflow: Workflow, outside: Outside, seed: u64) -> Result<Self, super::Broken> {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let order = StartRun {
            run: RunId::from_key("default", &workflow.name, "a key"),
            workflow: workflow.name.clone(),
            revision: workflow.revision.clone(),
            key: None,
            data: None,
            reply: None,
            traceparent: None,
            actor: None,
        };
        let (run, step) =
            start(&workflow, &order, Moment { now, random: chance(seed, 0), listening_since: Timestamp::default() });
        let mut harness = Self {
            workflow: Arc::new(workflow),
            run,
            stored: Stored::default(),
            now,
            listening_since: Timestamp::default(),
            seed,
            outside,
            jobs: Vec::new(),
            events: Vec::new(),
            told: Vec::new(),
            probes: Vec::new(),
            apply,
            uncommitted: Vec::new(),
        };
        harness.answer(step)?;
        harness.commit()?;
        Ok(harness)
    }

    /// Time and chance as they are now.
    pub fn moment(&self) -> Moment {
        let random = chance(self.seed, self.run.head.entry.number);
        Moment { now: self.now, random, listening_since: self.listening_since }
    }

    /// Delivers an event, commits, publishes; says why when nothing changed.
    ///
    /// # Panics
    /// When an invariant breaks.
    pub fn deliver(&mut self, event: &Event) -> Option<Ignored> {
        self.try_deliver(event).unwrap_or_else(|broken| panic!("{broken}"))
    }

    /// Delivers an event, commits, publishes; says why when nothing changed.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub fn try_deliver(&mut self, event: &Event) -> Result<Option<Ignored>, super::Broken> {
        let ignored = self.try_apply(event)?;
        if ignored.is_none() {
            self.commit()?;
        }
        Ok(ignored)
    }

    /// Applies an event as one of a batch: with the questions that it raises answered, but not committed.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub fn try_apply(&mut self, event: &Event) -> Result<Option<Ignored>, super::Broken> {
        let before = self.run.clone();
        let moment = self.moment();
        let step = (self.apply)(&self.workflow, &mut self.run, event, moment);
        check_step(&self.workflow, &before, (event, moment.now), &step, &self.run)?;
        match step {
            Step::Ignored(why) => Ok(Some(why)),
            changed @ Step::Changed { .. } => {
                self.stored.take_page(&self.run.head, event);
                self.answer(changed).map(|()| None)
            }
        }
    }

    /// Keeps the effects of a step and answers its questions.
    fn answer(&mut self, step: Step) -> Check {
        let Step::Changed { effects, questions } = step else { return Ok(()) };
        self.uncommitted.extend(effects);
        for question in questions {
            let answer = self.answer_to(&question);
            self.try_apply(&answer)?;
        }
        Ok(())
    }

    fn answer_to(&self, question: &Question) -> Event {
        let name_of = |place: u16| &self.run.head.entry.handlers[usize::from(place)].name;
        match question {
            Question::Versions { entry, nonce, handlers } => {
                let live = &self.outside.version;
                let resolve = |&handler: &u16| {
                    let is_here = !self.outside.absent.contains(name_of(handler));
                    let pinned = &self.run.head.entry.handlers[usize::from(handler)].version;
                    Resolution {
                        handler,
                        version: is_here.then(|| live.clone()),
                        slots: self.outside.slots.get(name_of(handler)).copied().unwrap_or(1),
                        pinned_lives: is_here && pinned.as_ref() == Some(live),
                    }
                };
                let handlers = handlers.iter().map(resolve).collect();
                Event::Resolved { entry: *entry, nonce: *nonce, handlers }
            }
            Question::List { entry, nonce, handler } => {
                let one = Ok(Listing { total: 1, stored: true });
                let listing = self.outside.lists.get(name_of(*handler)).cloned().unwrap_or(one);
                Event::Enumerated { entry: *entry, nonce: *nonce, handler: *handler, listing }
            }
            Question::Output { entry, nonce } => {
                Event::Concluded { entry: *entry, nonce: *nonce, output: self.outside.output.clone() }
            }
        }
    }

    /// Commits what has changed, checks it, and publishes its effects.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub fn commit(&mut self) -> Check {
        self.commit_only()?;
        self.publish();
        Ok(())
    }

    /// Commits what has changed and checks it; its effects stay in the outbox.
    ///
    /// # Errors
    /// The first invariant that breaks.
    pub fn commit_only(&mut self) -> Check {
        let delta = self.run.take_delta();
        self.stored.commit(&self.run.head, delta, std::mem::take(&mut self.uncommitted))?;
        self.stored.check(&self.run)?;
        check_state(&self.workflow, &self.run)?;
        check_history(&self.workflow, &self.run, &self.stored.history)
    }

    /// Carries out every effect in the outbox. What was published before a crash is published twice.
    pub fn publish(&mut self) {
        for (_, effects) in std::mem::take(&mut self.stored.outbox) {
            effects.iter().for_each(|effect| self.carry_out(effect));
        }
    }

    /// Puts on the wire what `effect` asks for.
    pub fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Dispatch(dispatch) => {
                let (entry, enumerate, handler) = (dispatch.entry, dispatch.enumerate, &dispatch.name);
                let nonce = if enumerate { dispatch.nonce.of_lists() } else { dispatch.nonce };
                let job = |index, attempt, tried, alone| JobOut {
                    entry,
                    nonce,
                    enumerate,
                    handler: handler.clone(),
                    index,
                    attempt,
                    tried,
                    alone,
                };
                let fresh = dispatch.fresh.map_or(0..0, |(first, count)| first..first + count);
                self.jobs.extend(fresh.map(|index| job(index, 1, 1, false)));
                let again = dispatch.again.iter();
                self.jobs.extend(again.map(|it| job(it.index, it.attempt, it.tried, it.alone)));
            }
            Effect::Probe { entry, nonce, phase, handler, sent_at, .. } => {
                let phase = self.workflow.phase(phase).expect("a phase of the workflow");
                let handler = phase.handlers[usize::from(*handler)].name.clone();
                self.probes.push(Event::ProbeReturned { entry: *entry, nonce: *nonce, handler, sent_at: *sent_at });
            }
            Effect::Announce(end) => self.events.push(Event::PhaseFinished { entry: end.entry, nonce: end.nonce }),
            Effect::Tell(lifecycle) => self.told.push(lifecycle.clone()),
            Effect::CancelJobs { entry } => self.jobs.retain(|job| job.entry > *entry),
        }
    }

    /// The coordinator dies: what it held and had not committed is gone, and another loads the run.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub fn crash(&mut self) -> Check {
        self.uncommitted.clear();
        self.run = self.stored.load()?;
        self.stored.note_orphans();
        Ok(())
    }

    /// Moves the clock to the run's timer, if it has one that is not due yet.
    pub fn move_to_timer(&mut self) {
        self.now = self.run.head.wake_at.map_or(self.now, |at| at.max(self.now));
    }

    /// Moves the clock.
    pub fn pass(&mut self, time: Millis) {
        self.now = self.now.plus(time);
    }

    /// The report of a worker on one attempt of the current entry.
    pub fn outcome(&self, handler: &str, index: JobIndex, attempt: Attempt, status: Status) -> Event {
        self.report(handler, &[], vec![Outcome { index, attempt, status, output: None, error: None, details: None }])
    }

    /// The report of a worker on jobs of the current entry.
    pub fn report(&self, handler: &str, done: &[(JobIndex, u64)], outcomes: Vec<Outcome>) -> Event {
        let handler = HandlerName::new(handler).expect("a good handler name");
        let (entry, nonce) = (self.run.head.entry.number, self.nonce_of(&handler));
        Event::JobsFinished { entry, nonce, handler, done: done.to_vec(), outcomes }
    }

    /// The nonce under which is spoken of a handler of the current entry now.
    fn nonce_of(&self, handler: &HandlerName) -> Nonce {
        let entry = &self.run.head.entry;
        let is_listing = entry.handlers.iter().any(|it| it.name == *handler && it.is_listing());
        if is_listing { entry.nonce.of_lists() } else { entry.nonce }
    }

    /// A page of a list that a handler of the current entry makes itself: so many jobs from `first` on.
    pub fn page(&self, handler: &str, attempt: Attempt, list: u64, first: JobIndex, jobs: u64) -> Event {
        let items = (first..first + jobs).map(|index| Payload::from(serde_json::json!([list, index]))).collect();
        let (entry, nonce) = (self.run.head.entry.number, self.run.head.entry.nonce.of_lists());
        let handler = HandlerName::new(handler).expect("a good handler name");
        Event::JobsListed { entry, nonce, handler, attempt, list: Nonce(list), first, items: Ok(items) }
    }

    /// A page that cannot be taken, of a list that a handler of the current entry makes itself.
    pub fn unfit_page(&self, handler: &str, attempt: Attempt, list: u64, first: JobIndex) -> Event {
        match self.page(handler, attempt, list, first, 0) {
            Event::JobsListed { entry, nonce, handler, attempt, list, first, .. } => {
                let items = Err(JobError::new("output", "a job of it is too large").for_good());
                Event::JobsListed { entry, nonce, handler, attempt, list, first, items }
            }
            other => other,
        }
    }

    /// The number, among these, of the list that is taken of a handler of the current entry; the first if none is.
    pub fn taken_of(&self, handler: &str, attempt: Attempt, numbers: [u64; 2]) -> u64 {
        let entry = &self.run.head.entry;
        let it = entry.handlers.iter().zip(0_u16..).find(|(it, _)| it.name == *handler);
        let taken = it.and_then(|(it, place)| Some((it.enumeration?.list?, place)));
        let is_taken = |&number: &u64| {
            taken.is_some_and(|(taken, place)| taken == entry.nonce.of_list(place, attempt, Nonce(number)))
        };
        numbers.into_iter().find(is_taken).unwrap_or(numbers[0])
    }

    /// A list that a handler of the current entry has made itself is whole.
    pub fn sealed(&self, handler: &str, attempt: Attempt, list: u64, jobs: u64) -> Event {
        let output = Payload::of(&Sealed { list: Nonce(list), jobs }).ok();
        let outcome = Outcome { index: LISTING, attempt, status: Status::Done, output, error: None, details: None };
        let (entry, nonce) = (self.run.head.entry.number, self.run.head.entry.nonce.of_lists());
        let handler = HandlerName::new(handler).expect("a good handler name");
        Event::JobsFinished { entry, nonce, handler, done: Vec::new(), outcomes: vec![outcome] }
    }

    /// The end of the current entry.
    pub fn phase_finished(&self) -> Event {
        Event::PhaseFinished { entry: self.run.head.entry.number, nonce: self.run.head.entry.nonce }
    }

    /// The order to cancel the run at once.
    pub fn cancel(&self) -> Event {
        self.cancel_within(Millis(0))
    }

    /// The order to cancel the run, which gives jobs that run so much time.
    pub fn cancel_within(&self, time: Millis) -> Event {
        let (run, reason) = (self.run.head.id, Some("enough".into()));
        Event::Control(Control { reason, deadline: Some(time), ..Control::new(run, ControlAction::Cancel) })
    }

    /// An order.
    pub fn order(&self, action: ControlAction) -> Event {
        Event::Control(Control::new(self.run.head.id, action))
    }

    /// A worker asks for a lease on the last attempt of a job of the current entry.
    pub fn lease(&self, handler: &str, index: JobIndex, progress: Option<u8>) -> Event {
        let name = HandlerName::new(handler).expect("a good handler name");
        let (entry, nonce) = (self.run.head.entry.number, self.nonce_of(&name));
        let leases = vec![LeaseWanted { index, attempt: self.attempt(handler, index), progress, details: None }];
        Event::Leases { entry, nonce, handler: name, leases }
    }

    /// The number of the last attempt of a job of the current entry; 1 for one that was never out.
    pub fn attempt(&self, handler: &str, index: JobIndex) -> Attempt {
        let place = self.run.head.entry.handlers.iter().position(|it| it.name == *handler);
        let exception = place.and_then(|place| self.run.jobs[place].exception(index));
        exception.map_or(1, |exception| exception.attempt)
    }

    /// Checks that every job that a run waits for is on the wire.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_wire(&self) -> Check {
        let head = &self.run.head;
        let is_over = head.state.is_ended() || head.state == RunState::Canceling;
        if is_over || matches!(head.entry.stage, Stage::Finished { .. }) {
            return Ok(());
        }
        for (handler, place) in self.run.head.entry.handlers.iter().zip(0..) {
            let entry = self.run.head.entry.number;
            for index in 0..handler.cursor {
                let JobStatus::Out(attempt) = JobStatus::of(&self.run, place, index) else { continue };
                let state = self.run.jobs[place].exception(index).map(|exception| exception.state);
                if matches!(state, Some(ExceptionState::Leased(_))) {
                    continue; // it is with whoever has the lease
                }
                let mut jobs = self.jobs.iter();
                let is_out = jobs.any(|job| {
                    let is_it = (job.entry, job.index, job.attempt) == (entry, index, attempt);
                    is_it && job.handler == handler.name && job.enumerate == handler.is_listing()
                });
                ensure(is_out, "no-stranded-run", || format!("{} {index} is nowhere", handler.name))?;
            }
        }
        Ok(())
    }
}

/// What chance gives to an entry, so that the same fate of a run is the same run.
const fn chance(seed: u64, entry: EntryNo) -> u64 {
    (seed ^ ((entry as u64) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
