//! The server around the endpoints: it stops when told, counts, and gives every request an id.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use metrics_exporter_prometheus::PrometheusBuilder;
use phasework_engine::api::ApiConfig;
use tokio::sync::Notify;

use super::world::{ECHO, THROUGH, World, within};

#[tokio::test]
async fn told_to_stop_it_answers_who_waits_and_refuses_who_comes() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let tell = from_fn(move |request: Request, next: Next| {
        if request.uri().query().is_some() {
            notify.notify_one();
        }
        next.run(request)
    });
    let world = World::with(ApiConfig::default(), &[], |router| router.layer(tell)).await;
    world.apply(ECHO).await;
    let run = world.submit("echo", "k").await;

    let mut connection = world.connect().await;
    connection.send(&format!("GET /v1/runs/{run}?wait=60s HTTP/1.1\r\nHost: {}\r\n\r\n", world.address)).await;
    within(arrived.notified()).await;
    let begun = tokio::time::Instant::now();
    world.shutdown.cancel();
    let reply = connection.reply().await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &"running".into()));
    within(world.served).await.unwrap().unwrap();
    assert!(begun.elapsed().as_secs() < 8, "it did not stop promptly");
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn metrics_count_requests_and_show_what_there_is() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let config = ApiConfig { metrics: Some(metrics), ..ApiConfig::default() };
    let world = World::with(config, &[], |router| router).await;
    world.apply(THROUGH).await;
    world.post("/v1/runs?wait=30s", r#"{"workflow":"through"}"#).await;
    for path in ["/v1/runs/a", "/v1/runs/b", "/nowhere", "/elsewhere"] {
        world.get(path).await;
    }
    let reply = world.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "phasework_runs{state=\"live\"} 0",
        "phasework_runs{state=\"ended\"} 1",
        "phasework_dead_letters 0",
        "phasework_workers_live 0",
        "phasework_broker_up 1",
        "phasework_store_up 1",
    ] {
        assert!(reply.body.lines().any(|other| other == line), "no `{line}` in\n{}", reply.body);
    }
    for (route, status, least) in [("/v1/runs/{id}", 400, 2), ("unmatched", 404, 2), ("/v1/runs", 200, 1)] {
        let labels = format!("route=\"{route}\",status=\"{status}\"}} ");
        let counted = reply.body.lines().find_map(|line| line.split_once(&labels)?.1.parse::<u64>().ok());
        assert!(counted >= Some(least), "{labels} in\n{}", reply.body);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let world = World::new(&[]).await;
    let long = format!("X-Request-Id: {}", "x".repeat(65));
    for (headers, kept) in [
        (&["X-Request-Id: abc-123"][..], Some("abc-123")),
        (&[][..], None),
        (&["X-Request-Id: two words"][..], None),
        (&[&*long][..], None),
    ] {
        let reply = world.ask("GET", "/health/live", headers, "").await;
        let id = reply.header("x-request-id").unwrap();
        match kept {
            Some(kept) => assert_eq!(id, kept),
            None => assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}"),
        }
    }
    world.stop().await;
}
