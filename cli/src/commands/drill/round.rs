//! What a round does, and what it saw: every job that was delivered, every list, and every outcome that a worker reported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phasework_broker::{Address, Delivery, Message};
use phasework_workflows::Payload;
use phasework_workflows::id::{Attempt, EntryNo, HandlerName, JobIndex, Nonce};
use phasework_workflows::message::job::{Job, JobGroup, Jobs};
use phasework_workflows::message::listing::{JobsListed, ListAnswered, Sealed};
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::{Body as _, decode, encode};
use serde_json::Value;
use tokio::sync::Notify;

use super::fault::{Fate, Fault};
use super::held::Held;
use super::ledger::{JobName, Ledger, Work};
use crate::commands::mortal::Life;

/// The most times that the worker is killed over the jobs of one handler, and over its lists.
const KILLS: usize = 3;

/// What a round does, and what it saw. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) fault: Fault,
    pub(super) fate: Fate,
    shared: Arc<Shared>,
    /// That of the worker.
    pub(super) life: Life,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when something was reported, or acknowledged.
    reported: Notify,
    /// Told when the worker is to be killed. However many ask before it is dead, it dies once.
    kill: Notify,
}

/// What names a group of jobs in what is said of it.
type Of = (EntryNo, Nonce, HandlerName);

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    groups: BTreeMap<Of, JobGroup>,
    queues: BTreeMap<Of, Address>,
    inputs: BTreeMap<JobName, Job>,
    /// What was listed of each list that is not known to be whole.
    lists: BTreeMap<(Of, Attempt, Nonce), BTreeMap<JobIndex, Value>>,
    held: Held,
    acknowledged: BTreeSet<(JobName, Attempt)>,
    repeated: BTreeSet<JobName>,
    reported_again: BTreeSet<JobName>,
    /// How often the worker was killed over something of a handler, and over everything.
    kills: BTreeMap<(String, bool), usize>,
    /// Whether the worker is to be killed, and is not dead yet.
    is_dying: bool,
    delayed: usize,
}

/// A job that was delivered.
#[derive(Clone, Debug)]
pub(super) struct Given {
    job: JobName,
    attempt: Attempt,
    /// Whether it had been done before.
    is_again: bool,
}

/// What a worker says of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) job: JobName,
    of: Of,
    outcome: Outcome,
}

impl Round {
    pub(super) fn new(fault: Fault, seed: u64, ledger: Ledger) -> Self {
        let state = Mutex::new(State { ledger, ..State::default() });
        let shared = Arc::new(Shared { state, reported: Notify::new(), kill: Notify::new() });
        Self { fault, fate: Fate(seed), shared, life: Life::default() }
    }

    /// How often it went wrong.
    pub(super) fn disturbances(&self) -> usize {
        let state = self.lock();
        match self.fault {
            Fault::None => 0,
            Fault::Twice => state.repeated.len(),
            Fault::Killed => state.kills.values().sum(),
            Fault::Late => state.delayed,
        }
    }

    /// Everything that was noted so far.
    pub(super) fn into_ledger(self) -> Ledger {
        let mut state = self.lock();
        // Lists that were left off say what they can.
        for ((of, attempt, _), items) in std::mem::take(&mut state.lists) {
            let Some(group) = state.groups.get(&of) else { continue };
            let (job, (items, _)) = (name(group, 0), in_order(items, None));
            state.ledger.note_list(self.fault, job, attempt, items, true);
        }
        std::mem::take(&mut state.ledger)
    }

    /// Waits until what was delivered again was reported again, or was not wanted any more.
    pub(super) async fn settled(&self) {
        self.until(|state| state.repeated.is_subset(&state.reported_again)).await;
    }

