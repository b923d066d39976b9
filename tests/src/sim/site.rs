//! The programs of a simulation: coordinators and workers that are started, killed, frozen and replaced.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures::FutureExt as _;
use phasework_broker::SharedBroker;
use phasework_engine::engine::Parts;
use phasework_engine::{EngineConfig, RunningEngine};
use phasework_sdk::{CancellationToken, Context, HandlerError, JobList, Worker, WorkerError};
use phasework_workflows::time::{Clock as _, Millis};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::broker::SimBroker;
use super::client::Door;
use super::gateway::{Gateways, Way};
use super::hub::Hub;
use super::process::{Death, Process, Role};
use super::recipe::Recipe;
use super::shapes::{self, Fate, HANDLERS};
use super::store::SimStore;
use super::time::{SimClock, SimIds};
use super::witness::decide;

/// How long a program may take to stop when nothing goes wrong.
const STOPPING: Duration = Duration::from_secs(60);

/// A coordinator.
#[derive(Debug)]
struct Coordinator {
    process: Arc<Process>,
    broker: SimBroker,
    running: RunningEngine,
    clock: SimClock,
}

/// A worker.
#[derive(Debug)]
struct Shift {
    process: Arc<Process>,
    broker: SimBroker,
    stop: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

/// All programs.
pub(super) struct Site {
    hub: Arc<Hub>,
    recipe: Recipe,
    begin: Instant,
    pub(super) door: Door,
    gateways: Arc<Gateways>,
    /// How many coordinator queues a coordinator maps runs onto that is started now.
    pub(super) queues: u16,
    /// The version that a worker hosts that is started now.
    pub(super) version: &'static str,
    coordinators: Vec<Option<Coordinator>>,
    workers: Vec<Option<Shift>>,
    deaths: mpsc::UnboundedSender<Death>,
    started: u32,
    chance: Rng,
}

impl Site {
    /// Nothing runs yet. Whoever holds the other end of `deaths` hears of programs that die by themselves.
    pub(super) fn new(hub: &Arc<Hub>, recipe: &Recipe, chance: Rng, deaths: mpsc::UnboundedSender<Death>) -> Self {
        Self {
            hub: Arc::clone(hub),
            recipe: recipe.clone(),
            begin: Instant::now(),
            door: Door::default(),
            gateways: Gateways::new(recipe.coordinators),
            queues: recipe.queues,
            version: "1.0.0",
            coordinators: (0..recipe.coordinators).map(|_| None).collect(),
            workers: (0..recipe.workers).map(|_| None).collect(),
            deaths,
            started: 0,
            chance,
        }
    }

    pub(super) const fn count(&self, role: Role) -> usize {
        match role {
            Role::Coordinator => self.coordinators.len(),
            Role::Worker => self.workers.len(),
        }
    }

    /// Starts a program where none is.
    pub(super) fn start(&mut self, role: Role, place: usize) {
        match role {
            Role::Coordinator if self.coordinators[place].is_none() => self.start_coordinator(place, false),
            Role::Worker if self.workers[place].is_none() => self.start_worker(place),
            Role::Coordinator | Role::Worker => {}
        }
    }

    pub(super) fn start_all(&mut self) {
        (0..self.coordinators.len()).for_each(|place| self.start(Role::Coordinator, place));
        (0..self.workers.len()).for_each(|place| self.start(Role::Worker, place));
    }

    pub(super) fn start_coordinator(&mut self, place: usize, adopt: bool) {
        let process = self.process(Role::Coordinator, place);
        let broker = SimBroker::new(&self.hub, &process);
        let clock = SimClock::new(self.begin);
        let config = EngineConfig {
            coordinator_queues: self.queues,
            prefetch: self.recipe.prefetch,
            batch: self.recipe.batch,
            cached_runs: self.recipe.cached_runs,
            tick: Millis(self.recipe.tick.as_millis() as u64),
            adopt,
            ..EngineConfig::new(process.name.as_str())
        };
        let running = phasework_engine::start(Parts {
            store: Arc::new(SimStore { hub: Arc::clone(&self.hub), process: Arc::clone(&process) }),
            broker: Arc::new(broker.clone()),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(SimIds::new(self.chance.fork())),
            decide,
            config: Arc::new(config),
        });
        let running = running.expect("the settings are sound");
        tracing::info!(process = process.name, queues = self.queues, adopt, "starts");
        self.door.add(Arc::clone(&process), running.engine().clone());
        self.gateways.open(&process, &broker, Arc::new(SimIds::new(self.chance.fork())));
        self.coordinators[place] = Some(Coordinator { process, broker, running, clock });
    }

