//! The client, against an API played by hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use phasework_sdk::{Client, ClientError, Order, Submission};
use serde_json::{Value, json};

use crate::bench::run;

/// Answers in order, and what was asked.
#[derive(Clone, Default)]
struct Api {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The trace context of the request before.
    trace: Arc<Mutex<Option<String>>>,
}

impl Api {
    async fn serve(answers: &[(u16, Value)]) -> (Self, Client) {
        let api = Self { answers: Arc::new(Mutex::new(answers.to_vec().into())), ..Self::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap().with_token("secret");
        let router = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (api, client)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    State(api): State<Api>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, axum::Json<Value>) {
    assert_eq!(headers["authorization"], "Bearer secret");
    *api.trace.lock().unwrap() = headers.get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
    api.asked.lock().unwrap().push(format!("{method} {uri} {}", String::from_utf8_lossy(&body)).trim().to_owned());
    let (status, body) = api.answers.lock().unwrap().pop_front().expect("an answer");
    (StatusCode::from_u16(status).unwrap(), axum::Json(body))
}

fn view(state: &str, mut view: Value) -> (u16, Value) {
    let fields = [("workflow", "search"), ("revision", "abc"), ("state", state), ("phase", "finished"), ("new", "x")];
    view["run"] = json!(run(7));
    for (name, value) in fields {
        view[name] = json!(value);
    }
    (200, view)
}

fn submitted() -> (u16, Value) {
    (201, json!({ "run": run(7), "created": true, "state": "running" }))
}

const LONG: Duration = Duration::from_secs(60);

#[cfg(feature = "otel")]
#[tokio::test]
async fn a_submission_carries_the_trace_that_it_is_made_in() {
    use opentelemetry::trace::TracerProvider as _;
    use tracing::Instrument as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::builder().build().tracer("test");
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (api, client) = Api::serve(&[submitted(), submitted()]).await;
    client.submit(&Submission::of("search")).await.unwrap();
    assert_eq!(*api.trace.lock().unwrap(), None, "outside of any span");
    let span = tracing::info_span!("ordering");
    client.submit(&Submission::of("search")).instrument(span.clone()).await.unwrap();
    let here = span.in_scope(phasework_sdk::telemetry::traceparent);
    assert!(here.is_some());
    assert_eq!(*api.trace.lock().unwrap(), here);
}

#[tokio::test]
async fn a_run_is_submitted_and_waited_for() {
    let (api, client) = Api::serve(&[
        submitted(),
        view("running", json!({ "output": null })),
        view("succeeded", json!({ "output": { "pages": [1, 2] } })),
    ])
    .await;
    let submission = Submission::of("search").revision("abc").data(&json!({ "query": "petrel" })).key("k1");
    let output: Value = client.submit_and_wait(&submission, LONG).await.unwrap();
    assert_eq!(output, json!({ "pages": [1, 2] }));
    let asked = api.asked();
    let body = r#"{"workflow":"search","revision":"abc","data":{"query":"petrel"},"key":"k1"}"#;
    assert_eq!(asked[0], format!("POST /v1/runs {body}"));
    assert_eq!(asked[1], format!("GET /v1/runs/{}?wait=30s", run(7)));
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn what_became_of_a_run_is_told() {
    for (ended, expected) in [
        (view("failed", json!({ "error": { "kind": "panic", "message": "oh" } })), "is failed in phase `finished`: oh"),
        (view("halted", json!({ "error": "no pages" })), "is halted in phase `finished`: no pages"),
        (view("canceled", json!({})), "is canceled in phase `finished`"),
        (view("succeeded", json!({ "output": "text" })), "the output of run"),
    ] {
        let (_, client) = Api::serve(&[submitted(), ended]).await;
        let error = client.submit_and_wait::<u64>(&Submission::of("search"), LONG).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn refusals_say_every_problem() {
    let problems = json!([
        { "pointer": "/phases", "line": 2, "column": 3, "message": "no initial phase", "hint": "say `is_initial`" },
        { "line": 4, "column": 1, "message": "no final phase" },
    ]);
    let told = json!({ "code": "invalid-definition", "message": "it is not valid", "problems": problems });
    let (api, client) = Api::serve(&[(422, json!({ "error": told }))]).await;
    let error = client.submit(&Submission::define(&json!({ "workflow": "x" }))).await.unwrap_err();
    let expected = "it is not valid (invalid-definition)\n  line 2, column 3: no initial phase (say `is_initial`)\n  \
                    line 4, column 1: no final phase";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, ClientError::Refused { status: 422, .. }));
    assert_eq!(api.asked(), [r#"POST /v1/runs {"definition":{"workflow":"x"}}"#]);
}

#[tokio::test]
async fn only_what_is_safe_to_repeat_is_repeated() {
    let away = || (503, json!({ "error": { "code": "unavailable", "message": "the store is away" } }));
    let (api, client) = Api::serve(&[away(), submitted(), away()]).await;
    assert!(client.submit(&Submission::of("search").key("k")).await.is_ok());
    let error = client.submit(&Submission::of("search")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(cause) if cause == "the store is away"), "{error}");
    assert_eq!(api.asked().len(), 3);
}

#[tokio::test]
async fn waiting_ends_when_the_time_is_over() {
    let (_, client) = Api::serve(&[view("running", json!({}))]).await;
    let error = client.wait(run(7), Duration::ZERO).await.unwrap_err();
    assert!(matches!(&error, ClientError::NotEnded(view) if view.state == "running"), "{error}");
}

#[tokio::test]
async fn waiting_goes_on_until_the_end() {
    let states = ["paused", "running", "canceling", "canceled"];
    let (api, client) = Api::serve(&states.map(|state| view(state, json!({})))).await;
    assert_eq!(client.wait(run(7), LONG).await.unwrap().state, "canceled");
    assert_eq!(api.asked().len(), 4);
}

#[tokio::test]
async fn orders_are_given() {
    let rows = [
        (Order::cancel(), "cancel {}"),
        (
            Order::cancel().deadline(Duration::from_secs(90)).reason("no longer needed"),
            r#"cancel {"deadline":"90s","reason":"no longer needed"}"#,
        ),
        (Order::cancel().deadline(Duration::ZERO), r#"cancel {"deadline":"0s"}"#),
        (Order::pause(), "pause {}"),
        (Order::resume().reason("mended"), r#"resume {"reason":"mended"}"#),
        (Order::retry().data(&json!({ "n": 1.50 })), r#"retry {"data":{"n":1.5}}"#),
        (Order::rerun().phase("first").data("text"), r#"rerun {"phase":"first","data":"text"}"#),
    ];
    let answer = || (200, json!({ "run": run(7), "state": "paused", "changed": false, "new": 1 }));
    let (api, client) = Api::serve(&rows.clone().map(|_| answer())).await;
    for (order, expected) in rows {
        let ordered = client.order(run(7), &order).await.unwrap();
        assert_eq!((ordered.run, ordered.changed, &*ordered.state), (run(7), false, "paused"));
        assert_eq!(api.asked().last().unwrap(), &format!("POST /v1/runs/{}/{expected}", run(7)));
    }
    let unwritable = Order::retry().data(&std::collections::BTreeMap::from([((1, 2), 3)]));
    assert!(matches!(client.order(run(7), &unwritable).await, Err(ClientError::Malformed(_))));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said() {
    assert!(Client::new("127.0.0.1:7180").is_err() && Client::new("amqp://127.0.0.1").is_err());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&format!("http://{closed}")).unwrap();
    assert!(matches!(client.run(run(7)).await, Err(ClientError::Unavailable(_))));
    let unwritable = Submission::of("search").data(&std::collections::BTreeMap::from([((1, 2), 3)]));
    assert!(matches!(client.submit(&unwritable).await, Err(ClientError::Malformed(_))));
}
