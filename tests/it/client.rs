//! The SDK's client against the real API: submit and wait, as a web backend does.

use std::time::Duration;

use phasework_engine::api::{ApiConfig, Tokens, router, serve};
use phasework_sdk::{Client, ClientError, Context, HandlerError, Order, Submission};
use phasework_tests::World;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::scenarios;

scenarios!(a_client_submits_and_waits);

async fn a_client_submits_and_waits(mut world: World) {
    let engine = world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Double", "1.0.0", |n: u64, _: Context| async move { Ok::<_, HandlerError>(n * 2) }).handler(
                "Bad",
                "1.0.0",
                |_: Value, _: Context| async { Err::<(), _>(HandlerError::fail("no")) },
            )
        })
        .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let shutdown = CancellationToken::new();
    let config = ApiConfig { tokens: Tokens::one("secret").expect("a token"), metrics: None };
    let api = tokio::spawn(serve(listener, router(engine, config), shutdown.clone()));

    let client = Client::new(&url).expect("the address is sound").with_token("secret");
    let one = |handler: &str| {
        json!({ "workflow": "by-client", "output": "{{ outputs.only | items | first | last }}",
                "phases": { "only": { "is_initial": true, "is_final": true, "handlers": [handler] } } })
    };
    let patience = Duration::from_secs(60);
    let doubled: u64 = client
        .submit_and_wait(&Submission::define(&one("Double")).data(&21).key("k"), patience)
        .await
        .expect("the run succeeds");
    assert_eq!(doubled, 42);
    let again = client.submit(&Submission::of("by-client").data(&21).key("k")).await.expect("it is accepted");
    assert!(!again.created && again.state == "succeeded", "{again:?}");
    let failed = client.submit_and_wait::<Value>(&Submission::define(&one("Bad")), patience).await;
    let Err(ClientError::NotSucceeded(view)) = failed else { panic!("{failed:?}") };
    assert!(view.is_halted(), "{view:?}");
    client.order(view.run, &Order::cancel().reason("never mind")).await.expect("a halted run can be canceled");
    assert_eq!(client.run(view.run).await.expect("the run is there").state, "canceled");

    let wrong = json!({ "workflow": "wrong", "phases": { "a": { "is_initial": true, "transitions_to": "b" } } });
    let refused = client.submit(&Submission::define(&wrong)).await;
    let Err(ClientError::Refused { status: 422, problems, .. }) = refused else { panic!("{refused:?}") };
    assert!(problems.iter().any(|problem| problem.contains("no phase `b`")), "{problems:?}");
    let stranger = Client::new(&url).expect("the address is sound");
    let refused = stranger.run(view.run).await;
    assert!(matches!(refused, Err(ClientError::Refused { status: 401, .. })), "{refused:?}");

    shutdown.cancel();
    api.await.expect("the API ends").expect("the API ends well");
    world.stop().await;
}
