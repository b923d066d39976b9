//! Who may ask.

use phasework_engine::api::{ApiConfig, Tokens};

use super::world::World;

#[tokio::test]
async fn with_a_token_only_those_who_show_it_are_answered() {
    let config = ApiConfig { tokens: Tokens::one("s3cret").unwrap(), metrics: None };
    let world = World::with(config, &[], |router| router).await;
    let (right, wrong) = ("Authorization: Bearer s3cret", "Authorization: Bearer s3creT");
    let named = "Origin: https://console.example";
    for (path, headers, status) in [
        ("/health/live", &[][..], 200),
        ("/health/ready", &[][..], 200),
        ("/", &[][..], 401),
        ("/v1/runs", &[][..], 401),
        ("/v1/nothing", &[][..], 401),
        ("/metrics", &[][..], 401),
        ("/health/live/", &[][..], 401),
        ("/v1/runs", &[wrong][..], 401),
        ("/v1/runs?token=s3cret", &[][..], 401),
        ("/v1/runs", &[right][..], 200),
        ("/v1/runs", &[right, named][..], 200),
        ("/v1/nothing", &[right][..], 404),
    ] {
        let reply = world.ask("GET", path, headers, "").await;
        assert_eq!(reply.status, status, "{path} {headers:?}: {reply:?}");
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
        assert!(!reply.body.contains("s3cret"), "{reply:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn without_a_token_web_pages_are_kept_out() {
    let world = World::new(&[]).await;
    for (headers, status) in [
        (&[][..], 200),
        (&["Origin: https://evil.example"][..], 403),
        (&["Sec-Fetch-Site: cross-site"][..], 403),
        (&["Sec-Fetch-Site: same-origin"][..], 200),
    ] {
        assert_eq!(world.ask("GET", "/v1/runs", headers, "").await.status, status, "{headers:?}");
    }
    let mut connection = world.connect().await;
    connection.send("GET /v1/runs HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    let reply = connection.reply().await;
    assert_eq!((reply.status, &*reply.code()), (403, "forbidden"));
    world.stop().await;
}
