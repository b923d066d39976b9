//! `phasework serve`: runs the engine, and serves its API, until told to stop.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use phasework_broker::SharedBroker;
use phasework_engine::api::{ApiConfig, GatewayConfig, check_exposure, router_with, serve};
use phasework_engine::engine::Parts;
use phasework_engine::{RunningEngine, start};
use phasework_store::{RunCounts, SharedStore};
use phasework_workflows::id::SystemIds;
use phasework_workflows::run::apply;
use phasework_workflows::time::SystemClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contexts::exposure;
use crate::failure::{Exit, Failure, Outcome};
use crate::interrupt::Interrupts;
use crate::output::say;
use crate::parts::{self, Reasons};
use crate::settings::{BrokerUrl, Key, Layers, Settings, SettingsFile, StoreUrl};
use crate::{readiness, telemetry, waiting};

const EXAMPLES: &str = "\
Settings come from flags, else from the environment, else from a TOML file, else from defaults. The file is --config, or
PHASEWORK_CONFIG, or ./phasework.toml if there is one; its keys are the flags with _ for -:
  broker = \"amqp://127.0.0.1:5672\"
  store = \"redis://127.0.0.1:6379\"
  retention = \"30d\"
PHASEWORK_LOG says which logs to write: `info` (the default), `warn`, `phasework_engine=debug,info`…

Examples:
  phasework serve --embedded --state /var/lib/phasework  nothing around it; all is kept in that directory
  phasework serve --broker memory: --store memory:       nothing around it; gone when it ends
  phasework serve --broker amqp://127.0.0.1:5672 --store redis://127.0.0.1:6379
  PHASEWORK_TOKEN=… phasework serve --listen 0.0.0.0:7180 --log-format json
  phasework serve --show-settings                        what would be used, and where it comes from

A broker or a store that is not there yet is waited for; /health/ready tells. SIGTERM and Ctrl-C stop when work under
way is safe, a second one at once.";

/// Run the engine: coordinators and the HTTP API
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where messages travel: amqp://user:password@host:5672/vhost, amqps://…, or memory: [env: PHASEWORK_BROKER]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Where runs are kept: redis://:password@host:6379/0, rediss://…, sqlite:DIR, or memory: [env: PHASEWORK_STORE]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Broker and store in this process, and what they hold in --state: durable, with nothing to install
    #[arg(long)]
    embedded: bool,
    /// Where --embedded keeps what it does; one process at a time [env: PHASEWORK_STATE]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Where the API listens [env: PHASEWORK_LISTEN] [default: 127.0.0.1:7180]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What callers of the API have to show; needed to listen to other machines [env: PHASEWORK_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// What callers of the API have to show, each under a name for the history: alice=SECRET,ci=SECRET [env: PHASEWORK_TOKENS]
    #[arg(long, value_name = "NAME=SECRET,…")]
    tokens: Option<String>,
    /// The same in a file, one NAME=SECRET a line [env: PHASEWORK_TOKENS_FILE]
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<String>,
    /// What workers may show to the gateway in place of the token; good for nothing else [env: PHASEWORK_WORKER_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    worker_token: Option<String>,
    /// The name of this coordinator, unique on its broker [env: PHASEWORK_NAME] [default: host and process id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What the names of all queues and keys begin with [env: PHASEWORK_PREFIX] [default: phasework]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// How many coordinator queues; the same for all on one broker [env: PHASEWORK_COORDINATOR_QUEUES] [default: 8]
    #[arg(long, value_name = "N")]
    coordinator_queues: Option<String>,
    /// How long ended runs are kept: 36h, 7d… [env: PHASEWORK_RETENTION] [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<String>,
    /// text, or json with one object a line [env: PHASEWORK_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Go on with a store that was emptied, though its broker was used before
    #[arg(long)]
    adopt: bool,
    /// A TOML file with settings
    #[arg(long, env = "PHASEWORK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings and where each comes from, and do nothing else
    #[arg(long)]
    show_settings: bool,
}

/// How to keep others out.
pub(super) const SET_A_TOKEN: &str = "--token or PHASEWORK_TOKEN sets a token; --tokens, several with names";

