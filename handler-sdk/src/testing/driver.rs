//! Plays everything around a run that is tested: answers its questions, carries out its effects, makes the attempts that
//! it asks for, and moves its clock. Decides nothing about the run: that is for `apply`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use phasework_workflows::Payload;
use phasework_workflows::definition::Workflow;
use phasework_workflows::id::{HandlerName, Nonce, RunId};
use phasework_workflows::message::event::StartRun;
use phasework_workflows::message::job::{InputSource, Job, JobGroup};
use phasework_workflows::message::lease::LeaseWanted;
use phasework_workflows::message::listing::Sealed;
use phasework_workflows::message::outcome::Status;
use phasework_workflows::run::{Dispatch, Effect, Event, JobTicket, Moment, Run, RunState, Step, apply, start};
use phasework_workflows::time::{Millis, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::call::{Call, Made, Trial};
use super::ended::EndedRun;
use super::given::Given;
use super::outside::Stored;
use super::run::TestError;
use crate::panics;

/// When every tested run begins.
const BEGINNING: Timestamp = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z

pub(super) struct Driver {
    workflow: Workflow,
    given: Given,
    run: Run,
    stored: Stored,
    /// What has happened and is not applied yet.
    events: VecDeque<Event>,
    /// Attempts that are out, by the order in which they went.
    out: BTreeMap<usize, Out>,
    /// The same, at work.
    at_work: JoinSet<(usize, Made)>,
    /// Calls that have ended.
    calls: BTreeMap<usize, Call>,
    began: Instant,
    /// How much time was skipped.
    skipped: Millis,
    /// How many random numbers were drawn.
    drawn: u64,
    max_output: usize,
}

/// An attempt that is out.
struct Out {
    call: Call,
    canceled: CancellationToken,
    has_started: Arc<AtomicBool>,
}

impl Driver {
    pub(super) fn start(workflow: Workflow, given: Given, data: Option<Payload>, key: Option<&str>) -> Self {
        panics::remember_places();
        let order = StartRun {
            run: RunId::from_key("test", &workflow.name, key.unwrap_or("test")),
            workflow: workflow.name.clone(),
            revision: workflow.revision.clone(),
            key: key.map(Arc::from),
            data: data.clone(),
            reply: None,
            traceparent: None,
            actor: None,
        };
        let moment = Moment { now: BEGINNING, random: 0, listening_since: Timestamp::default() };
        let (run, step) = start(&workflow, &order, moment);
        let mut driver = Self {
            workflow,
            given,
            run,
            stored: Stored::with(data),
            events: VecDeque::new(),
            out: BTreeMap::new(),
            at_work: JoinSet::new(),
            calls: BTreeMap::new(),
            began: Instant::now(),
            skipped: Millis(0),
            drawn: 0,
            max_output: phasework_workflows::message::MAX_PAYLOAD_BYTES,
        };
        driver.follow(step);
        driver
    }

    /// Until the run does not go on.
    pub(super) async fn run(mut self) -> Result<EndedRun, TestError> {
        loop {
            while let Some(event) = self.events.pop_front() {
                self.happen(&event);
            }
            let state = self.run.head.state;
            if state.is_ended() || (state == RunState::Halted && self.out.is_empty()) {
                return Ok(self.ended());
            }
            let due = self.run.head.wake_at;
            if self.out.is_empty() {
                let due = due.ok_or_else(|| self.stuck())?;
                self.skipped = Millis(self.skipped.0 + due.since(self.now()).0);
                let before = self.run.head.clone();
                self.happen(&Event::Wake);
                if self.events.is_empty() && self.run.head == before {
                    return Err(self.stuck());
                }
                continue;
            }
            let wait = due.map(|due| Duration::from(due.since(self.now())));
            tokio::select! {
                biased;
                Some(ended) = self.at_work.join_next() => match ended {
                    Ok((number, made)) => self.note(number, made),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    self.lease();
                    self.events.push_back(Event::Wake);
                }
            }
        }
    }

    fn now(&self) -> Timestamp {
        BEGINNING.plus(self.skipped).plus(Millis::from(self.began.elapsed()))
    }

    fn moment(&mut self) -> Moment {
        self.drawn += 1;
        let random = self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        Moment { now: self.now(), random, listening_since: Timestamp::default() }
    }

    fn happen(&mut self, event: &Event) {
        let moment = self.moment();
        let step = apply(&self.workflow, &mut self.run, event, moment);
        self.follow(step);
    }

    /// Writes down what a step has changed, answers its questions, and then carries out what all of that asked for.
    fn follow(&mut self, first: Step) {
        let (mut effects, mut asked, mut step) = (Vec::new(), VecDeque::new(), Some(first));
        loop {
            if let Some(Step::Changed { effects: more, questions }) = step.take() {
                effects.extend(more);
                asked.extend(questions);
            }
            self.stored.write(self.run.take_delta());
            let Some(question) = asked.pop_front() else { break };
            let answer = self.stored.answer(&self.workflow, &self.given, &self.run.head, question);
            let moment = self.moment();
            step = Some(apply(&self.workflow, &mut self.run, &answer, moment));
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dispatch(dispatch) => self.dispatch(&dispatch),
            Effect::Announce(end) => {
                self.events.push_back(Event::PhaseFinished { entry: end.entry, nonce: end.nonce });
            }
            Effect::CancelJobs { entry } => {
                let reached = self.out.values().filter(|out| out.call.entry <= entry);
                reached.for_each(|out| out.canceled.cancel());
            }
            // Nobody listens; and no job is ever lost here, so a probe has nothing to find out.
            Effect::Tell(_) | Effect::Probe { .. } => {}
        }
    }

    fn dispatch(&mut self, dispatch: &Dispatch) {
        let phase = self.workflow.phase(&dispatch.phase);
        let spec = phase.and_then(|phase| phase.handlers.get(usize::from(dispatch.handler)));
        let Some((spec, hosted)) = spec.and_then(|spec| Some((spec, Arc::clone(self.given.find(spec)?)))) else {
            return;
        };
        let group = Arc::new(JobGroup {
            run: self.run.head.id,
            workflow: self.workflow.name.clone(),
            phase: dispatch.phase.clone(),
            entry: dispatch.entry,
            nonce: if dispatch.enumerate { dispatch.nonce.of_lists() } else { dispatch.nonce },
            handler: dispatch.name.clone(),
            version: dispatch.version.clone(),
            coordinator: 0,
            timeout: spec.timeout,
            max_attempts: spec.retry.max_attempts,
            input: if spec.has_list() && !dispatch.enumerate { InputSource::Index } else { InputSource::Data },
            enumerate: dispatch.enumerate,
            traceparent: None,
            data: self.stored.data.clone(),
            range: None,
            jobs: Vec::new(),
        });
        let (first, count) = dispatch.fresh.unwrap_or((0, 0));
        let fresh = (first..first + count).map(|index| JobTicket { index, attempt: 1, tried: 1, alone: false });
        for JobTicket { index, attempt, tried, .. } in fresh.chain(dispatch.again.iter().copied()) {
            let input =
                if dispatch.stored_inputs { self.stored.input(dispatch.entry, dispatch.handler, index) } else { None };
            let canceled = CancellationToken::new();
            let jobs = self.run.jobs.get(usize::from(dispatch.handler));
            let details = jobs.and_then(|jobs| jobs.exception(index)?.details.clone());
            let job = Job { index, attempt, tried, input, details };
            let trial = Trial::new(Arc::clone(&hosted), Arc::clone(&group), job, canceled.clone());
            let number = self.calls.len() + self.out.len();
            let out = Out { call: trial.call(), canceled, has_started: Arc::clone(&trial.has_started) };
            self.out.insert(number, out);
            let max_output = self.max_output;
            self.at_work.spawn(async move { (number, trial.report(max_output).await) });
        }
    }

    /// An attempt has ended.
    fn note(&mut self, number: usize, made: Made) {
        let Made { call, mut outcome, listed } = made;
        self.out.remove(&number);
        let mut nonce = self.run.head.entry.nonce; // an entry that is over takes nothing, whatever its nonce was
        let (entry, handler, attempt) = (call.entry, call.handler.clone(), call.attempt);
        self.calls.insert(number, call);
        if let Some(items) = listed {
            nonce = nonce.of_lists();
            if outcome.status == Status::Done {
                let (list, first) = (Nonce(number as u64 + 1), 0);
                let sealed = Payload::of(&Sealed { list, jobs: items.len() as u64 });
                outcome.output = sealed.ok();
                self.stored.keep(&self.run.head, entry, &handler, &items);
                let (handler, items) = (handler.clone(), Ok(items));
                self.events.push_back(Event::JobsListed { entry, nonce, handler, attempt, list, first, items });
            }
        }
        self.events.push_back(Event::JobsFinished { entry, nonce, handler, done: Vec::new(), outcomes: vec![outcome] });
    }

    /// Whatever is at work is leased, as it would be by then.
    fn lease(&mut self) {
        let entry = &self.run.head.entry;
        let nonce_of = |name: &HandlerName| {
            let is_listing = entry.handlers.iter().any(|handler| handler.name == *name && handler.is_listing());
            if is_listing { entry.nonce.of_lists() } else { entry.nonce }
        };
        for out in self.out.values().filter(|out| out.has_started.load(Ordering::Relaxed)) {
            let Call { entry, index, attempt, ref handler, .. } = out.call;
            let leases = vec![LeaseWanted { index, attempt, progress: None, details: None }];
            let nonce = nonce_of(handler);
            self.events.push_back(Event::Leases { entry, nonce, handler: handler.clone(), leases });
        }
    }

    fn stuck(&self) -> TestError {
        let head = &self.run.head;
        TestError::Stuck(format!("it is {} in phase `{}`", head.state.as_str(), head.entry.phase))
    }

    fn ended(mut self) -> EndedRun {
        self.at_work.abort_all();
        let took = Duration::from(self.now().since(BEGINNING));
        let unfinished = std::mem::take(&mut self.out).into_iter();
        let unfinished = unfinished.filter(|(_, out)| out.has_started.load(Ordering::Relaxed));
        self.calls.extend(unfinished.map(|(number, out)| (number, out.call)));
        let outputs = self.stored.phases(&self.run.head);
        let outputs = outputs.map(|(phase, handlers)| (phase, handlers.into_iter().collect())).collect();
        EndedRun {
            state: self.run.head.state,
            output: self.stored.output,
            error: self.run.head.cause.map(|cause| cause.error),
            outputs,
            history: self.stored.history,
            calls: self.calls.into_values().collect(),
            took,
        }
    }
}
