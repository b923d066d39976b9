//! The worker as a handler author sets it up: which handlers, how many jobs at once, when to stop.
//! Nothing is connected or started before `run`; what was set up wrongly is reported there, all of it.

mod start;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{BrokerError, SharedBroker};
use phasework_workflows::id::{HandlerName, SharedIds, SystemIds, check_name};
use phasework_workflows::message::lease::LEASE_AFTER;
use phasework_workflows::message::{MAX_BODY_BYTES, MAX_PAYLOAD_BYTES};
use phasework_workflows::time::{SharedClock, SystemClock};
use phasework_workflows::{Payload, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::{HandlerFn, ListFn, untyped, untyped_list};
use crate::health::WorkerHealth;
use crate::layer::{Job, Layer, Next};
use crate::list::JobList;
use crate::rate::Limit;
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
    layers: Vec<Layer>,
    only: Option<Vec<String>>,
    drain_timeout: Duration,
    lease_after: Duration,
    watchdog: Option<Duration>,
    listen: Option<SocketAddr>,
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
    enumerate: Option<ListFn>,
    concurrency: u32,
    /// Around it, the outermost first.
    layers: Vec<Layer>,
    own_rate: Option<Limit>,
    global_rate: Option<Limit>,
    queues: Vec<Arc<str>>,
}

