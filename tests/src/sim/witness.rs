//! Who looks on while a simulation runs: at every decision, commit, message and acknowledgement, and at what handlers
//! do. The first invariant that does not hold is kept, and ends the simulation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phasework_broker::{Delivery, Message};
use phasework_sdk::Context;
use phasework_store::{Commit, RunVersion, Store, StoredRun};
use phasework_workflows::Version;
use phasework_workflows::definition::{Workflow, parse};
use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce, Revision, RunId};
use phasework_workflows::message::event::{Accepted, Tick};
use phasework_workflows::message::job::{Job, Jobs};
use phasework_workflows::message::lease::LeasesAnswered;
use phasework_workflows::message::notice::{LifecycleEvent, Lifecycles};
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::message::{Body, decode};
use phasework_workflows::run::audit::{Broken, check_state};
use phasework_workflows::run::{Bitmap, Event, FailureRecord, Head, JobSet, Moment, Run, RunState, Stage, Step, apply};
use phasework_workflows::testkit::{JobStatus, check_step};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaks::Break;
use super::process::{Process, Role};

/// More calls to broker and store than this in one second of simulated time are a hot loop.
const HOT: u64 = 10_000;

/// A job, as its handler knows it.
pub(super) type JobKey = (RunId, EntryNo, HandlerName, JobIndex);

/// Who looks on.
#[derive(Debug, Default)]
pub(super) struct Witness {
    seen: Mutex<Seen>,
    broken: Mutex<Option<Broken>>,
    alarm: Notify,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) runs: BTreeMap<RunId, RunSeen>,
    pub(super) jobs: BTreeMap<JobKey, JobSeen>,
    /// How often the making of a list was begun, by entry and handler.
    lists_begun: BTreeMap<(RunId, EntryNo, HandlerName), u64>,
    /// How many lists were begun in all: each has its number.
    lists: u64,
    /// Of which list the jobs of a handler and entry were that were done first.
    list_of: BTreeMap<(RunId, EntryNo, HandlerName), u64>,
    /// Runs whose end was told.
    pub(super) told: BTreeSet<RunId>,
    /// Whether the store ever went back.
    rewound: bool,
    /// Runs that the store had, and lost by going back.
    lost: BTreeSet<RunId>,
    pub(super) workflows: BTreeMap<Revision, Arc<Workflow>>,
    /// What happened, by kind, and how often: messages, events, steps that changed nothing.
    pub(super) happened: BTreeMap<String, u64>,
    /// Attempts that a worker need not answer for any more: reported, leased, or known to be worthless.
    settled: BTreeSet<(RunId, Nonce, HandlerName, JobIndex, Attempt)>,
    /// The current second, and the calls within it.
    calls: (u64, u64),
    begin: Option<Instant>,
}

/// A run, as it was committed last.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunSeen {
    pub(super) version: RunVersion,
    pub(super) state: RunState,
    pub(super) changed_at: Instant,
}

/// What handlers did about a job.
#[derive(Clone, Debug, Default)]
pub(super) struct JobSeen {
    /// Each execution that was begun: its attempt, its try, its handler's version.
    pub(super) begun: Vec<(Attempt, u32, Version)>,
    /// How many were brought to a good end.
    pub(super) done: u64,
}

thread_local! {
    /// Who looks on at decisions made on this thread, and what is to be broken about them.
    static WATCHED: RefCell<Option<(Arc<Witness>, Option<Break>)>> = const { RefCell::new(None) };
}

/// Has decisions on this thread watched until the returned guard is dropped.
pub(super) fn watch(witness: &Arc<Witness>, broken: Option<Break>) -> Watching {
    WATCHED.set(Some((Arc::clone(witness), broken)));
    Watching
}

/// While it lives, decisions are watched.
pub(super) struct Watching;

impl Drop for Watching {
    fn drop(&mut self) {
        WATCHED.set(None);
    }
}

