//! Logs, traces and metrics of this process. Set up once, by the command that wants them.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use phasework_engine::trace::SharedTracer;
#[cfg(feature = "otel")]
use phasework_sdk::telemetry::Traces;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::failure::Failure;
use crate::output::Stream;
use crate::settings::LogFormat;
#[cfg(feature = "otel")]
use crate::traces::RunTracer;

/// Which logs to write, in the language of tracing's filters: `info`, `phasework_engine=debug,warn`.
const VARIABLE: &str = "PHASEWORK_LOG";

/// What `serve` logs when nobody says anything. What happens to its connection the broker says itself, in fewer words
/// than the library beneath.
pub(crate) const USUAL: &str = "info,lapin=off";

/// How often what metrics have gathered is put in order.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The upper ends of the buckets of every histogram, in seconds.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Logs and traces that were set up. What is still to be sent of traces is sent when it is dropped.
#[must_use = "traces are sent until it is dropped"]
#[derive(Debug)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otel")]
    traces: Option<Traces>,
}

impl Telemetry {
    /// What takes note of runs, if somebody wants traces of them.
    pub(crate) fn tracer(&self) -> Option<SharedTracer> {
        #[cfg(feature = "otel")]
        let tracer = self.traces.as_ref().map(|traces| SharedTracer::new(RunTracer(traces.tracer())));
        #[cfg(not(feature = "otel"))]
        let tracer = None;
        tracer
    }
}

#[cfg(feature = "otel")]
impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

/// Writes logs to stderr; `default` says which where `PHASEWORK_LOG` says nothing. Sends traces, where the environment
/// says whereto.
pub(crate) fn log(format: LogFormat, default: &str) -> Result<Telemetry, Failure> {
    let wanted = std::env::var(VARIABLE).ok().filter(|wanted| !wanted.trim().is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).map_err(|error| {
        Failure::usage(format!("{VARIABLE}: {error}")).hint("such as `info` or `phasework_engine=debug,warn`")
    })?;
    // Where the log cannot be written, telling so on stderr would panic in whatever part of the engine had logged.
    let logs = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let logs = match format {
        LogFormat::Text => logs.with_ansi(Stream::Err.paint().0).with_target(false).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(true).boxed(),
    };
    let subscriber = Registry::default().with(logs.with_filter(filter));
    #[cfg(feature = "otel")]
    let traces = Traces::from_env("phasework").map_err(Failure::usage)?;
    #[cfg(feature = "otel")]
    let subscriber = subscriber.with(traces.as_ref().map(Traces::layer));
    subscriber.try_init().map_err(|error| Failure::usage(format!("cannot write logs: {error}")))?;
    Ok(Telemetry {
        #[cfg(feature = "otel")]
        traces,
    })
}

/// Gathers metrics from now on.
pub(crate) fn metrics() -> Result<PrometheusHandle, Failure> {
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS);
    let handle = builder.and_then(PrometheusBuilder::install_recorder);
    handle.map_err(|error| Failure::usage(format!("cannot gather metrics: {error}")))
}

/// Keeps what metrics gather from growing, until `shutdown`.
pub(crate) async fn metrics_upkeep(handle: PrometheusHandle, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(UPKEEP_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = every.tick() => handle.run_upkeep(),
        }
    }
}
