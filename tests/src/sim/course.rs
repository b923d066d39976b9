//! The course of a simulation: programs start, faults strike at their times, then all is made well, and every run has to
//! come to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use phasework_broker::{Address, Broker as _};
use phasework_workflows::id::RunId;
use phasework_workflows::run::RunState;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::breaks::Break;
use super::fault::{Fault, Faults};
use super::hub::{Hub, Trouble};
use super::kept::Kept;
use super::process::{Death, Process, Role};
use super::recipe::Recipe;
use super::shapes::HANDLERS;
use super::site::Site;
use super::witness::{Witness, watch};
use super::{Outcome, client, judge};

/// A run that has not moved for so long, with everything well, is stranded. The longest that a live run may be silent:
/// a probe that got lost is followed by another after at most eight minutes here, and a job may run for a while.
const STRANDED: Duration = Duration::from_secs(15 * 60);

/// No simulation takes longer.
const ENDLESS: Duration = Duration::from_secs(3 * 60 * 60);

/// How long it takes at most until what was left unpublished is swept up.
const SWEEPS: Duration = Duration::from_secs(120);

/// After how long the broker notices that a frozen program does not answer.
const HEARTBEATS: Duration = Duration::from_secs(20);

/// Something to be done at a time.
enum Deed {
    Strike(Fault),
    Start(Role, usize),
    Replace(Role, usize),
    Thaw(Arc<Process>),
    /// The broker gives up on a program that was frozen.
    GiveUp(Arc<Process>),
    End(Trouble),
    SetClock(usize, i64),
    Rewind,
}

/// Plays a recipe.
pub(super) async fn run(recipe: &Recipe, broken: Option<Break>) -> Outcome {
    let mut chance = Rng::with_seed(recipe.seed ^ 0x5bd1_e995);
    let begin = Instant::now();
    let witness = Arc::new(Witness::default());
    let faults = Faults::new(&recipe.faults, recipe.calm, chance.fork());
    let hub = Hub::new(Kept::new(recipe.on_sqlite), faults, Arc::clone(&witness), broken, chance.fork());
    let (deaths, died) = mpsc::unbounded_channel();
    let site = Site::new(&hub, recipe, chance.fork(), deaths);
    let mut course =
        Course { recipe, hub: Arc::clone(&hub), site, died, agenda: BTreeMap::new(), noted: 0, chance, begin };
    let watching = watch(&witness, broken);
    course.play().await;
    drop(watching);
    let seen = witness.seen();
    let executions = seen.jobs.values().map(|job| job.begun.len() as u64).sum();
    let calls = (
        hub.calls.0.load(std::sync::atomic::Ordering::Relaxed),
        hub.calls.1.load(std::sync::atomic::Ordering::Relaxed),
    );
    let happened = seen.happened.clone();
    drop(seen);
    Outcome {
        broken: witness.broken(),
        struck: hub.faults.struck(),
        happened,
        calls,
        executions,
        length: begin.elapsed(),
    }
}

struct Course<'a> {
    recipe: &'a Recipe,
    hub: Arc<Hub>,
    site: Site,
    died: mpsc::UnboundedReceiver<Death>,
    /// By time, and in the order in which they were noted.
    agenda: BTreeMap<(Instant, u64), Deed>,
    noted: u64,
    chance: Rng,
    begin: Instant,
}