    /// Waits until the worker is done with the messages of these.
    pub(super) async fn acknowledged(&self, told: &[Told]) {
        let is_done =
            |state: &State, told: &Told| state.acknowledged.contains(&(told.job.clone(), told.outcome.attempt));
        self.until(|state| told.iter().all(|told| is_done(state, told))).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let reported = self.shared.reported.notified();
            tokio::pin!(reported);
            reported.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            reported.await;
        }
    }

    /// Waits until the worker is to be killed.
    pub(super) async fn killing(&self) {
        self.shared.kill.notified().await;
    }

    /// The worker is dead.
    pub(super) fn bury(&self) {
        self.lock().is_dying = false;
        self.life.end();
    }

    /// Whether the worker is to be killed: nothing that it says is heard any more.
    pub(super) fn is_dying(&self) -> bool {
        self.lock().is_dying
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a job is, to be able to say what an outcome is of, and to deliver it again.
    pub(super) fn note_jobs(&self, from: &Address, delivery: &Delivery) -> Vec<Given> {
        let Ok(Jobs { groups }) = decode::<Jobs>(&delivery.body) else { return Vec::new() };
        let (mut state, mut given) = (self.lock(), Vec::new());
        for group in groups {
            let of = (group.entry, group.nonce, group.handler.clone());
            for job in group.each() {
                let name = name(&group, job.index);
                let is_again = state.repeated.contains(&name);
                given.push(Given { job: name.clone(), attempt: job.attempt, is_again });
                state.held.take(name.clone(), job.attempt, job.tried, group.max_attempts, delivery.redelivered);
                state.inputs.insert(name, job);
            }
            state.queues.insert(of.clone(), from.clone());
            state.groups.insert(of, JobGroup { range: None, jobs: Vec::new(), ..group });
        }
        given
    }

    /// The worker is done with these. A message that came again and is acknowledged was answered for, if only together
    /// with the first.
    pub(super) fn note_acknowledged(&self, given: Vec<Given>) {
        let mut state = self.lock();
        for Given { job, attempt, is_again } in given {
            if is_again {
                state.reported_again.insert(job.clone());
            }
            state.acknowledged.insert((job, attempt));
        }
        drop(state);
        self.shared.reported.notify_waiters();
    }

    /// Whoever makes a list is told that it does not matter any more: it is not to be waited for.
    pub(super) fn note_list_answer(&self, delivery: &Delivery) {
        let Ok(answer) = decode::<ListAnswered>(&delivery.body) else { return };
        if answer.listed.is_none() {
            let mut state = self.lock();
            let group = state.groups.get(&(answer.entry, answer.nonce, answer.handler));
            if let Some(list) = group.map(|group| name(group, 0)) {
                state.reported_again.insert(list);
            }
            drop(state);
            self.shared.reported.notify_waiters();
        }
    }

    /// Notes a page of a list.
    pub(super) fn note_page(&self, page: JobsListed) {
        let of = (page.entry, page.nonce, page.handler);
        let mut state = self.lock();
        let listed = state.lists.entry((of, page.attempt, page.list)).or_default();
        listed.extend((page.first..).zip(page.items.iter().map(Payload::to_value)));
    }

    /// Notes what is reported; what it is of.
    pub(super) fn note_report(&self, report: &JobsFinished) -> Vec<Told> {
        let mut state = self.lock();
        let mut told = Vec::new();
        for group in &report.groups {
            let of = (group.entry, group.nonce, group.handler.clone());
            let Some(known) = state.groups.get(&of).cloned() else { continue };
            for outcome in each(group) {
                let job = name(&known, outcome.index);
                let one = Told { job, of: of.clone(), outcome };
                state.note(self.fault, &one);
                told.push(one);
            }
        }
        drop(state);
        self.shared.reported.notify_waiters();
        told
    }

    /// The engine has heard what became of these.
    pub(super) fn settle(&self, told: &[Told]) {
        let mut state = self.lock();
        told.iter().for_each(|Told { job, outcome, .. }| state.held.settle(job, outcome.attempt));
    }

    /// Whether the worker dies over this report, or is dying already; if so, it is asked to.
    pub(super) fn kills_over(&self, told: &[Told]) -> bool {
        let mut state = self.lock();
        if state.is_dying {
            return true;
        }
        let done = told.iter().filter(|told| told.outcome.status == Status::Done).map(|told| &told.job);
        let over = done.map(|job| (job, (job.handler.clone(), job.work == Work::List))).find(|(job, of)| {
            let so_far = state.kills.get(of).copied().unwrap_or(0);
            so_far < KILLS && self.fate.is_deadly(job, so_far)
        });
        let Some((_, of)) = over.filter(|_| state.held.may_be_lost(&state.ledger)) else { return false };
        *state.kills.entry(of).or_default() += 1;
        state.held.lose();
        state.is_dying = true;
        self.shared.kill.notify_one();
        true
    }

    /// Counts a report that comes late.
    pub(super) fn note_delay(&self) {
        self.lock().delayed += 1;
    }

    /// The messages that deliver again what is told here as done, once each.
    pub(super) fn again(&self, told: &[Told]) -> Vec<Message> {
        let mut state = self.lock();
        let mut again = Vec::new();
        for Told { job, of, outcome } in told.iter().filter(|told| told.outcome.status == Status::Done) {
            let Some(known) = state.inputs.get(job).cloned() else { continue };
            if state.repeated.insert(job.clone()) {
                let jobs = vec![Job { attempt: outcome.attempt, ..known }];
                let group = JobGroup { jobs, ..state.groups[of].clone() };
                let body = encode(&Jobs { groups: vec![group] });
                again.push(Message::new(state.queues[of].clone(), Jobs::KIND, body));
            }
        }
        again
    }
}

