//! What one round runs on: an engine in memory, a gateway on a free port of this machine, and the user's worker, which is
//! started again whenever it is killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::SharedBroker;
use phasework_broker::memory::MemoryBroker;
use phasework_engine::api::{GatewayConfig, gateway_router};
use phasework_engine::engine::Parts;
use phasework_engine::{Engine, EngineConfig, RunDetail, RunningEngine, Submission, start};
use phasework_store::memory::MemoryStore;
use phasework_workflows::id::{EntryNo, RunId, SystemIds};
use phasework_workflows::message::event::PhaseStatus;
use phasework_workflows::run::{HistoryKind, RunState, apply};
use phasework_workflows::time::SystemClock;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::round::Round;
use crate::commands::between::BetweenBroker;
use crate::failure::{Exit, Failure};
use crate::program::{CommandLine, Program};

/// How long a worker that is asked to stop may take.
const STOPPING: Duration = Duration::from_secs(40);

/// What became of the run of a round.
pub(super) struct Played {
    pub(super) detail: RunDetail,
    /// Entries that were left before all of their jobs had come to an end: which of these were done is chance.
    pub(super) cut_short: BTreeSet<EntryNo>,
}

/// How many events of a run's history are read at once.
const PAGE: usize = 1000;

/// What a round runs on.
pub(super) struct Site {
    engine: RunningEngine,
    url: String,
    _gateway: AbortOnDropHandle<()>,
}

impl Site {
    /// Builds it.
    pub(super) async fn build(round: &Round) -> Result<Self, Failure> {
        let broken =
            |error: &dyn std::fmt::Display| Failure::new(Exit::Bad, format!("the engine cannot be started: {error}"));
        let memory = MemoryBroker::new();
        let broker: SharedBroker = Arc::new(memory.connect());
        let engine = start(Parts {
            store: Arc::new(MemoryStore::new()),
            broker,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            decide: apply,
            config: Arc::new(EngineConfig::new("drill")),
        });
        let engine = engine.map_err(|error| broken(&error))?;
        let disturbed = BetweenBroker { within: Arc::new(memory.connect()), between: round.clone() };
        let router = gateway_router(Arc::new(disturbed), Arc::new(SystemIds), GatewayConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| broken(&error))?;
        let url = format!("http://{}", listener.local_addr().map_err(|error| broken(&error))?);
        // It ends with the round; until then it serves, whatever becomes of one connection.
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { engine, url, _gateway: AbortOnDropHandle::new(serving) })
    }

    /// Runs the workflow with the worker, until the run has ended or halted. The worker is killed whenever the round asks.
    pub(super) async fn play(
        &self,
        command: &CommandLine,
        submission: Submission,
        round: &Round,
        patience: Duration,
    ) -> Result<Played, Failure> {
        let mut worker = command.start(&self.environment())?;
        let engine = self.engine.engine().clone();
        let ended = tokio::time::timeout(patience, ended(&engine, submission, round));
        tokio::pin!(ended);
        let ended = loop {
            tokio::select! {
                biased;
                () = round.killing() => {
                    worker.kill().await;
                    round.bury();
                    worker = command.start(&self.environment())?;
                }
                Some(status) = worker.ended(patience) => return Err(died(&worker, &status.to_string())),
                ended = &mut ended => break ended,
            }
        };
        worker.terminate();
        if worker.ended(STOPPING).await.is_none() {
            worker.kill().await;
        }
        match ended {
            Ok(ended) => ended,
            Err(_) => {
                let words = format!("the run has not ended within {} s", patience.as_secs());
                let lines = worker.last_lines();
                let hint =
                    "a handler that the workflow needs may be missing, or slow: --patience 10m; the worker wrote:";
                Err(Failure::new(Exit::Bad, words).hint(format!("{hint}\n  {}", lines.join("\n  "))))
            }
        }
    }

    fn environment(&self) -> [(String, String); 2] {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        [set("PHASEWORK_URL", &self.url), set("PHASEWORK_DRAIN_TIMEOUT", "5s")]
    }

    /// Takes it down.
    pub(super) async fn strike(self) {
        self.engine.stop().await;
    }
}

async fn ended(engine: &Engine, submission: Submission, round: &Round) -> Result<Played, Failure> {
    let failed = |error: phasework_engine::EngineError| Failure::new(Exit::Bad, error.to_string());
    let run = engine.submit(submission).await.map_err(failed)?.run;
    let detail = loop {
        let detail = engine.wait(run, Duration::from_secs(30)).await.map_err(failed)?;
        if detail.head.state.is_ended() || detail.head.state == RunState::Halted {
            break detail;
        }
    };
    round.settled().await;
    let cut_short = cut_short(engine, run).await.map_err(failed)?;
    Ok(Played { detail, cut_short })
}

/// The entries of a run that were left before all of their jobs had come to an end.
async fn cut_short(engine: &Engine, run: RunId) -> Result<BTreeSet<EntryNo>, phasework_engine::EngineError> {
    let (mut cut_short, mut after) = (BTreeSet::new(), 0);
    loop {
        let events = engine.history(run, after, PAGE).await?;
        let Some(last) = events.last() else { return Ok(cut_short) };
        after = last.n;
        cut_short.extend(events.iter().filter_map(|event| match event.what {
            HistoryKind::Finished { entry, status: PhaseStatus::Failed, .. } | HistoryKind::Abandoned { entry, .. } => {
                Some(entry)
            }
            _ => None,
        }));
    }
}

fn died(worker: &Program, how: &str) -> Failure {
    let lines = worker.last_lines();
    let failure = Failure::new(Exit::Bad, format!("the worker ended by itself: {how}"));
    if lines.is_empty() { failure } else { failure.hint(format!("it wrote:\n  {}", lines.join("\n  "))) }
}