impl Course<'_> {
    async fn play(&mut self) {
        for &(at, fault) in &self.recipe.strikes {
            self.note(self.begin + at, Deed::Strike(fault));
        }
        self.site.start_all();
        let mut clients = JoinSet::new();
        for plan in &self.recipe.runs {
            let (hub, door) = (Arc::clone(&self.hub), self.site.door.clone());
            clients.spawn(client::want(hub, door, plan.clone(), self.recipe.definitions[plan.definition].clone()));
        }
        if !self.go_wrong().await {
            return;
        }
        self.make_well().await;
        if let Some(runs) = self.see_to_the_end(&mut clients).await {
            self.wait_for_sweeps().await;
            let (store, rewinds) = (self.hub.store(), self.hub.rewinds());
            judge::judge(&self.hub.witness, &*store, self.recipe, rewinds, &runs).await;
            self.site.stop_all().await;
        }
    }

    fn note(&mut self, at: Instant, deed: Deed) {
        self.noted += 1;
        self.agenda.insert((at, self.noted), deed);
    }

    fn later(&mut self, from: u64, to: u64, deed: Deed) {
        let wait = Duration::from_millis(self.chance.u64(from..=to));
        self.note(Instant::now() + wait, deed);
    }

    /// Lets faults strike until their time is over. Whether nothing was found broken meanwhile.
    async fn go_wrong(&mut self) -> bool {
        let over = self.begin + self.recipe.length;
        while Instant::now() < over {
            if !self.step(over).await {
                return false;
            }
        }
        true
    }

    /// Waits for the next thing to happen, at most until a time, and deals with it. Whether all is well so far.
    async fn step(&mut self, until: Instant) -> bool {
        let next = self.agenda.first_key_value().map_or(until, |(&(at, _), _)| at.min(until));
        tokio::select! {
            biased;
            () = self.hub.witness.alarmed() => return false,
            Some(dead) = self.died.recv() => {
                self.site.bury(&dead).await;
                self.later(100, 8_000, Deed::Start(dead.role, dead.place));
            }
            () = sleep_until(next) => {
                while let Some(entry) = self.agenda.first_entry()
                    && entry.key().0 <= Instant::now()
                {
                    let deed = entry.remove();
                    self.do_it(deed).await;
                }
            }
        }
        true
    }

    async fn do_it(&mut self, deed: Deed) {
        match deed {
            Deed::Strike(fault) => {
                tracing::info!(%fault, "strikes");
                self.strike(fault).await;
            }
            Deed::Start(role, place) => self.site.start(role, place),
            Deed::Replace(role, place) => self.replace(role, place),
            Deed::Thaw(process) => process.thaw(),
            Deed::GiveUp(frozen) => {
                if let Some((process, broker)) = self.site.program(frozen.role, frozen.place)
                    && Arc::ptr_eq(&process, &frozen)
                    && !process.runs()
                {
                    broker.lose_connection().await;
                }
            }
            Deed::End(trouble) => self.hub.end(trouble),
            Deed::SetClock(place, error) => self.site.set_clock(place, error),
            Deed::Rewind => {
                if self.hub.rewind_store() {
                    self.hub.faults.note(Fault::StoreRewound);
                    tracing::info!("the store goes back");
                    self.hub.witness.rewound(&*self.hub.store()).await;
                }
            }
        }
    }

    async fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::CoordinatorReplaced => self.replace_any(Role::Coordinator),
            Fault::WorkerReplaced => {
                self.site.version = if self.chance.bool() { "1.1.0" } else { "1.0.0" };
                self.replace_any(Role::Worker);
            }
            Fault::CoordinatorFrozen => self.freeze(Role::Coordinator),
            Fault::WorkerFrozen => self.freeze(Role::Worker),
            Fault::ConnectionLost => {
                let (role, place) = self.any();
                if let Some((_, broker)) = self.site.program(role, place) {
                    broker.lose_connection().await;
                }
            }
            Fault::ClockJumps => {
                let place = self.chance.usize(0..self.site.count(Role::Coordinator));
                let error = self.chance.i64(-30_000..=30_000);
                self.site.set_clock(place, error);
                self.later(1_000, 30_000, Deed::SetClock(place, 0));
            }
            Fault::QueuesChanged => {
                self.site.queues = self.chance.u16(1..=5);
                for place in 0..self.site.count(Role::Coordinator) {
                    self.later(0, 6_000, Deed::Replace(Role::Coordinator, place));
                }
            }
            Fault::BrokerRestarted => {
                self.begin_trouble(Trouble::BrokerAway, 100, 20_000);
                self.site.lose_connections().await;
            }
            Fault::BrokerLost => {
                self.hub.lose_broker();
                self.begin_trouble(Trouble::BrokerAway, 100, 10_000);
                self.site.lose_connections().await;
            }
            Fault::QueueDeleted => {
                let queue = self.any_queue();
                // Nothing can fail: there is no connection to lose.
                self.hub.broker().0.delete(&queue).await.expect("a broker in memory");
            }
            Fault::QueuePurged => {
                let queue = self.any_queue();
                self.hub.broker().0.purge(&queue);
            }
            Fault::PublishersBlocked => self.begin_trouble(Trouble::PublishersBlocked, 1_000, 25_000),
            Fault::StoreAway => self.begin_trouble(Trouble::StoreAway, 100, 25_000),
            Fault::StoreFull => self.begin_trouble(Trouble::StoreFull, 100, 25_000),
            Fault::StoreRewound if self.hub.store().marker().await.is_ok_and(|marker| marker.is_some()) => {
                self.hub.back_up().await;
                return self.later(100, 10_000, Deed::Rewind);
            }
            // A store from before its first use is an empty one, which is another fault.
            Fault::StoreRewound => return self.later(1_000, 3_000, Deed::Strike(fault)),
            _ => return, // those that strike at calls, or at the end
        }
        self.hub.faults.note(fault);
    }

    fn begin_trouble(&mut self, trouble: Trouble, from: u64, to: u64) {
        self.hub.begin(trouble);
        self.later(from, to, Deed::End(trouble));
    }

    fn any(&mut self) -> (Role, usize) {
        let role = if self.chance.bool() { Role::Coordinator } else { Role::Worker };
        (role, self.chance.usize(0..self.site.count(role)))
    }

    fn any_queue(&mut self) -> Address {
        if self.chance.bool() {
            return Address::Coordinator(self.chance.u16(0..self.recipe.queues));
        }
        let handler = HANDLERS[self.chance.usize(0..HANDLERS.len())];
        Address::Jobs(format!("{handler}.{}", self.site.version).into())
    }

    fn replace_any(&mut self, role: Role) {
        let place = self.chance.usize(0..self.site.count(role));
        self.replace(role, place);
    }

    /// Stops a program and starts another soon; under faults it may not stop well.
    fn replace(&mut self, role: Role, place: usize) {
        if self.site.stop(role, place, Duration::from_secs(20)).is_some() {
            self.later(0, 3_000, Deed::Start(role, place));
        }
    }

    fn freeze(&mut self, role: Role) {
        let place = self.chance.usize(0..self.site.count(role));
        let Some((process, _)) = self.site.program(role, place) else { return };
        process.freeze();
        tracing::info!(process = process.name, "stands still");
        self.note(Instant::now() + HEARTBEATS, Deed::GiveUp(Arc::clone(&process)));
        let length = [1_000, 10_000, 40_000][self.chance.usize(0..3)];
        self.later(length / 2, length, Deed::Thaw(process));
    }

    /// From now on nothing goes wrong, but what was begun is not undone.
    async fn make_well(&mut self) {
        tracing::info!("all is made well");
        self.hub.faults.end();
        for (_, deed) in std::mem::take(&mut self.agenda) {
            match deed {
                Deed::Rewind => self.do_it(deed).await, // a backup that was never restored would be none
                Deed::Strike(Fault::StoreRewound) => {
                    self.hub.back_up().await;
                    self.do_it(Deed::Rewind).await;
                }
                _ => {}
            }
        }
        self.hub.end_all();
        self.site.thaw_all();
        self.site.start_all();
        if self.recipe.faults.contains(&Fault::StoreEmptied) {
            self.empty_store().await;
        }
        self.site.door.is_well();
    }

    /// Takes all that the store has: coordinators stop and say why, and touch nothing, until one is told to adopt it.
    async fn empty_store(&mut self) {
        sleep(Duration::from_secs(30)).await; // it has to be known by then that the broker is used
        while let Ok(dead) = self.died.try_recv() {
            self.site.bury(&dead).await;
        }
        self.site.start_all();
        sleep(Duration::from_secs(30)).await;
        tracing::info!("the store is emptied");
        self.hub.empty_store();
        self.hub.witness.rewound(&*self.hub.store()).await;
        self.hub.faults.note(Fault::StoreEmptied);
        for round in ["running", "started anew"] {
            for failure in self.site.coordinators_failed().await {
                let is_clear = failure.as_ref().is_some_and(|why| why.contains("--adopt"));
                self.hub.witness.says("no-lost-work", is_clear, || {
                    format!("the store was emptied, and a coordinator that was {round} ended with {failure:?}")
                });
            }
            if round == "running" {
                self.site.start_all();
            }
        }
        self.site.start_coordinator(0, true);
        sleep(Duration::from_secs(30)).await;
        self.site.start_all();
    }

    /// Waits until every run has come to its end. None when that never comes, or something is found broken.
    async fn see_to_the_end(&mut self, clients: &mut JoinSet<RunId>) -> Option<Vec<RunId>> {
        let mut runs = Vec::new();
        let well = Instant::now();
        while !clients.is_empty() {
            let until = Instant::now() + Duration::from_secs(5);
            if !self.step(until).await {
                return None;
            }
            self.site.check_programs();
            while let Some(ended) = clients.try_join_next() {
                runs.push(ended.expect("a client does not panic"));
            }
            if let Some(words) = self.stranded(well) {
                self.hub.witness.says("no-stranded-run", false, || words);
                return None;
            }
        }
        Some(runs)
    }

    /// What a dead coordinator left unpublished at the very end is found by the next sweep.
    async fn wait_for_sweeps(&mut self) {
        let over = Instant::now() + SWEEPS;
        let is_told = |witness: &Witness| {
            let seen = witness.seen();
            seen.runs.iter().all(|(run, it)| !it.state.is_ended() || seen.told.contains(run))
        };
        while Instant::now() < over && !is_told(&self.hub.witness) && self.step(over).await {}
    }

    /// A run that does not move any more.
    fn stranded(&self, well: Instant) -> Option<String> {
        if self.begin.elapsed() > ENDLESS {
            return Some(format!("after {ENDLESS:?} there is no end"));
        }
        let seen = self.hub.witness.seen();
        let goes_on = |state: RunState| !state.is_ended() && state != RunState::Halted && state != RunState::Paused;
        let mut live = seen.runs.iter().filter(|(_, run)| goes_on(run.state));
        let stranded = live.find(|(_, run)| run.changed_at.max(well).elapsed() > STRANDED);
        stranded.map(|(id, run)| format!("run {id} has not moved for {STRANDED:?}: {run:?}"))
    }
}