impl ServeArgs {
    fn flags(&self) -> [(Key, Option<&str>); 13] {
        [
            (Key::BROKER, self.broker.as_deref()),
            (Key::STORE, self.store.as_deref()),
            (Key::STATE, self.state.as_deref()),
            (Key::LISTEN, self.listen.as_deref()),
            (Key::TOKEN, self.token.as_deref()),
            (Key::TOKENS, self.tokens.as_deref()),
            (Key::TOKENS_FILE, self.tokens_file.as_deref()),
            (Key::WORKER_TOKEN, self.worker_token.as_deref()),
            (Key::NAME, self.name.as_deref()),
            (Key::PREFIX, self.prefix.as_deref()),
            (Key::COORDINATOR_QUEUES, self.coordinator_queues.as_deref()),
            (Key::RETENTION, self.retention.as_deref()),
            (Key::LOG_FORMAT, self.log_format.as_deref()),
        ]
    }
}

/// Runs the engine.
pub(crate) async fn run(args: ServeArgs) -> Outcome {
    let file = SettingsFile::find(args.config.as_deref().filter(|path| !path.as_os_str().is_empty()))?;
    let mut layers = Layers::new(&args.flags(), |name| std::env::var(name).ok(), file.as_ref());
    embed(&mut layers, &args)?;
    if args.show_settings {
        say(&layers.words())?;
    }
    let mut settings = Settings::read(&layers, &default_name())?;
    // A store in memory is always empty at first.
    settings.engine.adopt = args.adopt || settings.store == StoreUrl::Memory;
    let exposed = check_exposure(settings.listen, &settings.tokens);
    exposed.map_err(|error| Failure::usage(error.to_string()).hint(SET_A_TOKEN))?;
    if args.show_settings {
        return Ok(Exit::Good);
    }
    let telemetry = telemetry::log(settings.log_format, telemetry::USUAL)?;
    settings.engine.tracer = telemetry.tracer();
    until_stopped(settings, |_, _| {}).await
}

/// Puts everything into this process, if that is asked for and nothing else is.
fn embed(layers: &mut Layers, args: &ServeArgs) -> Result<(), Failure> {
    match (args.embedded, layers.not_embedded().as_slice()) {
        (true, []) => layers.embed(None),
        (true, said) => Err(Failure::usage(format!(
            "--embedded brings a broker and a store of its own: leave out {}, or --embedded",
            said.join(" and ")
        ))),
        (false, _) if args.state.is_some() => Err(Failure::usage("--state is the directory of --embedded")
            .hint("add --embedded, or name the store alone with `--store sqlite:DIR`")),
        (false, _) => Ok(()),
    }
}

/// Runs an engine until told to stop; `welcome` is told where it listens and what it works with, once it can take a run.
pub(super) async fn until_stopped(settings: Settings, welcome: impl Fn(SocketAddr, RunCounts) + Send) -> Outcome {
    let metrics = telemetry::metrics()?;
    let mut interrupts = Interrupts::listen()?;
    let shutdown = CancellationToken::new();
    let work = work(settings, metrics, shutdown.clone(), welcome);
    tokio::pin!(work);
    let signal = tokio::select! {
        biased;
        signal = interrupts.next() => signal,
        outcome = &mut work => return outcome,
    };
    tracing::info!(signal, "stopping when work under way is safe; a second signal stops at once");
    shutdown.cancel();
    tokio::select! {
        biased;
        signal = interrupts.next() => {
            tracing::warn!(signal, "stopped at once; what was under way will be done again");
            Ok(Exit::Interrupted)
        }
        outcome = &mut work => outcome,
    }
}

/// Everything between two signals.
async fn work(
    settings: Settings,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
    welcome: impl Fn(SocketAddr, RunCounts) + Send,
) -> Outcome {
    let door = Door::open(settings.listen)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = &*settings.engine.name,
        broker = ?settings.broker,
        store = ?settings.store,
        prefix = settings.prefix,
        "phasework listens on http://{}", door.address,
    );
    warn_of_memory(&settings);
    if let Some(words) = settings.tokens_file.as_deref().and_then(|path| exposure(path, "tokens")) {
        tracing::warn!("{words}");
    }
    tokio::spawn(telemetry::metrics_upkeep(metrics.clone(), shutdown.clone()));
    let Some((store, broker)) = wait_for_parts(&settings, &door, &shutdown).await? else { return Ok(Exit::Good) };
    let outcome = run_engine(&settings, door, metrics, Arc::clone(&store), &broker, &shutdown, welcome).await;
    broker.close().await;
    // Who is still connected holds on to the engine, and by that to the store.
    store.close().await;
    outcome
}