    fn start_worker(&mut self, place: usize) {
        let process = self.process(Role::Worker, place);
        let broker = SimBroker::new(&self.hub, &process);
        let (clock, ids) = (SimClock::new(self.begin), SimIds::new(self.chance.fork()));
        // The first worker has every handler; what others have is chance.
        let names = HANDLERS.into_iter().filter(|name| place == 0 || self.chance.bool() || *name == HANDLERS[0]);
        let names: Vec<_> = names.collect();
        let way = (self.chance.u8(0..3) == 0).then(|| Way {
            hub: Arc::clone(&self.hub),
            process: Arc::clone(&process),
            gateways: Arc::clone(&self.gateways),
            seed: self.chance.u64(..),
        });
        let (slots, lease_after, version) = (self.recipe.slots, self.recipe.lease_after, self.version);
        let (hub, its) = (Arc::clone(&self.hub), Arc::clone(&process));
        let set_up = move |broker: SharedBroker| {
            let worker = Worker::new(broker)
                .clock(Arc::new(clock))
                .ids(Arc::new(ids))
                .concurrency(slots)
                .drain_timeout(Duration::from_secs(8))
                .lease_after(lease_after);
            names.into_iter().fold(worker, |worker, name| {
                let (hub, process) = (Arc::clone(&hub), Arc::clone(&its));
                let (its_hub, its_process) = (Arc::clone(&hub), Arc::clone(&process));
                let handler = move |input, ctx| work(Arc::clone(&hub), Arc::clone(&process), input, ctx);
                let lister =
                    move |_: IgnoredAny, jobs, ctx| list(Arc::clone(&its_hub), Arc::clone(&its_process), jobs, ctx);
                worker.handler(name, version, handler).enumerate(lister)
            })
        };
        let stop = CancellationToken::new();
        let (until, direct) = (stop.clone(), broker.clone());
        tracing::info!(process = process.name, over_http = way.is_some(), "connects");
        let task = tokio::spawn(async move {
            let broker = match way {
                Some(way) => way.connect(&until).await,
                None => Some(Arc::new(direct) as SharedBroker),
            };
            match broker {
                Some(broker) => set_up(broker).run_until(until).await,
                None => Ok(()), // told to stop before a gateway could be reached
            }
        });
        tracing::info!(process = process.name, version = self.version, "starts");
        self.workers[place] = Some(Shift { process, broker, stop, task });
    }

    fn process(&mut self, role: Role, place: usize) -> Arc<Process> {
        self.started += 1;
        Process::start(role, place, self.started, &self.deaths)
    }

    /// Clears away a program that is dead: the broker sees its connections close.
    pub(super) async fn bury(&mut self, dead: &Arc<Process>) {
        self.door.remove(dead);
        if dead.role == Role::Coordinator {
            self.gateways.close(dead);
        }
        match dead.role {
            Role::Coordinator => {
                let place = &mut self.coordinators[dead.place];
                if let Some(coordinator) = place.take_if(|other| Arc::ptr_eq(&other.process, dead)) {
                    drop(coordinator.running);
                    coordinator.broker.end().await;
                }
            }
            Role::Worker => {
                let place = &mut self.workers[dead.place];
                if let Some(shift) = place.take_if(|other| Arc::ptr_eq(&other.process, dead)) {
                    shift.task.abort();
                    shift.broker.end().await;
                }
            }
        }
    }

    /// Stops a program as SIGTERM does; one that takes too long is killed.
    pub(super) fn stop(&mut self, role: Role, place: usize, patience: Duration) -> Option<JoinHandle<bool>> {
        match role {
            Role::Coordinator => {
                let Coordinator { process, broker, running, .. } = self.coordinators[place].take()?;
                self.door.remove(&process);
                self.gateways.close(&process);
                tracing::info!(process = process.name, "is told to stop");
                Some(tokio::spawn(async move {
                    // One that dies meanwhile has stopped too, for this purpose.
                    let has_stopped = timeout(patience, running.stop()).await.is_ok() || process.is_dead();
                    process.kill();
                    broker.end().await;
                    has_stopped
                }))
            }
            Role::Worker => {
                let Shift { process, broker, stop, mut task } = self.workers[place].take()?;
                tracing::info!(process = process.name, "is told to stop");
                stop.cancel();
                Some(tokio::spawn(async move {
                    let ended = timeout(patience, &mut task).await;
                    let has_stopped = matches!(ended, Ok(Ok(Ok(())))) || process.is_dead();
                    task.abort();
                    process.kill();
                    broker.end().await;
                    has_stopped
                }))
            }
        }
    }

    /// Stops everything, workers first. All of it has to stop well.
    pub(super) async fn stop_all(&mut self) {
        for role in [Role::Worker, Role::Coordinator] {
            for place in 0..self.count(role) {
                let Some(stopping) = self.stop(role, place, STOPPING) else { continue };
                let has_stopped = matches!(stopping.await, Ok(true));
                let name = || format!("{role:?} {} did not stop when it was told to", place + 1);
                self.hub.witness.says("no-stranded-run", has_stopped, name);
            }
        }
    }

    /// A program, if one is there.
    pub(super) fn program(&self, role: Role, place: usize) -> Option<(Arc<Process>, SimBroker)> {
        match role {
            Role::Coordinator => {
                self.coordinators[place].as_ref().map(|it| (Arc::clone(&it.process), it.broker.clone()))
            }
            Role::Worker => self.workers[place].as_ref().map(|it| (Arc::clone(&it.process), it.broker.clone())),
        }
    }

