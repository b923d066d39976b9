//! Where a job belongs in a trace. A run carries the W3C trace context of its submission, and so does every job of it.
//! Without the crate's feature `otel` there are no traces, and nothing here does anything.

/// The header in which a trace context travels.
pub(crate) const TRACEPARENT: &str = "traceparent";

#[cfg(feature = "otel")]
mod live {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState};
    use tracing::Span;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    /// Makes `span`, which nobody has entered yet, a part of this trace. What makes no sense is passed over.
    pub(crate) fn follow(span: &Span, traceparent: &str) {
        // Refused where nothing traces: then nothing more is done for the job.
        if span.set_parent(Context::new()).is_ok()
            && let Some(parent) = read(traceparent)
        {
            span.set_parent(Context::new().with_remote_span_context(parent)).ok(); // as the one before
        }
    }

    /// Says of a span that what it is of went wrong.
    pub(crate) fn failed(span: &Span, why: &str) {
        span.set_status(Status::error(why.to_owned()));
    }

    /// The trace context of the span that this is called in; none where nothing traces.
    pub(crate) fn current() -> Option<String> {
        let context = Span::current().context();
        let span = context.span();
        let here = span.span_context();
        let (trace, span, flags) = (here.trace_id(), here.span_id(), here.trace_flags().to_u8());
        here.is_valid().then(|| format!("00-{trace}-{span}-{flags:02x}"))
    }

    fn read(traceparent: &str) -> Option<SpanContext> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
    }

    #[cfg(test)]
    mod tests {
        use opentelemetry::trace::TracerProvider as _;
        use opentelemetry_sdk::trace::SdkTracerProvider;
        use tracing_subscriber::layer::SubscriberExt as _;

        use super::*;

        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

        #[test]
        fn what_follows_a_trace_is_a_part_of_it() {
            let tracer = SdkTracerProvider::builder().build().tracer("test");
            let traced = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
            let of_job = |traceparent: &str| {
                let span = tracing::error_span!("job");
                follow(&span, traceparent);
                span.in_scope(current)
            };
            tracing::subscriber::with_default(traced, || {
                let here = of_job(GOOD).unwrap();
                assert_eq!((&here[..36], &here[52..]), (&GOOD[..36], "-01"));
                assert_ne!(here[36..52], GOOD[36..52], "a span of its own");
                let elsewhere = of_job("00-no-sense-01").unwrap();
                assert_ne!(elsewhere[..36], GOOD[..36]);
            });
            tracing::subscriber::with_default(tracing_subscriber::registry(), || assert_eq!(of_job(GOOD), None));
        }

        #[test]
        fn a_trace_context_is_read_or_passed_over() {
            let good = GOOD;
            let read = |text: &str| read(text).map(|it| (it.trace_id().to_string(), it.is_sampled()));
            assert_eq!(read(good), Some(("0af7651916cd43dd8448eb211c80319c".to_owned(), true)));
            assert_eq!(read(&format!(" {}", good.replace("-01", "-00"))).map(|it| it.1), Some(false));
            assert!(read(&good.replace("00-0", "01-0")).is_some(), "a later version begins alike");
            for wrong in ["", "x", &good[1..], &good.replace('a', "g"), &good.replace("00-0", "ff-0")] {
                assert_eq!(read(wrong), None, "{wrong}");
            }
            let nobody = good.replace("b7ad6b7169203331", "0000000000000000");
            assert_eq!(read(&nobody), None);
        }
    }
}

#[cfg(not(feature = "otel"))]
mod live {
    pub(crate) fn follow(_: &tracing::Span, _: &str) {}

    pub(crate) fn failed(_: &tracing::Span, _: &str) {}

    pub(crate) fn current() -> Option<String> {
        None
    }
}

pub(crate) use self::live::{current, failed, follow};
