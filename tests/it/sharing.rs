//! Coordinators share their queues fairly, whoever comes and goes, and a queue changes hands without a gap that anybody
//! would notice.

use std::time::Duration;

use phasework_engine::{Engine, Submission, ToRun};
use phasework_tests::{World, wait};
use phasework_workflows::id::RunId;
use phasework_workflows::run::RunState;
use tokio::time::Instant;

use crate::scenarios;

scenarios!(queues_are_shared_fairly, a_coordinator_that_stops_hands_over_at_once);

/// How long queues may be unfairly shared. A tick is a tenth of a second here.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a submission may take while queues change hands.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(2);

const DEFINITION: &str = r#"{ "workflow": "moving", "phases": {
    "begin": { "is_initial": true, "transitions_to": "end" }, "end": { "is_final": true } } }"#;

/// Looks again and again until the engines own this many queues each, in any order.
async fn until_owned(engines: &[&Engine], expected: &[usize]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut owned: Vec<_> = engines.iter().map(|engine| engine.queues_owned()).collect();
        owned.sort_unstable();
        if owned == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{owned:?} and not {expected:?}");
        tokio::task::yield_now().await;
    }
}

/// Submits runs to all shards at once; says how long the slowest took to be accepted.
async fn submit_everywhere(engine: &Engine, round: &str) -> (Vec<RunId>, Duration) {
    let began = Instant::now();
    let submissions = (0..64).map(|number| {
        let key = Some(format!("{round} {number}").into());
        engine.submit(Submission { what: ToRun::Definition(DEFINITION.into()), data: None, key })
    });
    let accepted = futures::future::try_join_all(submissions).await.expect("all are accepted");
    (accepted.iter().map(|accepted| accepted.run).collect(), began.elapsed())
}

async fn all_succeed(engine: &Engine, runs: &[RunId]) {
    for &run in runs {
        assert_eq!(wait(engine, run).await.head.state, RunState::Succeeded);
    }
}

async fn queues_are_shared_fairly(mut world: World) {
    let first = world.start_engine().await;
    until_owned(&[&first], &[4]).await;
    let second = world.start_engine().await;
    until_owned(&[&first, &second], &[2, 2]).await;
    let third = world.start_engine().await;
    until_owned(&[&first, &second, &third], &[1, 1, 2]).await;
    let (runs, _) = submit_everywhere(&second, "three").await;
    world.kill_engine().await;
    until_owned(&[&second, &third], &[2, 2]).await;
    all_succeed(&third, &runs).await;
    world.stop_engine(1).await;
    until_owned(&[&second], &[4]).await;
    world.stop().await;
}

async fn a_coordinator_that_stops_hands_over_at_once(mut world: World) {
    let first = world.start_engine().await;
    until_owned(&[&first], &[4]).await;
    let second = world.start_engine().await;
    until_owned(&[&first, &second], &[2, 2]).await;
    let (mut runs, usual) = submit_everywhere(&second, "before").await;
    let ((), (further, moving)) =
        tokio::join!(biased; world.stop_engine(0), submit_everywhere(&second, "while one stops"));
    println!("64 submissions to all queues: {usual:?} in peace, {moving:?} while the owner of half the queues stops");
    assert!(moving < HANDED_OVER_WITHIN, "{moving:?}");
    runs.extend(further);
    all_succeed(&second, &runs).await;
    world.stop().await;
}
