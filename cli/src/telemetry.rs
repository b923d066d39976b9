//! Logs and metrics of this process. Set up once, by the command that wants them.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::output::Stream;
use crate::settings::LogFormat;

/// Which logs to write, in the language of tracing's filters: `info`, `phasework_engine=debug,warn`.
const VARIABLE: &str = "PHASEWORK_LOG";

/// What `serve` logs when nobody says anything. What happens to its connection the broker says itself, in fewer words
/// than the library beneath.
pub(crate) const USUAL: &str = "info,lapin=off";

/// How often what metrics have gathered is put in order.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The upper ends of the buckets of every histogram, in seconds.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Writes logs to stderr; `default` says which where `PHASEWORK_LOG` says nothing.
pub(crate) fn log(format: LogFormat, default: &str) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).ok().filter(|wanted| !wanted.trim().is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default)).map_err(|error| {
        Failure::usage(format!("{VARIABLE}: {error}")).hint("such as `info` or `phasework_engine=debug,warn`")
    })?;
    // Where the log cannot be written, telling so on stderr would panic in whatever part of the engine had logged.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let subscriber = subscriber.with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => subscriber.with_ansi(Stream::Err.paint().0).with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(true).try_init(),
    };
    set.map_err(|error| Failure::usage(format!("cannot write logs: {error}")))
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
