//! The worker as a handler author sets it up: which handlers, how many jobs at once, when to stop.
//! Nothing is connected or started before `run`; what was set up wrongly is reported there, all of it.

mod start;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{BrokerError, SharedBroker};
use phasework_workflows::Version;
use phasework_workflows::id::{HandlerName, SharedIds, SystemIds, check_name};
use phasework_workflows::message::lease::LEASE_AFTER;
use phasework_workflows::message::{MAX_BODY_BYTES, MAX_PAYLOAD_BYTES};
use phasework_workflows::time::{SharedClock, SystemClock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::{HandlerFn, untyped};
use crate::health::WorkerHealth;
use crate::settings::{Forced, Settings, Target, is_lease_after};
use crate::signals;
use crate::stop::Stop;
use crate::watchdog::{DEFAULT_WATCHDOG, Watchdog};

/// How many jobs of a handler run at once, unless told otherwise.
pub const DEFAULT_CONCURRENCY: u32 = 10;

/// How long jobs that run may go on after the worker was told to stop, unless told otherwise. Container platforms
/// often end a program 30 seconds after the first signal.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Why a worker did not start, or ended by itself. `main` may return it: it shows its message either way.
#[derive(Clone, thiserror::Error)]
pub enum WorkerError {
    /// It was set up wrongly. Every problem is named.
    #[error("the worker is not set up right: {}", .0.join("; "))]
    Setup(Vec<String>),
    /// The broker refused, or was closed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// It was told to stop for good before its outcomes were reported. The jobs will be done again.
    #[error("left at once; jobs whose outcomes were not reported will be done again")]
    LeftAtOnce,
    /// A part of the worker died, which is a bug in it. Start it again.
    #[error("a part of the worker died: {0}")]
    Died(String),
}

impl fmt::Debug for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A process that hosts handlers.
///
/// ```no_run
/// use phasework_sdk::{Context, HandlerError, Worker};
///
/// async fn greet(name: String, _: Context) -> Result<String, HandlerError> {
///     Ok(format!("Hello, {name}"))
/// }
///
/// # async fn start() -> Result<(), phasework_sdk::WorkerError> {
/// Worker::from_env()?.handler("Greeter", "1.0.0", greet).concurrency(64).run().await
/// # }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    carrier: Carrier,
    clock: SharedClock,
    ids: SharedIds,
    handlers: Vec<Registered>,
    problems: Vec<String>,
    concurrency: u32,
    only: Option<Vec<String>>,
    drain_timeout: Duration,
    lease_after: Duration,
    watchdog: Option<Duration>,
    health: WorkerHealth,
    /// What goes before what the program says.
    forced: Forced,
    max_output: usize,
}

/// What carries the messages.
enum Carrier {
    /// Made and closed by somebody else.
    Given(SharedBroker),
    /// To be connected to, and closed at the end.
    At(Target),
}

struct Registered {
    name: HandlerName,
    version: Version,
    handler: HandlerFn,
    concurrency: u32,
    queues: Vec<Arc<str>>,
}

impl Worker {
    /// A worker that reads its settings from the environment:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PHASEWORK_URL` | where the broker is: `amqp://user:password@host:5672/vhost`. Has to be set. |
    /// | `PHASEWORK_PREFIX` | what the names of all queues start with; `phasework` |
    /// | `PHASEWORK_CONCURRENCY` | how many jobs of each handler run at once; goes before what the program says |
    /// | `PHASEWORK_HANDLERS` | host only these of the program's handlers: names with commas between |
    /// | `PHASEWORK_DRAIN_TIMEOUT` | as [`Worker::drain_timeout`], `25s` or `2m`; goes before what the program says |
    /// | `PHASEWORK_LEASE_AFTER` | as [`Worker::lease_after`], `5s`; goes before what the program says |
    /// | `PHASEWORK_WATCHDOG` | as [`Worker::watchdog`], `60s`, or `0s` for none; goes before what the program says |
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn from_env() -> Result<Self, WorkerError> {
        let settings = Settings::read(|name| std::env::var(name).ok()).map_err(WorkerError::Setup)?;
        Ok(Self::from_settings(settings))
    }

    fn from_settings(settings: Settings) -> Self {
        Self { only: settings.handlers, forced: settings.forced, ..Self::on(Carrier::At(settings.target)) }
    }

    /// A worker on a broker that is there already, for tests and programs that hold a whole engine. The broker is not
    /// closed when the worker stops.
    pub fn new(broker: SharedBroker) -> Self {
        Self::on(Carrier::Given(broker))
    }

    fn on(carrier: Carrier) -> Self {
        Self {
            carrier,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            handlers: Vec::new(),
            problems: Vec::new(),
            concurrency: DEFAULT_CONCURRENCY,
            only: None,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            lease_after: LEASE_AFTER.into(),
            watchdog: None,
            health: WorkerHealth::new(),
            forced: Forced::default(),
            max_output: MAX_PAYLOAD_BYTES,
        }
    }

    /// Takes the time from `clock`.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes ids from `ids`.
    pub fn ids(mut self, ids: SharedIds) -> Self {
        self.ids = ids;
        self
    }