    /// Has every program lose its connections.
    pub(super) async fn lose_connections(&self) {
        for role in [Role::Coordinator, Role::Worker] {
            for place in 0..self.count(role) {
                if let Some((_, broker)) = self.program(role, place) {
                    broker.lose_connection().await;
                }
            }
        }
    }

    /// Has the clock of a coordinator be wrong by so many milliseconds.
    pub(super) fn set_clock(&self, place: usize, error: i64) {
        if let Some(coordinator) = &self.coordinators[place] {
            coordinator.clock.jump(error);
            tracing::info!(process = coordinator.process.name, now = ?coordinator.clock.now(), "clock jumps");
        }
    }

    /// Everything goes on, with clocks that are right.
    pub(super) fn thaw_all(&self) {
        for coordinator in self.coordinators.iter().flatten() {
            coordinator.process.thaw();
            coordinator.clock.jump(0);
        }
        self.workers.iter().flatten().for_each(|shift| shift.process.thaw());
    }

    /// Why each coordinator has ended though nobody asked it to; none for one that has not after a while.
    pub(super) async fn coordinators_failed(&mut self) -> Vec<Option<String>> {
        let mut failures = Vec::new();
        for place in 0..self.coordinators.len() {
            let Some(coordinator) = &mut self.coordinators[place] else { continue };
            let failed = timeout(STOPPING, coordinator.running.failed()).await;
            failures.push(failed.ok());
            let process = Arc::clone(&coordinator.process);
            process.kill();
            self.bury(&process).await;
        }
        failures
    }

    /// Says which programs have ended though nobody asked them to.
    pub(super) fn check_programs(&mut self) {
        let ended_by_itself = |name: &str, why: &str| format!("{name} has ended by itself: {why}");
        for shift in self.workers.iter().flatten() {
            let is_well = shift.process.is_dead() || !shift.task.is_finished();
            self.hub.witness.says("no-stranded-run", is_well, || ended_by_itself(&shift.process.name, "a worker"));
        }
        for Coordinator { process, running, .. } in self.coordinators.iter_mut().flatten() {
            if let (Some(why), false) = (running.failed().now_or_never(), process.is_dead()) {
                self.hub.witness.says("no-stranded-run", false, || ended_by_itself(&process.name, &why));
            }
        }
    }
}

/// What every handler does: what is the fate of the job.
async fn work(hub: Arc<Hub>, process: Arc<Process>, input: Value, ctx: Context) -> Result<Value, HandlerError> {
    process.gate().await;
    let key = hub.witness.begins(&ctx);
    if let (Some(list), Some(index)) = (input["list"].as_u64(), input["index"].as_u64()) {
        hub.witness.is_of_list(&ctx, list, index);
    }
    let executions = hub.witness.seen().jobs.get(&key).map_or(0, |job| job.begun.len() as u64);
    let (fate, length) = shapes::fate(&ctx);
    for quarter in 0..4_u8 {
        ctx.progress(quarter * 25);
        sleep(length / 4).await;
    }
    process.gate().await;
    match fate {
        Fate::Fails(times) if ctx.try_number() <= times => Err(HandlerError::retry("not yet")),
        Fate::Fatal => Err(HandlerError::fail("never")),
        Fate::Panics if executions == 1 => panic!("{PANIC}"),
        Fate::Hangs if ctx.try_number() == 1 => {
            ctx.canceled().await;
            Err(HandlerError::retry("it was stopped"))
        }
        Fate::Kills(times) if executions <= times => match process.die().await {},
        _ => {
            hub.witness.ends(&key);
            Ok(shapes::output(&ctx))
        }
    }
}

/// How every handler lists its jobs: no two of its lists are alike.
async fn list(hub: Arc<Hub>, process: Arc<Process>, jobs: JobList<Value>, ctx: Context) -> Result<(), HandlerError> {
    process.gate().await;
    let (begun, list) = hub.witness.begins_list(&ctx);
    let (fate, length) = shapes::fate(&ctx);
    let count = shapes::size_of_list(&ctx, list);
    for index in 0..count {
        jobs.push(json!({ "list": list, "index": index })).await?;
        sleep(length / 2).await;
        process.gate().await;
        // In the middle, where there is one.
        match fate {
            _ if index != count / 2 => {}
            Fate::Fails(times) if ctx.try_number() <= times => return Err(HandlerError::retry("not yet")),
            Fate::Fatal => return Err(HandlerError::fail("never")),
            Fate::Panics if begun == 1 => panic!("{PANIC}"),
            Fate::Hangs if ctx.try_number() == 1 => {
                ctx.canceled().await;
                return Err(HandlerError::retry("it was stopped"));
            }
            Fate::Kills(times) if begun <= times => match process.die().await {},
            _ => {}
        }
    }
    Ok(())
}

/// What handlers say that panic, for whoever does not want to read it.
pub const PANIC: &str = "a handler that panics, as the simulation has it";
