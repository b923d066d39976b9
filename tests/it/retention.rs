//! Ended runs are kept for a time, and then nothing is left of them; live ones stay.

use phasework_engine::EngineError;
use phasework_tests::{World, submit, wait};
use phasework_workflows::run::RunState;
use phasework_workflows::time::Millis;
use serde_json::{Value, json};

use crate::{scenarios, scenarios_on_sqlite};

scenarios!(ended_runs_go_when_their_time_is_over);

scenarios_on_sqlite!(ended_runs_go_when_their_time_is_over,);

async fn ended_runs_go_when_their_time_is_over(mut world: World) {
    let first = world.start_engine().await;
    let only = |handlers: Value| {
        let phase = json!({ "is_initial": true, "is_final": true, "handlers": handlers });
        json!({ "workflow": "kept", "phases": { "only": phase } }).to_string()
    };
    let ended = submit(&first, &only(json!([])), json!({ "some": "data" })).await;
    assert_eq!(wait(&first, ended).await.head.state, RunState::Succeeded);
    let waiting = submit(&first, &only(json!(["Nobody"])), Value::Null).await;
    // An engine a week and a day later takes over.
    let later = world.start_engine_ahead(Millis::from_mins(8 * 24 * 60)).await;
    assert!(first.run(ended).await.is_ok(), "it is kept until then");
    world.kill_engine().await;
    let gone = async {
        while later.run(ended).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("the ended run is removed");
    assert!(matches!(later.run(ended).await, Err(EngineError::NotFound(_))));
    assert_eq!(later.history(ended, 0, 10).await.expect("the history can be asked for"), []);
    assert_eq!(later.run(waiting).await.expect("a live run stays").head.state, RunState::Running);
    world.stop().await;
}
