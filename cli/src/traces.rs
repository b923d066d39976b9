//! Traces of runs: a span for each submission and each phase, beside those that workers make for their jobs. Sent to
//! whoever `OTEL_EXPORTER_OTLP_ENDPOINT` names.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Tracer as SdkTracer;
use phasework_engine::trace::Tracer;
use phasework_workflows::id::{RunId, WorkflowName};
use phasework_workflows::message::event::{PhaseFinished, PhaseStatus};
use phasework_workflows::time::Timestamp;

/// Makes spans of what an engine tells.
#[derive(Debug)]
pub(crate) struct RunTracer(pub(crate) SdkTracer);

impl Tracer for RunTracer {
    fn submitted(&self, run: RunId, workflow: &WorkflowName, from: Option<&str>, at: Timestamp) -> Option<Arc<str>> {
        let attributes = [("phasework.run", run.to_string()), ("phasework.workflow", workflow.to_string())];
        let span = self.0.span_builder(format!("submit {workflow}")).with_kind(SpanKind::Server);
        let span =
            span.with_start_time(time(at)).with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)));
        let mut span = span.start_with_context(&self.0, &within(from));
        let here = span.span_context().clone();
        span.end_with_timestamp(time(at));
        let (trace, span, flags) = (here.trace_id(), here.span_id(), here.trace_flags().to_u8());
        here.is_valid().then(|| format!("00-{trace}-{span}-{flags:02x}").into())
    }

    fn phase_finished(&self, traceparent: &str, workflow: &WorkflowName, finished: &PhaseFinished) {
        let attributes = [
            ("phasework.run", finished.run.to_string()),
            ("phasework.workflow", workflow.to_string()),
            ("phasework.phase", finished.phase.to_string()),
            ("phasework.entry", finished.entry.to_string()),
        ];
        let span = self.0.span_builder(format!("phase {}", finished.phase)).with_start_time(time(finished.started_at));
        let span = span.with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)));
        let mut span = span.start_with_context(&self.0, &within(Some(traceparent)));
        match finished.status {
            PhaseStatus::Succeeded => {}
            PhaseStatus::Failed => span.set_status(Status::error("more jobs failed than are tolerated")),
        }
        span.end_with_timestamp(time(finished.finished_at));
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}

/// The trace context that an engine has let in.
fn within(traceparent: Option<&str>) -> Context {
    let read = |text: &str| {
        let mut parts = text.split('-').skip(1);
        let (trace, span) = (TraceId::from_hex(parts.next()?).ok()?, SpanId::from_hex(parts.next()?).ok()?);
        let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
        Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
    };
    match traceparent.and_then(read) {
        Some(parent) => Context::new().with_remote_span_context(parent),
        None => Context::new(),
    }
}