/// Decides as [`apply`] does, and has the decision checked.
pub(super) fn decide(workflow: &Workflow, run: &mut Run, event: &Event, moment: Moment) -> Step {
    let Some((witness, broken)) = WATCHED.with_borrow(Clone::clone) else { return apply(workflow, run, event, moment) };
    let before = run.clone();
    let step = match broken {
        Some(broken) => broken.decide(workflow, run, event, moment),
        None => apply(workflow, run, event, moment),
    };
    witness.decided(event, &step);
    if let Err(broken) = check_step(workflow, &before, (event, moment.now), &step, run) {
        witness.report(broken);
    }
    step
}

impl Witness {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first invariant that does not hold.
    pub(super) fn report(&self, broken: Broken) {
        tracing::error!("{broken}");
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken);
        self.alarm.notify_one();
    }

    pub(super) fn says(&self, invariant: &'static str, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.report(Broken { invariant, words: words() });
        }
    }

    /// What was found broken.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns once something is found broken.
    pub(super) async fn alarmed(&self) {
        self.alarm.notified().await;
    }

    fn decided(&self, event: &Event, step: &Step) {
        let kind = match event {
            Event::JobsFinished { .. } => "JobsFinished",
            Event::JobsListed { .. } => "JobsListed",
            Event::Leases { .. } => "Leases",
            Event::ProbeReturned { .. } => "ProbeReturned",
            Event::PhaseFinished { .. } => "PhaseFinished",
            Event::Resolved { .. } => "Resolved",
            Event::Enumerated { .. } => "Enumerated",
            Event::Concluded { .. } => "Concluded",
            Event::Wake => "Wake",
            Event::Recover => "Recover",
            Event::Control(control) => control.action.as_str(),
        };
        let what = match step {
            Step::Changed { .. } => format!("event {kind}"),
            Step::Ignored(why) => format!("ignored {kind}: {}", why.as_str()),
        };
        *self.seen().happened.entry(what).or_default() += 1;
    }

    /// A message is about to be sent: a worker may be told before its sender is.
    pub(super) fn sends(&self, message: &Message) {
        *self.seen().happened.entry(format!("message {}", message.kind)).or_default() += 1;
    }

    /// Jobs are about to be sent: that they are out is committed.
    pub(super) async fn is_committed(&self, store: &dyn Store, message: &Message) {
        if &*message.kind != Jobs::KIND {
            return;
        }
        let Ok(jobs) = decode::<Jobs>(&message.body) else { return };
        for group in jobs.groups {
            let run = load(store, group.run).await;
            let entry = run.as_ref().map(|run| (run.head.entry.number, run.head.entry.nonce));
            let place = |run: &Run| run.head.entry.handlers.iter().position(|handler| handler.name == group.handler);
            let is_later = entry.is_some_and(|(number, _)| number > group.entry);
            let of_entry = |nonce: Nonce| if group.enumerate { nonce.of_lists() } else { nonce };
            let is_current =
                entry.is_some_and(|(number, nonce)| (number, of_entry(nonce)) == (group.entry, group.nonce));
            // A list that was sealed since has been asked for as well.
            let is_listed = run.as_ref().zip(run.as_ref().and_then(place));
            let is_listed = is_listed.is_some_and(|(run, place)| !run.head.entry.handlers[place].is_listing());
            let is_out = |job: &Job| {
                run.as_ref().is_some_and(|run| {
                    let Some(place) = place(run) else { return false };
                    let exception = run.jobs.get(place).and_then(|jobs| jobs.exception(job.index));
                    let last = exception.map_or(1, |exception| exception.attempt);
                    let has_ended = run.jobs[place].terminal.contains(job.index);
                    job.index < run.head.entry.handlers[place].cursor && (has_ended || job.attempt <= last)
                })
            };
            let is_over = run.as_ref().is_some_and(|run| run.head.state.is_ended());
            let holds = is_later
                || is_over
                || (is_current && ((group.enumerate && is_listed) || group.each().all(|job| is_out(&job))));
            self.says("no-lost-work", holds, || format!("{} of {} was never committed", group.handler, group.run));
        }
    }

    /// A message was confirmed to its sender.
    pub(super) fn sent(&self, process: &str, message: &Message) {
        if is_worth_a_word(&message.kind) {
            tracing::debug!(process, to = ?message.to, kind = &*message.kind, "sent {}", text(&message.body));
        }
        if &*message.kind == Lifecycles::KIND
            && let Ok(told) = decode::<Lifecycles>(&message.body)
        {
            let ended = told.items.iter().filter(|told| told.event == LifecycleEvent::RunFinished);
            self.seen().told.extend(ended.map(|told| told.run));
        }
        if &*message.kind != JobsFinished::KIND {
            return;
        }
        let Ok(finished) = decode::<JobsFinished>(&message.body) else { return };
        let mut seen = self.seen();
        for group in finished.groups {
            let settle = |index, attempt| (group.run, group.nonce, group.handler.clone(), index, attempt);
            for &(first, count) in &group.done {
                seen.settled.extend((first..first + count).map(|index| settle(index, 1)));
            }
            seen.settled.extend(group.outcomes.iter().map(|outcome| settle(outcome.index, outcome.attempt)));
        }
    }

    /// An answer is about to be sent. A run that is said to be accepted is in the store.
    pub(super) async fn answers(&self, store: &dyn Store, message: &Message) {
        *self.seen().happened.entry(format!("message {}", message.kind)).or_default() += 1;
        match &*message.kind {
            Accepted::KIND => {
                let Ok(accepted) = decode::<Accepted>(&message.body) else { return };
                // The store may have gone back between the commit and the answer.
                let is_stored = load(store, accepted.run).await.is_some() || self.seen().lost.contains(&accepted.run);
                self.says("accepted-once", is_stored, || format!("run {} is said to be accepted", accepted.run));
            }
            LeasesAnswered::KIND => {
                let Ok(answered) = decode::<LeasesAnswered>(&message.body) else { return };
                let LeasesAnswered { run, nonce, handler, answers, .. } = answered;
                let settle = |answer: phasework_workflows::message::lease::LeaseAnswer| {
                    (run, nonce, handler.clone(), answer.index, answer.attempt)
                };
                self.seen().settled.extend(answers.into_iter().map(settle));
            }
            _ => {}
        }
    }

    /// Something arrived at a program.
    pub(super) fn delivered(&self, process: &Process, deliveries: &[Delivery]) {
        for delivery in deliveries.iter().filter(|delivery| is_worth_a_word(&delivery.kind)) {
            let redelivered = delivery.redelivered;
            tracing::debug!(
                process = process.name,
                kind = &*delivery.kind,
                redelivered,
                "got {}",
                text(&delivery.body)
            );
        }
    }

    /// A program calls the broker or the store.
    pub(super) fn calls(&self) {
        let mut seen = self.seen();
        let second = seen.begin.get_or_insert_with(Instant::now).elapsed().as_secs();
        if seen.calls.0 != second {
            seen.calls = (second, 0);
        }
        seen.calls.1 += 1;
        let is_hot = seen.calls.1 == HOT;
        drop(seen);
        self.says("bounded-failure", !is_hot, || format!("{HOT} calls within a second"));
    }

    /// A program is about to acknowledge a delivery: what it was about has to be durable.
    pub(super) async fn acknowledges(&self, store: &dyn Store, role: Role, delivery: &Delivery, rewinds: u64) {
        match (role, &*delivery.kind) {
            // What a worker acknowledges through a gateway, a coordinator acknowledges for it.
            (_, Jobs::KIND) => {
                let Ok(jobs) = decode::<Jobs>(&delivery.body) else { return };
                let seen = self.seen();
                let open = jobs.groups.iter().flat_map(|group| group.each().map(move |job| (group, job))).find(
                    |(group, job)| {
                        let key = (group.run, group.nonce, group.handler.clone(), job.index, job.attempt);
                        !seen.settled.contains(&key)
                    },
                );
                let words =
                    open.map(|(group, job)| format!("{} {} of {} is open", group.handler, job.index, group.run));
                drop(seen);
                self.says("no-lost-work", words.is_none(), || words.unwrap_or_default());
            }
            // Attempts of a lost timeline have numbers that come again.
            (Role::Coordinator, JobsFinished::KIND) if rewinds == 0 => {
                let Ok(finished) = decode::<JobsFinished>(&delivery.body) else { return };
                for group in finished.groups {
                    let Some(run) = load(store, group.run).await else { continue };
                    if !self.is_at_work(&run, group.entry, group.nonce) {
                        continue;
                    }
                    let ranged = group.done.iter().flat_map(|&(first, count)| first..first + count);
                    let single = group.outcomes.iter().map(|outcome| (outcome.index, outcome.attempt));
                    for (index, attempt) in ranged.map(|index| (index, 1)).chain(single) {
                        let waits = waits_for(&run, &group.handler, index, attempt);
                        self.says("no-lost-work", !waits, || {
                            format!("{} {index} of {} is out in attempt {attempt}", group.handler, group.run)
                        });
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a run still works on an entry, so that outcomes of its jobs count.
    fn is_at_work(&self, run: &Run, entry: EntryNo, nonce: Nonce) -> bool {
        let head = &run.head;
        let goes_on = matches!(head.state, RunState::Running | RunState::Paused);
        goes_on && head.entry.stage == Stage::Working && (head.entry.number, head.entry.nonce) == (entry, nonce)
    }

    /// A run was committed: what the store now holds keeps the invariants.
    pub(super) async fn committed(&self, store: &dyn Store, process: &str, commit: &Commit) {
        let (run, state) = (commit.run, commit.index.state);
        let seen = RunSeen { version: commit.expect + 1, state, changed_at: Instant::now() };
        tracing::debug!(process, %run, version = seen.version, "commits {} with {}", text(&commit.head), text(&commit.effects));
        let before = {
            let mut all = self.seen();
            all.lost.remove(&run);
            all.runs.insert(run, seen)
        };
        let is_next = before.is_none_or(|before| before.version == commit.expect);
        self.says("counted-once", is_next, || format!("run {run} went from {before:?} to {seen:?}"));
        let was_over = before.is_some_and(|before| before.state.is_ended());
        self.says("one-end", !was_over, || format!("run {run} was {before:?} and is {state:?}"));
        let Some(stored) = load(store, run).await else { return };
        // A definition that the store has lost is stored again soon; the judge looks for it.
        let Some(workflow) = self.workflow(store, &stored.head.revision).await else { return };
        if let Err(broken) = check_state(&workflow, &stored) {
            self.report(broken);
        }
        for failure in &commit.delta.failures {
            self.check_failure(&workflow, &stored, failure);
        }
    }

    /// A job that has failed for good had all the tries that it was to have, unless trying again was said to be no use.
    fn check_failure(&self, workflow: &Workflow, run: &Run, failure: &FailureRecord) {
        let place = usize::from(failure.handler);
        let spec = workflow.phase(&run.head.entry.phase).and_then(|phase| phase.handlers.get(place));
        let record = run.jobs.get(place).and_then(|jobs| jobs.exception(failure.index));
        let (Some(spec), Some(record)) = (spec, record.filter(|_| failure.entry == run.head.entry.number)) else {
            return;
        };
        let had_all = !failure.error.retry || record.failed_tries >= spec.retry.max_attempts;
        self.says("bounded-failure", had_all, || {
            let (tries, most) = (record.failed_tries, spec.retry.max_attempts);
            format!("{} {} of {} was given up after {tries} tries of {most}", spec.name, failure.index, run.head.id)
        });
    }

    /// A definition, as the store has it.
    pub(super) async fn workflow(&self, store: &dyn Store, revision: &Revision) -> Option<Arc<Workflow>> {
        if let Some(workflow) = self.seen().workflows.get(revision) {
            return Some(Arc::clone(workflow));
        }
        let stored = store.workflow(revision).await.ok().flatten()?;
        let workflow = Arc::new(parse(&stored.definition).ok()?.workflow);
        self.seen().workflows.insert(revision.clone(), Arc::clone(&workflow));
        Some(workflow)
    }

    /// The store has gone back: runs are as it has them now.
    pub(super) async fn rewound(&self, store: &dyn Store) {
        // Entries and their lists begin anew, under the numbers that they had before.
        self.seen().rewound = true;
        let known: Vec<_> = self.seen().runs.keys().copied().collect();
        for run in known {
            let stored = store.load(&[run]).await.ok().and_then(|mut runs| runs.remove(0));
            let head = stored.as_ref().and_then(|stored| Head::from_json(&stored.head).ok());
            let mut seen = self.seen();
            match (stored, head) {
                (Some(stored), Some(head)) => {
                    let now = RunSeen { version: stored.version, state: head.state, changed_at: Instant::now() };
                    seen.runs.insert(run, now);
                }
                _ => {
                    seen.runs.remove(&run);
                    seen.lost.insert(run);
                }
            }
        }
    }

    /// A handler begins an execution.
    pub(super) fn begins(&self, ctx: &Context) -> JobKey {
        let key = (ctx.run(), ctx.entry(), ctx.handler().clone(), ctx.index());
        tracing::debug!(run = %key.0, entry = key.1, handler = %key.2, job = key.3, attempt = ctx.attempt(), "begins");
        let execution = (ctx.attempt(), ctx.try_number(), ctx.version().clone());
        self.seen().jobs.entry(key.clone()).or_default().begun.push(execution);
        let within = ctx.try_number() <= ctx.max_attempts();
        self.says("bounded-failure", within, || format!("{key:?} is tried {} times", ctx.try_number()));
        key
    }

    /// A handler begins to make a list: the number of that list, and how often this one was begun.
    pub(super) fn begins_list(&self, ctx: &Context) -> (u64, u64) {
        let key = (ctx.run(), ctx.entry(), ctx.handler().clone());
        tracing::debug!(run = %key.0, entry = key.1, handler = %key.2, attempt = ctx.attempt(), "begins to list");
        let mut seen = self.seen();
        seen.lists += 1;
        let begun = seen.lists_begun.entry(key).or_default();
        *begun += 1;
        (*begun, seen.lists)
    }

    /// A job of a list that a handler made is done: it stands where it stood in the list, and all jobs are of one list.
    pub(super) fn is_of_list(&self, ctx: &Context, list: u64, index: JobIndex) {
        let first = *self.seen().list_of.entry((ctx.run(), ctx.entry(), ctx.handler().clone())).or_insert(list);
        let is_one = (first, ctx.index()) == (list, index) || self.seen().rewound;
        self.says("one-enumeration", is_one, || {
            format!("{}: job {index} of list {list}, and there were jobs of list {first}", ctx.idempotency_key())
        });
    }

    /// A handler brings an execution to a good end.
    pub(super) fn ends(&self, key: &JobKey) {
        if let Some(job) = self.seen().jobs.get_mut(key) {
            job.done += 1;
        }
    }
}

/// Keeps a panic of a program, or of who looks on, as what it is: a failure of the simulation on this thread.
pub fn report_panic(words: &str) {
    let watched = WATCHED.try_with(|watched| watched.try_borrow().ok().and_then(|watched| watched.clone()));
    if let Ok(Some((witness, _))) = watched {
        witness.report(Broken { invariant: "no-lost-work", words: format!("something panicked: {words}") });
    }
}

/// A run, as the store has it.
pub(super) async fn load(store: &dyn Store, run: RunId) -> Option<Run> {
    let stored: StoredRun = store.load(&[run]).await.ok()?.remove(0)?;
    let head = Head::from_json(&stored.head).ok()?;
    let jobs = stored.bits.into_iter().zip(stored.exceptions);
    let jobs = jobs.map(|(bits, exceptions)| JobSet::from_parts(Bitmap::from_bytes(bits), exceptions));
    Some(Run::from_parts(head, jobs.collect()))
}

/// Whether a run waits for the outcome of an attempt that nobody has a lease on.
fn waits_for(run: &Run, handler: &HandlerName, index: JobIndex, attempt: Attempt) -> bool {
    let Some(place) = run.head.entry.handlers.iter().position(|it| it.name == *handler) else { return false };
    let is_leased = run.jobs[place]
        .exception(index)
        .is_some_and(|it| matches!(it.state, phasework_workflows::run::ExceptionState::Leased(_)));
    !is_leased && JobStatus::of(run, place, index) == JobStatus::Out(attempt)
}

/// Whether a trace is to tell of messages of a kind: there are more ticks and heartbeats than anybody wants to read.
fn is_worth_a_word(kind: &str) -> bool {
    ![Tick::KIND, WorkerAnnounced::KIND].contains(&kind)
}

/// A body for people to read.
fn text(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(body)
}
