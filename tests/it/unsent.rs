//! Messages that cannot be published: a job that is too large fails for good, and a queue that confirms nothing holds up
//! nobody but those who wait for it.

use phasework_sdk::{Context, HandlerError};
use phasework_tests::{Clog, World, submit, wait};
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::scenarios;

scenarios!(a_job_too_large_to_be_sent_fails_for_good, a_clogged_queue_holds_up_nobody_else);

async fn a_job_too_large_to_be_sent_fails_for_good(mut world: World) {
    world.limit_messages(20_000);
    let engine = world.start_engine().await;
    world
        .start_worker(|worker| {
            worker.handler("Echo", "1.0.0", |data: Value, _: Context| async { Ok::<_, HandlerError>(data) })
        })
        .await;
    let texts = vec!["{{ data.text }}"; 10];
    let definition = json!({ "workflow": "large", "phases": {
        "only": { "is_initial": true, "transitions_to": "done", "on_error_transition_to": "error",
            "handlers": [{ "name": "Echo", "input": texts }] },
        "error": { "is_final": true },
        "done": { "is_final": true } } });
    let detail = world.run(&definition.to_string(), json!({ "text": "x".repeat(3000) })).await;
    assert_eq!(
        (detail.head.state, detail.head.entry.phase.as_str()),
        (RunState::Failed, "error"),
        "{:#?}",
        detail.head
    );
    let failures = engine.failures(detail.head.id, 0, 10).await.expect("failures can be listed");
    let found: Vec<_> = failures.iter().map(|failure| (failure.index, &*failure.error.kind)).collect();
    assert_eq!(found, [(0, "too-large")], "{failures:#?}");
    assert!(failures[0].error.message.contains("at most 20000"), "{failures:#?}");
    world.stop().await;
}

fn one_job(handler: &str) -> String {
    format!(
        r#"{{ "workflow": "one-{}", "phases": {{ "only": {{ "is_initial": true, "is_final": true,
            "handlers": ["{handler}"] }} }} }}"#,
        handler.to_lowercase()
    )
}

async fn a_clogged_queue_holds_up_nobody_else(mut world: World) {
    let clog = Clog::of("Stuck.1.0.0");
    let engine = world.start_clogged_engine(&clog).await;
    world
        .start_worker(|worker| {
            let echo = |data: Value, _: Context| async { Ok::<_, HandlerError>(data) };
            worker.handler("Echo", "1.0.0", echo).handler("Stuck", "1.0.0", echo)
        })
        .await;
    let stuck = submit(&engine, &one_job("Stuck"), json!(1)).await;
    // Enough that all coordinator queues have some, and that of the stuck one too.
    for number in 0..32 {
        let run = submit(&engine, &one_job("Echo"), json!(number)).await;
        assert_eq!(wait(&engine, run).await.head.state, RunState::Succeeded);
    }
    assert!(clog.refused() > 0);
    let head = engine.run(stuck).await.expect("the run is there").head;
    assert_eq!(head.state, RunState::Running);
    clog.open();
    assert_eq!(wait(&engine, stuck).await.head.state, RunState::Succeeded);
    world.stop().await;
}
