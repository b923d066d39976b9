//! Bodies that are too large, too deep, or no text at all: each is refused, and nothing is held that is not wanted.

use tokio::io::AsyncWriteExt as _;

use super::world::{THROUGH, World, within};

const MB: usize = 1024 * 1024;

#[tokio::test]
async fn a_large_body_is_refused_before_any_of_it_is_sent() {
    let world = World::new(&[]).await;
    for path in ["POST /v1/runs", "PUT /v1/workflows", "POST /v1/workflows/validate"] {
        let mut connection = world.connect().await;
        let length = 100 * MB;
        connection
            .send(&format!("{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", world.address))
            .await;
        let reply = connection.reply().await;
        assert_eq!((reply.status, &*reply.code()), (413, "too-large"), "{path}");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_large_body_of_unknown_length_is_not_read_to_its_end() {
    let world = World::new(&[]).await;
    let mut connection = world.connect().await;
    let head = format!("POST /v1/runs HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", world.address);
    connection.send(&head).await;
    let chunk = format!("{MB:x}\r\n{}\r\n", "x".repeat(MB));
    let mut sent = 0;
    while sent < 400 && within(connection.0.write_all(chunk.as_bytes())).await.is_ok() {
        sent += 1;
    }
    // What is passed over after the answer, and what the sockets in between hold, comes on top of the limit.
    assert!(sent < 200, "{sent} MB were taken");
    let reply = connection.reply().await;
    assert_eq!((reply.status, &*reply.code()), (413, "too-large"));
    world.stop().await;
}

#[tokio::test]
async fn who_sends_all_of_a_large_body_before_listening_still_hears_why() {
    let world = World::new(&[]).await;
    let reply = world.post("/v1/runs", &"x".repeat(100 * MB)).await;
    assert_eq!((reply.status, &*reply.code()), (413, "too-large"));
    world.stop().await;
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_read() {
    let world = World::new(&[]).await;
    for (size, status) in [(4 * MB, 400), (4 * MB + 1, 413)] {
        let reply = world.post("/v1/runs", &format!("x{}", " ".repeat(size - 1))).await;
        assert_eq!(reply.status, status, "{size}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused() {
    let world = World::new(&[]).await;
    world.apply(THROUGH).await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = nested(10_000);
    let submit = |data: &str| format!(r#"{{"workflow":"through","data":{data}}}"#);
    for (path, body, status, words) in [
        ("/v1/runs", submit(&nested(100)), 201, ""),
        ("/v1/runs", submit(&nested(101)), 400, "nested 101 deep; at most 100"),
        ("/v1/runs", submit(&deep), 400, "nested 10000 deep"),
        ("/v1/runs", submit(&"[".repeat(100_000)), 400, "expected value"),
        ("/v1/runs", deep.clone(), 400, "must be a JSON object, not a list"),
        ("/v1/runs", format!(r#"{{"x":{deep}}}"#), 400, "unknown field `x`"),
        ("/v1/runs", format!(r#"{{"definition":{deep}}}"#), 422, "problem"),
        ("/v1/runs", format!(r#"{{"definition":"{deep}"}}"#), 422, "problem"),
        ("/v1/workflows/validate", deep.clone(), 422, "problem"),
        ("/v1/workflows/validate", format!(r#"{{"workflow":{deep}}}"#), 422, "problem"),
    ] {
        let reply = world.post(path, &body).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!(reply.status, status, "{path} {shown}: {reply:?}");
        assert!(words.is_empty() || reply.message().contains(words), "{path} {shown}: {reply:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_in_the_envelope() {
    let world = World::new(&[]).await;
    let garbage: [&[u8]; 5] =
        [b"\x00\x01\x02", b"{\"workflow\": \"\xff\"}", b"\xef\xbb\xbf{}", b"{\"a\":\"\\ud800\"}", b"\x1f\x8b"];
    for (path, status) in [("POST /v1/runs", 400), ("PUT /v1/workflows", 422), ("POST /v1/workflows/validate", 422)] {
        for body in garbage {
            let mut connection = world.connect().await;
            let length = body.len();
            let head = format!("{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", world.address);
            connection.send(&head).await;
            within(connection.0.write_all(body)).await.unwrap();
            let reply = connection.reply().await;
            let expected = if std::str::from_utf8(body).is_ok() { status } else { 400 };
            assert_eq!(reply.status, expected, "{path} {body:?}: {reply:?}");
            reply.message();
        }
    }
    world.stop().await;
}
