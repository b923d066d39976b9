//! Logs, for programs that have no arrangement of their own. Everything here only installs what `tracing` then feeds; the
//! rest of the crate does not know of it.
//!
//! ```no_run
//! # use phasework_sdk::{Context, HandlerError, Worker, WorkerError};
//! # async fn greet(name: String, _: Context) -> Result<String, HandlerError> { Ok(name) }
//! #[tokio::main]
//! async fn main() -> Result<(), WorkerError> {
//!     let _telemetry = phasework_sdk::telemetry::init()?;
//!     Worker::from_env()?.handler("Greeter", "1.0.0", greet).run().await
//! }
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `PHASEWORK_LOG`, or else `RUST_LOG` | which logs: `info` (which is usual), `warn`, `my_worker=debug,info`… |
//! | `PHASEWORK_LOG_FORMAT` | `text`, which is usual, or `json`: an object a line, with the `span` it belongs to |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | with the crate's feature `otel`: where traces go, `http://127.0.0.1:4318`; nowhere unless it is set |
//!
//! With traces, each job is a span, a part of the trace that its run was submitted in.
//!
//! What is logged while a job is at work carries its run, workflow, phase, entry, handler, version, job and attempt. Logs
//! go to standard error.

#[cfg(feature = "otel")]
mod otlp;

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

#[cfg(feature = "otel")]
pub use self::otlp::Traces;
use crate::worker::WorkerError;

const LOG: &str = "PHASEWORK_LOG";
const RUST_LOG: &str = "RUST_LOG";
const FORMAT: &str = "PHASEWORK_LOG_FORMAT";

/// What is logged when nobody says anything. What happens to its connection the broker says itself, in fewer words than
/// the library beneath.
const USUAL: &str = "info,lapin=off";

/// What was set up. Keep it for as long as the program runs: what is still to be sent is sent when it is dropped.
#[must_use = "keep it until the program ends"]
#[derive(Debug)]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    traces: Option<Traces>,
}

#[cfg(feature = "otel")]
impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

/// The W3C trace context of the span that this is called in, to be sent along as `traceparent`; none where nothing traces.
pub fn traceparent() -> Option<String> {
    crate::trace::current()
}

/// Writes logs from now on, as the environment has it.
///
/// # Errors
/// When a variable makes no sense, or the program has set up logs already.
pub fn init() -> Result<Telemetry, WorkerError> {
    let settings = Settings::read(|name| std::env::var(name).ok()).map_err(WorkerError::Setup)?;
    let text = tracing_subscriber::fmt::layer()
        // A log that nobody reads any more is no reason to stop working.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let logs = match settings.format {
        Format::Text => text.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => text.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    let subscriber = Registry::default().with(logs.with_filter(settings.filter));
    #[cfg(feature = "otel")]
    let traces = Traces::from_env("phasework-worker").map_err(|problem| WorkerError::Setup(vec![problem]))?;
    #[cfg(feature = "otel")]
    let subscriber = subscriber.with(traces.as_ref().map(Traces::layer));
    subscriber.try_init().map_err(|error| WorkerError::Setup(vec![format!("cannot write logs: {error}")]))?;
    Ok(Telemetry {
        #[cfg(feature = "otel")]
        traces,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// What the environment says.
#[derive(Debug)]
struct Settings {
    filter: EnvFilter,
    format: Format,
}

impl Settings {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let given = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let mut problems = Vec::new();
        let (name, wanted) = [LOG, RUST_LOG]
            .into_iter()
            .find_map(|name| Some((name, given(name)?)))
            .unwrap_or_else(|| (LOG, USUAL.to_owned()));
        let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
            problems
                .push(format!("{name} is `{wanted}`: {error}; it has to be such as `info` or `my_worker=debug,info`"));
            EnvFilter::default()
        });
        let format = match given(FORMAT).as_deref() {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                problems.push(format!("{FORMAT} has to be `text` or `json`; it is `{other}`"));
                Format::Text
            }
        };
        if problems.is_empty() { Ok(Self { filter, format }) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_and_how() {
        let read = |set: &[(&str, &str)]| {
            let settings =
                Settings::read(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()));
            settings.map(|Settings { filter, format }| (filter.to_string(), format))
        };
        let sorted = |text: &str| {
            let mut parts: Vec<_> = text.split(',').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        let (filter, format) = read(&[(LOG, " ")]).unwrap();
        assert_eq!((sorted(&filter), format), (sorted(USUAL), Format::Text));
        assert_eq!(read(&[(RUST_LOG, "debug"), (FORMAT, "json")]), Ok(("debug".to_owned(), Format::Json)));
        assert_eq!(read(&[(RUST_LOG, "debug"), (LOG, "warn")]), Ok(("warn".to_owned(), Format::Text)));
        let problems = read(&[(LOG, "a=b=c"), (FORMAT, "xml")]).unwrap_err();
        assert!(problems[0].starts_with("PHASEWORK_LOG is `a=b=c`") && problems[1].contains("`xml`"), "{problems:?}");
    }
}
