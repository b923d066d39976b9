//! An engine that dies at any point of commit, publish, acknowledge loses nothing, and nothing counts twice.

use phasework_sdk::{Context, HandlerError};
use phasework_tests::{Crash, Deed, Point, World, wait};
use phasework_workflows::run::RunState;
use serde_json::json;

use crate::definitions::phases;
use crate::{scenarios_on_sqlite, scenarios_over_http_too};

scenarios_over_http_too!(
    an_engine_dies_at_any_point_of_a_commit,
    an_engine_dies_at_any_point_of_a_publish,
    an_engine_dies_at_any_point_of_an_acknowledgement,
);

scenarios_on_sqlite!(
    an_engine_dies_at_any_point_of_a_commit,
    an_engine_dies_at_any_point_of_a_publish,
    an_engine_dies_at_any_point_of_an_acknowledgement,
);

async fn an_engine_dies_at_any_point_of_a_commit(world: World) {
    die_at_each(world, Deed::Commit).await;
}

async fn an_engine_dies_at_any_point_of_a_publish(world: World) {
    die_at_each(world, Deed::Publish).await;
}

async fn an_engine_dies_at_any_point_of_an_acknowledgement(world: World) {
    die_at_each(world, Deed::Acknowledge).await;
}

/// Lets an engine die before and after each of the first times it does a deed, until a run gets by without dying.
async fn die_at_each(world: World, deed: Deed) {
    let setting = world.setting().clone();
    let mut deaths = 0;
    for after in [false, true] {
        for nth in 1.. {
            if !die_at(World::new(setting.clone()), Point { deed, after, nth }).await {
                break;
            }
            deaths += 1;
        }
    }
    // Fewer would mean that the run did not go through the engine: start, outcomes, two ends of phases, before and after.
    assert!(deaths >= 6, "only {deaths} deaths");
}

/// A run whose engine dies at `point`, after which another takes over. Whether the point was reached at all.
async fn die_at(mut world: World, point: Point) -> bool {
    let crash = Crash::at(point);
    let first = world.start_crashing_engine(&crash).await;
    let ledger = world.ledger.clone();
    world
        .start_worker(|worker| {
            worker.handler("H", "1.0.0", move |index: u64, _: Context| {
                ledger.note(format!("job {index}"));
                async move { Ok::<_, HandlerError>(index + 1) }
            })
        })
        .await;
    let definition = json!({
        "workflow": "crash",
        "phases": {
            "a": { "is_initial": true, "transitions_to": "b",
                   "handlers": [{ "name": "H", "for_each": 3, "max_in_flight": 2 }] },
            "b": { "is_final": true, "handlers": [{ "name": "H", "input": "{{ outputs.a.H | sum }}" }] }
        }
    })
    .to_string();
    // The submission is repeated by key when the first engine dies over it, as a client would.
    let submission = || phasework_engine::Submission {
        what: phasework_engine::ToRun::Definition(definition.clone()),
        data: None,
        key: Some("the-run".into()),
    };
    let finished = async {
        let accepted = first.submit(submission()).await.expect("the submission is accepted");
        wait(&first, accepted.run).await
    };
    let run = tokio::select! {
        biased;
        () = crash.happened() => None,
        run = finished => Some(run),
    };
    let died = run.is_none();
    let run = match run {
        Some(run) => run,
        None => {
            let second = world.start_engine().await;
            world.kill_engine().await;
            let accepted = second.submit(submission()).await.expect("the submission is accepted");
            wait(&second, accepted.run).await
        }
    };
    assert_eq!(run.head.state, RunState::Succeeded, "{point:?}: {:#?}", run.head);
    assert_eq!(run.output.map(|output| output.to_value()), Some(json!({ "H": 7 })), "{point:?}");
    assert_eq!(phases(&world, run.head.id).await, ["a", "b"], "{point:?}");
    let counts = world.store().await.run_counts().await.expect("runs can be counted");
    assert_eq!((counts.live, counts.ended), (0, 1), "{point:?}: one run for one key");
    let jobs: Vec<_> = world.ledger.under("job").into_iter().map(|(job, _)| job).collect();
    assert_eq!(jobs, ["job 0", "job 1", "job 2", "job 6"], "{point:?}");
    if !died {
        // It may come to the point yet, and would then never stop.
        world.kill_engine().await;
    }
    world.stop().await;
    died
}
