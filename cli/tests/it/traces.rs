//! Traces, as a collector gets them: one for each run, from its submission to its last job.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::command::Place;
use crate::serve::{IN_MEMORY, address};
use crate::server::PASS;

/// The trace of somebody who submits.
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Spans = Arc<Mutex<Vec<Span>>>;

/// Takes what is sent over OTLP/HTTP.
async fn take(State(spans): State<Spans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let of_scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    spans.lock().unwrap().extend(of_scopes.flat_map(|scope| scope.spans));
}

/// A collector, in a thread of its own.
fn collect() -> (SocketAddr, Spans) {
    let spans = Spans::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    (address, spans)
}

#[test]
fn a_run_is_one_trace_from_its_submission_to_its_last_job() {
    let (collector, spans) = collect();
    let place = Place::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    place.check(&["demo"], 0, &["Found 17 pages"]);
    let spans = std::mem::take(&mut *spans.lock().unwrap());
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let [submission] = named("submit search")[..] else { panic!("{:?}", names(&spans)) };
    assert!(submission.parent_span_id.is_empty(), "nobody had a trace before");
    for phase in ["phase pending", "phase searching", "phase fetching-pages", "phase finished"] {
        assert!(!named(phase).is_empty(), "{phase}: {:?}", names(&spans));
    }
    // One to search, 18 pages of which two take further tries, one to sum up.
    let jobs = named("job");
    assert!(jobs.len() >= 20, "{}", jobs.len());
    for span in named("job").into_iter().chain(spans.iter().filter(|span| span.name.starts_with("phase "))) {
        assert_eq!(span.trace_id, submission.trace_id, "{}", span.name);
        assert_eq!(span.parent_span_id, submission.span_id, "{}", span.name);
    }
    assert!(spans.iter().all(|span| span.trace_id == submission.trace_id), "one trace: {:?}", names(&spans));
    let failed = |span: &&&Span| span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
    assert!(jobs.iter().filter(failed).count() >= 2, "attempts that failed are marked");
    let of_run = |key: &str| jobs[0].attributes.iter().any(|attribute| attribute.key == key);
    assert!(["run", "phase", "handler", "job", "attempt"].into_iter().all(of_run), "{:?}", jobs[0].attributes);
}

#[test]
fn a_run_that_is_submitted_within_a_trace_is_a_part_of_it() {
    let (collector, spans) = collect();
    let place = Place::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    let mut serving = place.start(&IN_MEMORY);
    let url = address(&mut serving);
    serving.until("ready: the broker and the store can be used");
    let body = format!(r#"{{"definition":{PASS},"data":{{"name":"Bo"}}}}"#);
    let answer = submit(&format!("{url}/v1/runs?wait=30s"), body);
    assert!(answer.contains("hello Bo"), "{answer}");
    serving.signal("TERM");
    let done = serving.end();
    assert_eq!(done.exit, 0, "{}", done.err);
    let spans = std::mem::take(&mut *spans.lock().unwrap());
    assert_eq!(names(&spans), BTreeSet::from(["submit pass", "phase begin", "phase end"]));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == CALLER[3..35]), "{spans:?}");
    let submission = spans.iter().find(|span| span.name == "submit pass").unwrap();
    assert_eq!(hex(&submission.parent_span_id), CALLER[36..52]);
}

#[test]
fn a_collector_that_is_away_holds_nothing_up() {
    // Port 1 of this machine: nothing listens there. The other takes what is sent, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for collector in ["127.0.0.1:1".to_owned(), silent.local_addr().unwrap().to_string()] {
        let place = Place::new()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .with("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
        let begun = Instant::now();
        let done = place.check(&["demo"], 0, &["Found 17 pages"]);
        assert!(!done.err.contains("panicked"), "{}", done.err);
        assert!(begun.elapsed() < Duration::from_secs(120), "it waited for {collector}");
    }
}

/// Submits within the trace of the caller.
fn submit(url: &str, body: String) -> String {
    rustls::crypto::ring::default_provider().install_default().ok(); // another test may have been first
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = reqwest::Client::new().post(url).header("traceparent", CALLER);
        let request = request.header("content-type", "application/json").body(body);
        request.send().await.unwrap().text().await.unwrap()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}
