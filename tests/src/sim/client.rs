//! Those who submit runs and give orders, as often as it takes until they are answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phasework_engine::{Engine, EngineError, Submission, ToRun};
use phasework_workflows::Payload;
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Control, ControlAction};
use phasework_workflows::run::RunState;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::hub::Hub;
use super::process::Process;
use super::recipe::RunPlan;

/// How long one answer may take; the coordinator that was asked may have died.
const ANSWER: Duration = Duration::from_secs(40);

/// How often a submitter looks after its run.
const LOOK: Duration = Duration::from_secs(2);

/// The coordinators that can be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Door(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    engines: Vec<(Arc<Process>, Engine)>,
    /// Whether nothing goes wrong any more: what has ended stays so.
    is_well: bool,
}

impl Door {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, process: Arc<Process>, engine: Engine) {
        self.open().engines.push((process, engine));
    }

    pub(super) fn remove(&self, gone: &Arc<Process>) {
        self.open().engines.retain(|(process, _)| !Arc::ptr_eq(process, gone));
    }

    pub(super) fn is_well(&self) {
        self.open().is_well = true;
    }

    /// One that seems to be there.
    fn engine(&self, hub: &Hub) -> Option<Engine> {
        let open = self.open();
        let running: Vec<_> = open.engines.iter().filter(|(process, _)| process.runs()).collect();
        let place = hub.below(running.len() as u64) as usize;
        running.get(place).map(|(_, engine)| engine.clone())
    }
}

/// Has a run done: returns once it has ended, or halted for good, and nothing can change that any more.
pub(super) async fn want(hub: Arc<Hub>, door: Door, plan: RunPlan, definition: String) -> RunId {
    let client = Client { hub, door, plan, definition };
    sleep(client.plan.at).await;
    let run = if client.plan.is_doubled {
        let (first, second) = tokio::join!(client.submit(), client.submit());
        client.hub.witness.says("accepted-once", first == second, || format!("one key led to {first} and {second}"));
        first
    } else {
        client.submit().await
    };
    for &(wait, action) in &client.plan.orders {
        sleep(wait).await;
        client.order(run, action).await;
    }
    client.see_to_its_end(run).await;
    run
}

struct Client {
    hub: Arc<Hub>,
    door: Door,
    plan: RunPlan,
    definition: String,
}

impl Client {
    async fn submit(&self) -> RunId {
        loop {
            let submission = Submission {
                what: ToRun::Definition(self.definition.clone()),
                data: Some(Payload::from(json!({ "size": self.plan.size }))),
                key: Some(self.plan.key.as_str().into()),
            };
            if let Some(engine) = self.door.engine(&self.hub) {
                match timeout(ANSWER, engine.submit(submission)).await {
                    Ok(Ok(accepted)) => {
                        tracing::info!(run = %accepted.run, key = self.plan.key, "accepted");
                        return accepted.run;
                    }
                    // What was stored of the definition may just have been lost.
                    Ok(Err(EngineError::Unavailable(_))) | Err(_) => {}
                    Ok(Err(EngineError::NotFound(_))) if self.hub.rewinds() > 0 => {}
                    Ok(Err(error)) => {
                        self.hub.witness.says("accepted-once", false, || format!("{}: {error:?}", self.plan.key));
                    }
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Gives an order until it is answered. A run that is gone is given none.
    async fn order(&self, run: RunId, action: ControlAction) {
        loop {
            if let Some(engine) = self.door.engine(&self.hub) {
                let answered = timeout(ANSWER, engine.order(Control::new(run, action))).await;
                tracing::info!(%run, action = action.as_str(), ?answered, "ordered");
                match answered {
                    Ok(Ok(_)) => return,
                    Ok(Err(EngineError::NotFound(_))) if self.hub.rewinds() > 0 => return,
                    Ok(Err(EngineError::Unavailable(_))) | Err(_) => {}
                    Ok(Err(error)) => {
                        self.hub.witness.says("one-end", false, || format!("{} of {run}: {error}", action.as_str()));
                        return;
                    }
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn see_to_its_end(&self, run: RunId) {
        let mut retries = self.plan.retries;
        loop {
            let state = self.hub.witness.seen().runs.get(&run).map(|run| run.state);
            match state {
                None => {
                    let has_gone_back = self.hub.rewinds() > 0;
                    self.hub.witness.says("accepted-once", has_gone_back, || format!("run {run} is gone"));
                    self.submit().await;
                }
                Some(RunState::Paused) => self.order(run, ControlAction::Resume).await,
                Some(RunState::Halted) if retries > 0 => {
                    retries -= 1;
                    let action = if retries == 0 { ControlAction::Rerun } else { ControlAction::Retry };
                    self.order(run, action).await;
                }
                Some(state) if state == RunState::Halted || state.is_ended() => {
                    if self.door.open().is_well {
                        return;
                    }
                }
                Some(_) => {}
            }
            sleep(LOOK).await;
        }
    }
}