impl State {
    fn note(&mut self, fault: Fault, Told { job, of, outcome }: &Told) {
        if self.repeated.contains(job) {
            self.reported_again.insert(job.clone());
        }
        if let (Fault::None, Some(tried)) = (fault, self.held.tried(job, outcome.attempt)) {
            self.ledger.note_try(job.clone(), tried);
        }
        let output = outcome.output.as_ref();
        match (outcome.status, job.work) {
            (Status::Done, Work::Job(_)) => {
                let output = output.map_or(Value::Null, Payload::to_value);
                self.ledger.note(fault, job.clone(), outcome.attempt, output);
            }
            (Status::Done, Work::List) => {
                // One that does not say which list it made has failed, and the run says so.
                let Some(Sealed { list, jobs }) = output.and_then(|output| output.read().ok()) else { return };
                let items = self.lists.remove(&(of.clone(), outcome.attempt, list)).unwrap_or_default();
                let (items, is_whole) = in_order(items, Some(jobs));
                self.ledger.note_list(fault, job.clone(), outcome.attempt, items, !is_whole);
            }
            (Status::Failed | Status::Returned, _) => {}
        }
    }
}

/// What is on a list, as far as nothing is missing before it; whether it has as many items as it should.
fn in_order(items: BTreeMap<JobIndex, Value>, jobs: Option<u64>) -> (Vec<Value>, bool) {
    let count = items.len() as u64;
    let in_order: Vec<_> = (0..).zip(items).take_while(|(at, (index, _))| at == index).map(|(_, (_, it))| it).collect();
    let is_whole = in_order.len() as u64 == count && jobs == Some(count);
    (in_order, is_whole)
}

fn name(group: &JobGroup, index: JobIndex) -> JobName {
    let (phase, handler) = (group.phase.to_string(), group.handler.to_string());
    let work = if group.enumerate { Work::List } else { Work::Job(index) };
    JobName { entry: group.entry, phase, handler, work }
}

fn each(group: &OutcomeGroup) -> impl Iterator<Item = Outcome> + '_ {
    let done = |index| Outcome { index, attempt: 1, status: Status::Done, output: None, error: None, details: None };
    let ranges = group.done.iter().flat_map(|&(first, count)| first..first.saturating_add(count));
    ranges.map(done).chain(group.outcomes.iter().cloned())
}