impl Worker {
    /// A worker that reads its settings from the environment:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PHASEWORK_URL` | where the broker is: `amqp://user:password@host:5672/vhost`; or `http://host:7180` for the gateway of an engine, several with commas between. Has to be set. |
    /// | `PHASEWORK_TOKEN` | what the gateway of an engine asks for |
    /// | `PHASEWORK_PREFIX` | what the names of all queues start with; `phasework`. A gateway knows that itself. |
    /// | `PHASEWORK_CONCURRENCY` | how many jobs of each handler run at once; goes before what the program says |
    /// | `PHASEWORK_HANDLERS` | host only these of the program's handlers: names with commas between |
    /// | `PHASEWORK_DRAIN_TIMEOUT` | as [`Worker::drain_timeout`], `25s` or `2m`; goes before what the program says |
    /// | `PHASEWORK_LEASE_AFTER` | as [`Worker::lease_after`], `5s`; goes before what the program says |
    /// | `PHASEWORK_WORKER_LISTEN` | as [`Worker::listen`], `127.0.0.1:9100`; goes before what the program says |
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
            layers: Vec::new(),
            only: None,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            lease_after: LEASE_AFTER.into(),
            watchdog: None,
            listen: None,
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
                self.handlers.push(Registered {
                    name,
                    version,
                    handler: untyped(handler),
                    enumerate: None,
                    concurrency: self.concurrency,
                    layers: self.layers.clone(),
                    own_rate: None,
                    global_rate: None,
                    queues: Vec::new(),
                });
            }
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    /// Puts a layer around the handler just added; said before any handler, around each that follows. Of several layers
    /// the one that was said first is the outermost. For what many handlers need alike: timing, secrets, other errors.
    ///
    /// A layer is an async function or closure from a [`Job`](crate::Job) and what is [`Next`](crate::Next) to the job's
    /// outcome, all of it as JSON. The handler's time limit and cancellation are those of its layers too, and a layer that
    /// panics is a handler that panics.
    ///
    /// ```no_run
    /// # use phasework_sdk::{Context, HandlerError, Worker};
    /// # async fn greet(name: String, _: Context) -> Result<String, HandlerError> { Ok(name) }
    /// # async fn run() -> Result<(), phasework_sdk::WorkerError> {
    /// Worker::from_env()?
    ///     .layer(|job, next| async move {
    ///         let (began, handler) = (std::time::Instant::now(), job.context.handler().clone());
    ///         let result = next.run(job).await;
    ///         println!("{handler} took {:?}", began.elapsed());
    ///         result
    ///     })
    ///     .handler("Greeter", "1.0.0", greet)
    ///     .layer(|job, next| async move {
    ///         next.run(job).await.map_err(|error| HandlerError::retry(format!("while greeting: {error}")))
    ///     })
    ///     .run()
    ///     .await
    /// # }
    /// ```
    pub fn layer<F, Fut>(mut self, layer: F) -> Self
    where
        F: Fn(Job, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Payload, HandlerError>> + Send + 'static,
    {
        let layers = self.handlers.last_mut().map_or(&mut self.layers, |handler| &mut handler.layers);
        layers.push(Layer::new(layer));
        self
    }

    /// Has the handler just added list its jobs itself, where a definition says `"enumerate": true`: an async function from
    /// the run's data (or what the definition's `input` gives) that pushes the input of each job to a [`JobList`]. The list
    /// may be of any length: pushing waits while the jobs before are on their way.
    ///
    /// An attempt at the list is an attempt like that at a job, on one of the handler's slots: with the definition's
    /// `timeout` and `retry`, and a lease when it takes long. When it fails, or its worker is lost, the next attempt begins
    /// anew; jobs of two attempts never mix. So it should read from something that can be read again.
    ///
    /// ```no_run
    /// use phasework_sdk::{Context, HandlerError, JobList, Worker};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct Site { sitemap: String }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Page { url: String }
    ///
    /// async fn list(site: Site, jobs: JobList<Page>, _: Context) -> Result<(), HandlerError> {
    ///     let mut urls = read_sitemap(&site.sitemap).await?;
    ///     while let Some(url) = urls.next_url().await? {
    ///         jobs.push(Page { url }).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn download(page: Page, _: Context) -> Result<usize, HandlerError> {
    ///     Ok(fetch(&page.url).await?.len())
    /// }
    ///
    /// # async fn start() -> Result<(), phasework_sdk::WorkerError> {
    /// Worker::from_env()?.handler("PageDownloader", "1.2.0", download).enumerate(list).run().await
    /// # }
    /// # struct Urls;
    /// # impl Urls { async fn next_url(&mut self) -> std::io::Result<Option<String>> { Ok(None) } }
    /// # async fn read_sitemap(_: &str) -> std::io::Result<Urls> { Ok(Urls) }
    /// # async fn fetch(_: &str) -> std::io::Result<String> { Ok(String::new()) }
    /// ```
    pub fn enumerate<I, J, F, Fut>(mut self, enumerate: F) -> Self
    where
        I: DeserializeOwned,
        J: Serialize + 'static,
        F: Fn(I, JobList<J>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        match self.handlers.last_mut() {
            Some(handler) if handler.enumerate.is_some() => {
                self.problems.push(format!("handler `{}` {} lists its jobs twice", handler.name, handler.version));
            }
            Some(handler) => handler.enumerate = Some(untyped_list(enumerate)),
            None if self.problems.is_empty() => self.problems.push("`enumerate` before any handler".to_owned()),
            None => {} // the handler it is for is among the problems
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

    /// How often jobs of the handler just added start in this worker: never more than `count` within any time of the
    /// length `per`, wherever that begins. A pause earns nothing: what was not started then does not come on top later.
    ///
    /// What may not start yet waits, and is handed back for other workers when it would wait for more than 5 seconds.
    /// Nothing else waits for it, unless it shares a [queue](Worker::queue). Each try counts as a start.
    pub fn rate_limit(self, count: u32, per: Duration) -> Self {
        self.limit("rate_limit", count, per, |handler, limit| handler.own_rate = Some(limit))
    }

    /// How often jobs of the handler just added start in all workers together that host it; versions of it with
    /// the same limits count together. Each takes its part of `count`, as [`Worker::rate_limit`] does, by how many workers it hears of.
    ///
    /// The parts add up to `count` as long as all workers know of each other. While some start or stop there may be more
    /// starts, or less, until all know, which takes the time of a message; of a worker that died or was cut off the others
    /// know after 20 seconds, and start less often until then. What one worker leaves of its part, no other takes. With
    /// more workers than `count` some get no part and do nothing.
    pub fn rate_limit_global(self, count: u32, per: Duration) -> Self {
        self.limit("rate_limit_global", count, per, |handler, limit| handler.global_rate = Some(limit))
    }

    fn limit(mut self, what: &str, count: u32, per: Duration, set: impl FnOnce(&mut Registered, Limit)) -> Self {
        match (Limit::new(count, per), self.handlers.last_mut()) {
            (Err(problem), _) => self.problems.push(problem),
            (Ok(limit), Some(handler)) => set(handler, limit),
            (Ok(_), None) if self.problems.is_empty() => {
                self.problems.push(format!("`{what}` is said before any handler"));
            }
            (Ok(_), None) => {} // the handler it is for is among the problems
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

    /// Serves `/health/live`, `/health/ready` (503 with every reason when it takes no jobs) and `/metrics` (for
    /// Prometheus) at this address, such as `127.0.0.1:9100`, from before the broker is reached until it has stopped. Port 0
    /// is a free one, which [`WorkerHealth::address`] tells. Not served unless this, or `PHASEWORK_WORKER_LISTEN`, says so.
    /// Who reaches the address may read all of it: health and numbers, nothing of any job.
    ///
    /// What is measured is kept for `/metrics` by a recorder that is installed here. A program that has one of its own
    /// keeps that, and `/metrics` answers 404.
    pub fn listen(mut self, address: &str) -> Self {
        match address.parse() {
            Ok(address) => self.listen = Some(address),
            Err(_) => {
                let problem = format!("cannot listen at `{address}`, which is no address and port like 127.0.0.1:9100");
                self.problems.push(problem);
            }
        }
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
