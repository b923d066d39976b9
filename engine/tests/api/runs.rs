//! Submitting, listing, waiting, canceling: what the frozen answers do not show.

use phasework_broker::{Address, Message};
use phasework_workflows::Payload;
use phasework_workflows::message::Body as _;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::message::submission::Submit;

use super::world::{ECHO, Reply, THROUGH, World, within};

#[tokio::test]
async fn a_definition_can_be_submitted_as_an_object_or_as_a_text() {
    let world = World::new(&[]).await;
    for definition in [THROUGH.to_owned(), serde_json::to_string(THROUGH).unwrap()] {
        let reply = world.post("/v1/runs?wait=30s", &format!(r#"{{"definition": {definition}}}"#)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["state"], "succeeded");
    }
    assert_eq!(world.get("/v1/workflows").await.json()["workflows"][0]["name"], "through");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_submitted_says_why() {
    let world = World::new(&[]).await;
    world.apply(THROUGH).await;
    let key = "k".repeat(201);
    let large = format!(r#"{{"workflow":"through","data":"{}"}}"#, "x".repeat(1024 * 1024));
    for (body, status, code, words) in [
        ("", 400, "malformed", "the body is empty"),
        ("nonsense", 400, "malformed", "line 1, column 2"),
        ("[]", 400, "malformed", "must be a JSON object, not a list"),
        ("null", 400, "malformed", "invalid type: null"),
        (r#"{"workflow":"through"} x"#, 400, "malformed", "trailing characters"),
        (r#"{"workflow":"through","workflow":"x"}"#, 400, "malformed", "duplicate field `workflow`"),
        (r#"{"workflow":"through","dta":1}"#, 400, "malformed", "unknown field `dta`, expected one of"),
        (r#"{"workflow":"a b"}"#, 400, "malformed", "letters, digits"),
        (r#"{"workflow":7}"#, 400, "malformed", "expected a string"),
        (r#"{"workflow":"trough"}"#, 404, "not-found", "did you mean `through`?"),
        (r#"{"workflow":"through","revision":"x"}"#, 404, "not-found", "has no revision x"),
        (r#"{"revision":"x"}"#, 400, "invalid", "`revision` needs"),
        (r#"{"workflow":"through","definition":{}}"#, 400, "invalid", "not both"),
        (r#"{"definition":7}"#, 422, "invalid-definition", "problem"),
        (r#"{"definition":"{"}"#, 422, "invalid-definition", "problem"),
        (r#"{"workflow":"through","key":""}"#, 400, "invalid", "a key has 1 to 200 bytes"),
        (&format!(r#"{{"workflow":"through","key":"{key}"}}"#), 400, "invalid", "a key has 1 to 200 bytes"),
        (&large, 413, "too-large", "run data of"),
    ] {
        let reply = world.post("/v1/runs", body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((reply.status, &*reply.code()), (status, code), "{shown}: {reply:?}");
        assert!(reply.message().contains(words), "{shown}: {reply:?}");
    }
    assert_eq!(world.get("/v1/runs").await.json()["counts"], serde_json::json!({"live": 0, "ended": 0}));
    world.stop().await;
}

#[tokio::test]
async fn queries_and_paths_that_make_no_sense_say_why() {
    let world = World::new(&[]).await;
    let run = "/v1/runs/00000000-0000-0000-0000-000000000000";
    for (path, status, words) in [
        ("/v1/runs?state=lve", 400, "unknown variant `lve`, expected one of `live`, `ended`, `all`"),
        ("/v1/runs?limit=0", 400, "`limit` must be 1 to 1000, not 0"),
        ("/v1/runs?limit=1001", 400, "`limit` must be"),
        ("/v1/runs?limit=-1", 400, "invalid digit"),
        ("/v1/runs?limits=1", 400, "unknown field `limits`, expected one of"),
        ("/v1/runs?before=yesterday", 400, "`before` must be the `next` of the page before"),
        ("/v1/runs?limit=1&limit=2", 400, "duplicate field"),
        (&format!("{run}?wait=soon"), 400, "`soon` is not a length of time such as 500ms, 30s"),
        (&format!("{run}?wait=61s"), 400, "at most 60s"),
        (&format!("{run}?wait=1s"), 404, "there is no run"),
        (&format!("{run}/history"), 404, "there is no run"),
        (&format!("{run}/failures"), 404, "there is no run"),
        ("/v1/runs/x/history", 400, "is not a run id"),
        ("/v1/runs/%ff", 400, "UTF-8"),
        ("/v1/runs/", 404, "did you mean `/v1/runs`?"),
        ("/v1/worker", 404, "did you mean `/v1/workers`?"),
        ("/v2", 404, "there is nothing at `/v2`"),
        ("/v1/workflows/a.b", 400, "letters, digits"),
        ("/v1/dead/nobody", 404, "there is no dead letter nobody"),
    ] {
        let reply = world.get(path).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.message().contains(words), "{path}: {reply:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn every_run_is_on_one_page_even_when_all_are_of_one_moment() {
    let world = World::new(&[]).await;
    world.apply(THROUGH).await;
    let mut expected = Vec::new();
    for number in 0..25 {
        let body = format!(r#"{{"workflow":"through","key":"k{number}"}}"#);
        let reply = world.post("/v1/runs?wait=30s", &body).await;
        expected.push(reply.json()["run"].as_str().unwrap().to_owned());
    }
    expected.sort();
    for (limit, pages) in [(1, 25), (7, 4), (24, 2), (25, 1), (1000, 1)] {
        let (mut found, mut count, mut next) = (Vec::new(), 0, String::new());
        loop {
            let page = world.get(&format!("/v1/runs?state=ended&limit={limit}{next}")).await.json();
            count += 1;
            found.extend(page["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()));
            assert_eq!(page["counts"], serde_json::json!({"live": 0, "ended": 25}));
            match page["next"].as_str() {
                Some(cursor) => next = format!("&before={cursor}"),
                None => break,
            }
        }
        found.sort();
        assert_eq!((found, count), (expected.clone(), pages), "limit {limit}");
    }
    world.stop().await;
}

#[tokio::test]
async fn jobs_carry_the_trace_that_their_run_was_submitted_in() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let here = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (sent, expected) in [(Some(here), Some(here)), (Some("00-no-sense-01"), None), (None, None)] {
        let header = sent.map(|sent| format!("traceparent: {sent}"));
        let headers: Vec<_> = header.iter().map(String::as_str).collect();
        let reply = world.ask("POST", "/v1/runs", &headers, r#"{"workflow":"echo"}"#).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let groups = world.work("Echo", |_| Ok(Payload::null())).await;
        assert_eq!(groups[0].traceparent.as_deref(), expected, "{sent:?}");
    }
    let mut message = Message::new(Address::Submit, Submit::KIND, r#"{"v":1,"workflow":"echo"}"#);
    message.headers.push(("traceparent".into(), here.into()));
    world.broker.publish(vec![message]).await.remove(0).unwrap();
    let groups = world.work("Echo", |_| Ok(Payload::null())).await;
    assert_eq!(groups[0].traceparent.as_deref(), Some(here), "with a message");
    world.stop().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_run() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "k").await;
    let begun = tokio::time::Instant::now();
    let path = format!("/v1/runs/{run}?wait=60s");
    let (waited, _) = tokio::join!(world.get(&path), world.work("Echo", |_| Ok(Payload::null())));
    assert_eq!(waited.json()["state"], "succeeded", "{waited:?}");
    assert!(begun.elapsed().as_secs() < 20, "it waited for something else");
    let zero = world.get(&format!("/v1/runs/{run}?wait=0s")).await;
    assert_eq!(zero.json()["state"], "succeeded");
    world.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_over_shows_the_run_as_it_is() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let waited: Reply = world.post("/v1/runs?wait=50ms", r#"{"workflow":"echo"}"#).await;
    assert_eq!(waited.status, 200);
    assert_eq!(waited.json()["state"], "running");
    assert_eq!(waited.json()["waiting_for"], "a worker that hosts Echo ~> 1.0");
    world.stop().await;
}

#[tokio::test]
async fn canceling_twice_changes_one_thing() {
    let world = World::new(&[]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "k").await;
    let path = format!("/v1/runs/{run}/cancel");
    for (body, changed) in
        [(r#"{"reason":"why not"}"#, true), ("", false), ("{}", false), (r#"{"reason":null}"#, false)]
    {
        let reply = world.post(&path, body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json(), serde_json::json!({"run": run, "state": "canceled", "changed": changed}));
    }
    for (body, words) in [
        ("{", "EOF"),
        (r#"{"raison":""}"#, "unknown field `raison`"),
        ("[7]", "must be a JSON object"),
        ("7", "invalid type: integer"),
    ] {
        let reply = world.post(&path, body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.message().contains(words), "{body}: {reply:?}");
    }
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1001));
    assert!(world.post(&path, &long).await.message().contains("at most 1000 bytes"));
    let nobody = within(world.post("/v1/runs/00000000-0000-0000-0000-000000000000/cancel", "")).await;
    assert_eq!((nobody.status, &*nobody.code()), (404, "not-found"));
    world.stop().await;
}

#[tokio::test]
async fn a_run_says_what_it_waits_for() {
    let world = World::new(&["Echo"]).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "k").await;
    let view = world.get(&format!("/v1/runs/{run}")).await.json();
    let words = view["waiting_for"].as_str().unwrap();
    // The engine may not have read yet which workers it knows.
    let expected = ["1 job of Echo 1.0.0, queued or under way", "a worker that hosts Echo ~> 1.0"];
    assert!(expected.contains(&words), "{view}");
    world.stop().await;
}

#[tokio::test]
async fn a_failure_of_an_earlier_visit_names_its_phase_and_handler() {
    let world = World::new(&["Echo", "Other"]).await;
    let again = r#"{"workflow": "again", "phases": {
        "try": {"is_initial": true, "transitions_to": "end", "on_error_transition_to": "mend",
                "handlers": ["Other", {"name": "Echo", "retry": {"max_attempts": 1}}]},
        "mend": {"transitions_to": "try"},
        "end": {"is_final": true}}}"#;
    world.apply(again).await;
    let run = world.submit("again", "k").await;
    let fail = |words: &'static str| move |_: &_| Err(JobError::new("error", words).for_good());
    for visit in ["first", "second"] {
        world.work("Other", |_| Ok(Payload::null())).await;
        world.work("Echo", fail(visit)).await;
    }
    world.work("Other", |_| Ok(Payload::null())).await;
    world.work("Echo", |_| Ok(Payload::null())).await;
    let ended = world.get(&format!("/v1/runs/{run}?wait=30s")).await.json();
    assert!(ended["ended_at"].is_string(), "{ended}");

    let mut seen = Vec::new();
    for skip in 0..3 {
        let page = world.get(&format!("/v1/runs/{run}/failures?skip={skip}&limit=1")).await.json();
        let failures = page["failures"].as_array().unwrap().iter();
        seen.extend(failures.map(|failure| {
            let text = |name: &str| failure[name].as_str().unwrap().to_owned();
            let message = failure["error"]["message"].as_str().unwrap().to_owned();
            (failure["entry"].as_u64().unwrap(), text("phase"), text("handler"), message)
        }));
    }
    let row = |entry, message: &str| (entry, "try".to_owned(), "Echo".to_owned(), message.to_owned());
    assert_eq!(seen, [row(1, "first"), row(3, "second")]);
    world.stop().await;
}