    /// Hosts a handler: an async function or closure from the job's input and a [`Context`] to the job's output.
    ///
    /// Both are JSON: the input is anything that can be deserialised (take [`serde_json::Value`] for whatever comes,
    /// [`serde::de::IgnoredAny`] for nothing), the output anything that can be serialised. Panics are reported as
    /// failures. Code that computes for long or blocks belongs into [`tokio::task::spawn_blocking`].
    pub fn handler<I, O, F, Fut>(mut self, name: &str, version: &str, handler: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        let checked = HandlerName::new(name).map_err(|error| error.to_string()).and_then(|checked_name| {
            let version = Version::parse(version)
                .map_err(|error| format!("handler `{name}` has version `{version}`, which is none: {error}"))?;
            Ok((checked_name, version))
        });
        match checked {
            Ok((name, version)) if self.handlers.iter().any(|other| other.name == name && other.version == version) => {
                self.problems.push(format!("handler `{name}` {version} is registered twice"));
            }
            Ok((name, version)) => {
                let (handler, concurrency) = (untyped(handler), self.concurrency);
                self.handlers.push(Registered { name, version, handler, concurrency, queues: Vec::new() });
            }
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    /// How many jobs run at once: of the handler just added; said before any handler, of each that follows.
    pub fn concurrency(mut self, slots: u32) -> Self {
        if slots == 0 {
            self.problems.push("a concurrency of 0: nothing would ever run".to_owned());
        }
        match self.handlers.last_mut() {
            Some(handler) => handler.concurrency = slots,
            None => self.concurrency = slots,
        }
        self
    }

    /// Serves the handler just added from this queue too: one that a definition gives it as `queue`, or, in a workflow
    /// with `"queues": "per_phase"`, `<workflow>.<phase>.<handler>`. Each queue brings jobs for all its slots.
    ///
    /// Every program that reads the queue has to have every handler whose jobs go there: a job of one that it does not
    /// have fails for good, while a job of another version, or of a handler that `PHASEWORK_HANDLERS` leaves to other
    /// workers, is handed back for them.
    pub fn queue(mut self, name: &str) -> Self {
        let checked = name.split('.').try_for_each(|part| check_name("queue", part));
        match (checked, self.handlers.last_mut()) {
            (Err(error), _) => self.problems.push(format!("queue `{name}`: {error}")),
            (Ok(()), Some(handler)) => handler.queues.push(name.into()),
            (Ok(()), None) if self.problems.is_empty() => {
                self.problems.push(format!("queue `{name}` is named before any handler"));
            }
            (Ok(()), None) => {} // the handler it is for is among the problems
        }
        self
    }

    /// How long jobs that run may go on after the worker was told to stop; then they are handed back.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How long a job runs before the worker takes a lease on it: a claim that it renews, in place of the message, which
    /// RabbitMQ would take away after a while. 30 seconds unless said otherwise. Less makes sense in tests; more is
    /// refused, as coordinators take jobs for lost that nobody reports or leases in time.
    pub fn lease_after(mut self, length: Duration) -> Self {
        if !is_lease_after(length) {
            self.problems.push(format!("a lease after {length:?}; it has to be up to {LEASE_AFTER}, and not at once"));
        }
        self.lease_after = length;
        self
    }

    /// Ends the process, with exit code 70 and a message on standard error, when its tokio runtime has not turned for so
    /// long: a handler that blocks every thread keeps the worker from reporting anything, and the jobs it holds from being
    /// done elsewhere. 60 seconds unless said otherwise; zero for never. [`Worker::run_until`] is watched only if this, or
    /// `PHASEWORK_WATCHDOG`, says so: its process may have other things to do.
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// How the worker is, to be asked while it runs.
    pub fn health(&self) -> WorkerHealth {
        self.health.clone()
    }

    /// The largest output of a job that is taken, in bytes; 1 MiB unless said otherwise. The engine has a limit too.
    pub fn max_output(mut self, bytes: usize) -> Self {
        let most = MAX_BODY_BYTES / 4; // brokers may take less than we read
        if bytes > most {
            self.problems.push(format!("an output of {bytes} bytes cannot be reported; at most {most}"));
        }
        self.max_output = bytes;
        self
    }

    /// Works until SIGTERM or SIGINT, then drains: takes nothing new, finishes what runs within the drain timeout,
    /// hands back the rest, reports and acknowledges everything. A second signal leaves at once; what was not
    /// acknowledged then comes again.
    ///
    /// # Errors
    /// When the worker is set up wrongly, the broker refuses, or a second signal came.
    pub async fn run(self) -> Result<(), WorkerError> {
        let stop = Stop::default();
        let listening = signals::listen(stop.clone())
            .map_err(|error| WorkerError::Setup(vec![format!("cannot listen to signals: {error}")]))?;
        let listening = tokio::spawn(listening);
        let _watchdog = Watchdog::start(self.watched_for().unwrap_or(DEFAULT_WATCHDOG));
        let result = self.work(stop).await;
        listening.abort();
        result
    }

    /// Works until `shutdown` is canceled, then drains as [`Worker::run`] does. Listens to no signals.
    ///
    /// # Errors
    /// When the worker is set up wrongly, or the broker refuses.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let _watchdog = self.watched_for().and_then(Watchdog::start);
        self.work(Stop { drain: shutdown.child_token(), ..Stop::default() }).await
    }

    /// How long the runtime may stand still, if anybody said.
    fn watched_for(&self) -> Option<Duration> {
        self.forced.watchdog.or(self.watchdog)
    }
}
