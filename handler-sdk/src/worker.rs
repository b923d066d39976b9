//! The worker as a handler author sets it up: which handlers, how many jobs at once, when to stop.
//! Nothing is connected or started before `run`; what was set up wrongly is reported there, all of it.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{BrokerError, SharedBroker};
use phasework_workflows::Version;
use phasework_workflows::id::{HandlerName, SharedIds, SystemIds, check_name};
use phasework_workflows::message::{MAX_BODY_BYTES, MAX_PAYLOAD_BYTES};
use phasework_workflows::time::{SharedClock, SystemClock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connect::connect;
use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::{HandlerFn, untyped};
use crate::hosted::{Handlers, Hosted, Meters};
use crate::panics;
use crate::settings::{HANDLERS, Settings, Target};
use crate::shift::Shift;
use crate::signals;
use crate::slots::Slots;
use crate::stop::Stop;

/// How many jobs of a handler run at once, unless told otherwise.
pub const DEFAULT_CONCURRENCY: u32 = 10;

/// How long jobs that run may go on after the worker was told to stop, unless told otherwise. Container platforms
/// often end a program 30 seconds after the first signal.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How long closing the broker may take.
const CLOSING: Duration = Duration::from_secs(1);

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
    forced_concurrency: Option<u32>,
    only: Option<Vec<String>>,
    drain_timeout: Option<Duration>,
    forced_drain_timeout: Option<Duration>,
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
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn from_env() -> Result<Self, WorkerError> {
        let settings = Settings::read(|name| std::env::var(name).ok()).map_err(WorkerError::Setup)?;
        Ok(Self::from_settings(settings))
    }

    fn from_settings(settings: Settings) -> Self {
        Self {
            forced_concurrency: settings.concurrency,
            only: settings.handlers,
            forced_drain_timeout: settings.drain_timeout,
            ..Self::on(Carrier::At(settings.target))
        }
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
            forced_concurrency: None,
            only: None,
            drain_timeout: None,
            forced_drain_timeout: None,
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
        self.drain_timeout = Some(timeout);
        self
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
        let result = self.work(stop).await;
        listening.abort();
        result
    }

    /// Works until `shutdown` is canceled, then drains as [`Worker::run`] does. Listens to no signals.
    ///
    /// # Errors
    /// When the worker is set up wrongly, or the broker refuses.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        self.work(Stop { drain: shutdown.child_token(), ..Stop::default() }).await
    }
}

impl Worker {
    async fn work(mut self, stop: Stop) -> Result<(), WorkerError> {
        let handlers = self.set_up()?;
        panics::remember_places();
        let host = host();
        let (broker, is_ours) = match &self.carrier {
            Carrier::Given(broker) => (Arc::clone(broker), false),
            Carrier::At(target) => match connect(target, &host, &stop).await? {
                Some(broker) => (broker, true),
                None => return Ok(()), // told to stop before the broker could be reached
            },
        };
        let drain_timeout = self.forced_drain_timeout.or(self.drain_timeout).unwrap_or(DEFAULT_DRAIN_TIMEOUT);
        let shift = Shift {
            worker: self.ids.uuid().to_string().into(),
            host: host.into(),
            handlers: Arc::new(handlers),
            broker: Arc::clone(&broker),
            clock: self.clock,
            ids: self.ids,
            max_output: self.max_output,
            drain_timeout,
            stop,
        };
        let result = shift.run().await;
        if is_ours {
            timeout(CLOSING, broker.close()).await.ok(); // a broker that is away cannot be told
        }
        result
    }

    /// The handlers to host, or everything that is wrong.
    fn set_up(&mut self) -> Result<Handlers, WorkerError> {
        let mut problems = std::mem::take(&mut self.problems);
        let all = std::mem::take(&mut self.handlers);
        if all.is_empty() && problems.is_empty() {
            problems.push("it has no handlers".to_owned());
        }
        let names: BTreeSet<&str> = all.iter().map(|handler| handler.name.as_str()).collect();
        for unknown in self.only.iter().flatten().filter(|name| !names.contains(name.as_str())) {
            let known = names.iter().copied().collect::<Vec<_>>().join(", ");
            problems.push(format!("{HANDLERS} names `{unknown}`; this program has {known}"));
        }
        if !problems.is_empty() {
            return Err(WorkerError::Setup(problems));
        }
        let mut handlers = Handlers { hosted: Vec::new(), elsewhere: Vec::new() };
        for Registered { name, version, handler, concurrency, queues } in all {
            if self.only.as_ref().is_some_and(|only| !only.iter().any(|wanted| name == wanted.as_str())) {
                handlers.elsewhere.push(name);
                continue;
            }
            let slots = Slots::new(self.forced_concurrency.unwrap_or(concurrency));
            let meters = Meters::new(&name, &version);
            handlers.hosted.push(Arc::new(Hosted { name, version, handler, slots, meters, queues }));
        }
        Ok(handlers)
    }
}

/// The name of this machine, for people to read.
fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CONCURRENCY, URL};

    fn set_up(settings: &[(&str, &str)]) -> Result<Handlers, WorkerError> {
        let given = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let settings = Settings::read(|name| if name == URL { Some("amqp://h".to_owned()) } else { given(name) });
        let handler = |(): (), _| async { Ok(()) };
        let mut worker = Worker::from_settings(settings.map_err(WorkerError::Setup)?)
            .concurrency(4)
            .handler("A", "1.0.0", handler)
            .handler("B", "1.0.0", handler)
            .concurrency(64)
            .queue("mixed");
        worker.set_up()
    }

    fn slots(handlers: &Handlers) -> Vec<String> {
        handlers.hosted.iter().map(|hosted| format!("{} {}", hosted.name, hosted.slots.size())).collect()
    }

    #[test]
    fn the_environment_goes_before_the_program() {
        assert_eq!(slots(&set_up(&[]).unwrap()), ["A 4", "B 64"]);
        assert_eq!(slots(&set_up(&[(CONCURRENCY, "2")]).unwrap()), ["A 2", "B 2"]);
        let some = set_up(&[(HANDLERS, "B")]).unwrap();
        assert_eq!((slots(&some), some.elsewhere[0].as_str()), (vec!["B 64".to_owned()], "A"));
        assert_eq!(some.hosted[0].queues().collect::<Vec<_>>(), ["B.1.0.0".into(), "mixed".into()]);
        let error = set_up(&[(HANDLERS, "A,Bee")]).map(|_| ()).unwrap_err();
        let expected = "the worker is not set up right: PHASEWORK_HANDLERS names `Bee`; this program has A, B";
        assert_eq!((error.to_string(), format!("{error:?}")), (expected.to_owned(), expected.to_owned()));
    }
}