/// Store and broker, once they are there; until then the API says what is missing.
async fn wait_for_parts(
    settings: &Settings,
    door: &Door,
    shutdown: &CancellationToken,
) -> Result<Option<(SharedStore, SharedBroker)>, Failure> {
    let (reasons, over) = (Reasons::default(), shutdown.child_token());
    let waiting = door.serve(waiting::router(reasons.clone()), &over)?;
    let parts = parts::wait(settings, &reasons, shutdown).await;
    over.cancel();
    served(waiting.await)?;
    parts
}

async fn run_engine(
    settings: &Settings,
    door: Door,
    metrics: PrometheusHandle,
    store: SharedStore,
    broker: &SharedBroker,
    shutdown: &CancellationToken,
    welcome: impl Fn(SocketAddr, RunCounts) + Send,
) -> Outcome {
    let (clock, ids, config) = (Arc::new(SystemClock), Arc::new(SystemIds), Arc::new(settings.engine.clone()));
    let parts = Parts { store, broker: Arc::clone(broker), clock, ids, decide: apply, config };
    let mut running: RunningEngine = start(parts).map_err(|error| Failure::usage(error.to_string()))?;
    let config = ApiConfig { tokens: settings.tokens.clone(), metrics: Some(metrics) };
    let worker_token = settings.worker_token.as_deref().map(Arc::from);
    let gateway = GatewayConfig { token: worker_token, ..GatewayConfig::default() };
    let over = shutdown.child_token();
    let address = door.address;
    let mut api = door.serve_last(router_with(running.engine().clone(), config, gateway), &over)?;
    tracing::info!("the engine runs");
    let engine = running.engine().clone();
    tokio::spawn(readiness::watch(engine.clone(), over.clone()));
    let greet = async {
        engine.until_ready().await;
        match engine.run_counts().await {
            Ok(counts) => welcome(address, counts),
            Err(error) => tracing::warn!(%error, "it cannot be told how many runs there are"),
        }
        std::future::pending::<Infallible>().await
    };
    let outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => served((&mut api).await),
        reason = running.failed() => Err(Failure::new(Exit::Bad, reason)),
        ended = &mut api => served(ended),
        never = greet => match never {},
    };
    over.cancel();
    running.stop().await;
    if outcome.is_ok() {
        tracing::info!("stopped; all work is safe");
    }
    outcome.map(|()| Exit::Good)
}

/// What the task that served the API came to.
fn served(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(Exit::Bad, format!("the API cannot be served: {error}"))),
        Err(error) => Err(Failure::new(Exit::Bad, format!("serving the API ended badly, which is a defect: {error}"))),
    }
}

fn warn_of_memory(settings: &Settings) {
    if settings.broker == BrokerUrl::Memory && settings.store == StoreUrl::Memory {
        tracing::warn!("the broker is in this process: workers reach it over HTTP only");
    }
    if settings.store == StoreUrl::Memory {
        tracing::warn!("the store is in this process: all runs are gone when it ends");
    }
}

/// The socket that the API listens on, from the first moment to the last, whoever answers there.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

impl Door {
    fn open(address: SocketAddr) -> Result<Self, Failure> {
        let open = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        open().map_err(|error: std::io::Error| {
            Failure::usage(format!("cannot listen on {address}: {error}")).hint("--listen takes another address")
        })
    }

    fn serve(&self, router: Router, until: &CancellationToken) -> Result<JoinHandle<std::io::Result<()>>, Failure> {
        let listener = self.listener.try_clone().and_then(tokio::net::TcpListener::from_std);
        let listener = listener.map_err(|error| Failure::usage(format!("cannot serve the API: {error}")))?;
        Ok(tokio::spawn(serve(listener, router, until.clone())))
    }

    /// Serves, and nobody after that: once it is over, who comes is refused at once, and does not wait for an answer that no
    /// one is there to give.
    fn serve_last(self, router: Router, until: &CancellationToken) -> Result<JoinHandle<std::io::Result<()>>, Failure> {
        self.serve(router, until)
    }
}

/// What a coordinator is called when nobody says: its host and process.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host: String = host.as_deref().unwrap_or("coordinator").trim().chars().take(40).collect();
    format!("{host}-{}", std::process::id())
}
