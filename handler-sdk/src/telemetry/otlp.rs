//! Traces, sent over OTLP/HTTP to whoever the environment names. Sets up, and sends the rest at the end; what is traced is
//! decided where spans are made.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// Where traces go; the first counts that is set. What else the standard knows (`OTEL_EXPORTER_OTLP_HEADERS`,
/// `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`…) is read by the libraries beneath.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Whose spans are of connections and requests, and of no run.
const NOT_OF_RUNS: [&str; 2] = ["lapin", "phasework_engine"];

/// How long sending the last traces may take.
const FLUSHING: Duration = Duration::from_secs(3);

/// Sends traces until [`Traces::finish`].
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends traces to whoever `OTEL_EXPORTER_OTLP_ENDPOINT` names, such as `http://127.0.0.1:4318`; none when nobody does.
    /// The program is called `service` in them, unless `OTEL_SERVICE_NAME` says otherwise.
    ///
    /// # Errors
    /// When the environment makes no sense, in words.
    pub fn from_env(service: &str) -> Result<Option<Self>, String> {
        let is_set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
        let Some(endpoint) = ENDPOINTS.iter().find(|name| is_set(name)) else { return Ok(None) };
        // The program may have installed a provider of its own, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
        let exporter = exporter.map_err(|error| format!("{endpoint}: {error}"))?;
        let mut resource = Resource::builder();
        if !is_set(&SERVICE_NAME) {
            resource = resource.with_service_name(service.to_owned());
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        Ok(Some(Self { provider }))
    }

    /// What makes traces, for spans that are not made with `tracing`.
    pub fn tracer(&self) -> Tracer {
        self.provider.tracer("phasework")
    }

    /// What makes traces of the spans of `tracing`, from `info` up: of jobs, and of what handlers have within them.
    pub fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.tracer()).with_location(false).with_threads(false);
        let others = NOT_OF_RUNS.map(|target| (target, LevelFilter::OFF));
        Box::new(layer.with_filter(Targets::new().with_default(LevelFilter::INFO).with_targets(others)))
    }

    /// Sends what is not sent yet, for at most three seconds, and nothing more after that.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSHING) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
