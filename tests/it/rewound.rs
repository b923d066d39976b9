//! A Redis of its own under running coordinators: restarted, set back to what it had a while ago, and full.

use std::path::Path;

use phasework_broker::Address;
use phasework_engine::EngineError;
use phasework_tests::{Setting, World};
use phasework_workflows::definition::parse;
use phasework_workflows::id::RunId;
use phasework_workflows::message::Body;
use phasework_workflows::message::event::StartRuns;
use phasework_workflows::run::RunState;
use serde_json::json;
use xtask::redis::Redis;

use crate::bad_input::publish;
use crate::fans::{QUEUE, Tap, ended_rightly, fan, hosting, losses, submit_all, until_jobs, until_recovered};
use crate::own::{self, Own};
use crate::processes::until;

/// How many jobs each phase of a run has.
const JOBS: u64 = 12;

/// Plays in a world whose store is a Redis of its own, if there may be one.
fn play<F: Future<Output = ()>>(scenario: impl FnOnce(World, Own<Redis>) -> F) {
    let Some(redis) = own::redis() else { return };
    let Some(Setting::Real { broker, .. }) = Setting::real() else { return };
    crate::play(Setting::Real { broker, store: redis.url() }, |world| scenario(world, redis));
}

#[test]
fn a_redis_that_restarts_costs_no_run() {
    play(async |mut world, mut redis| {
        let tap = Tap::at(4);
        let engine = world.start_engine().await;
        let ledger = world.ledger.clone();
        world.start_worker(hosting(&ledger, &tap)).await;
        for way in ["stopped", "killed"] {
            tap.turn(4);
            let runs = submit_all(&engine, &fan(JOBS), way, 6).await;
            until_jobs(&world, "begun", &runs, 6 * JOBS as usize).await;
            if way == "stopped" {
                redis.stop().expect("Redis stops");
            } else {
                redis.kill();
            }
            tap.turn(8);
            redis.start().expect("Redis starts");
            // It may have lost something, for all that anybody knows.
            until_recovered(&world, &runs).await;
            tap.turn(u64::MAX);
            for run in runs {
                ended_rightly(&world, &engine, run, JOBS).await;
            }
        }
        world.stop().await;
    });
}

/// Puts a copy of what `from` holds in place of `to`.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("it can be removed");
    }
    std::fs::create_dir(to).expect("a directory can be made");
    for file in std::fs::read_dir(from).expect("it can be listed") {
        let file = file.expect("it can be listed");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}

/// Stops it, puts the copy in place of what it has, and starts it again.
fn rewind(redis: &mut Redis, to: &Path) {
    redis.stop().expect("Redis stops");
    copy(to, &redis.data());
    redis.start().expect("Redis starts");
}

#[test]
fn a_redis_that_is_rewound_under_coordinators_goes_on_from_there() {
    play(async |mut world, mut redis| {
        let backup = redis.directory().join("backup");
        let tap = Tap::at(4);
        let engines = [world.start_engine().await, world.start_engine().await];
        let engine = &engines[0];
        let ledger = world.ledger.clone();
        world.start_worker(hosting(&ledger, &tap)).await;

        let known = submit_all(engine, &fan(JOBS), "known", 6).await;
        let ended = submit_all(engine, &fan(8), "ended", 6).await;
        until_jobs(&world, "begun", &known, 6 * JOBS as usize).await;
        until_jobs(&world, "begun", &ended, 6 * 8).await;
        copy(&redis.data(), &backup);

        // What follows will never have been, but for what is in workers and queues.
        tap.turn(8);
        for &run in &ended {
            ended_rightly(&world, engine, run, 8).await;
        }
        let unknown = submit_all(engine, &fan(JOBS), "unknown", 6).await;
        until_jobs(&world, "begun", &unknown, 6 * JOBS as usize).await;
        rewind(&mut redis, &backup);

        // Somebody who was told that a run was accepted looks for it in vain, and submits it again: it has the same id.
        tap.next_life();
        for &run in &unknown {
            until("the run is not there", async || matches!(engine.run(run).await, Err(EngineError::NotFound(_))))
                .await;
        }
        let again = submit_all(engine, &fan(JOBS), "unknown", 2).await;
        assert_eq!(again, unknown[..2]);
        until_recovered(&world, &known).await;
        tap.turn(u64::MAX);
        for &run in &known {
            ended_rightly(&world, engine, run, JOBS).await;
        }
        for &run in &ended {
            ended_rightly(&world, engine, run, 8).await;
        }
        for &run in &again {
            let lives = ended_rightly(&world, engine, run, JOBS).await;
            assert!(lives.iter().all(|life| *life == 1), "{run}: what the lost timeline reported counts: {lives:?}");
        }
        nothing_is_left(&world).await;
        for &run in &unknown[2..] {
            let looked_for = engine.run(run).await;
            assert!(matches!(looked_for, Err(EngineError::NotFound(_))), "{run}: {looked_for:#?}");
        }
        // Once in the lost timeline, again when the outbox of the copy is published, again when it is recovered: whoever
        // finds out may have to begin anew on the way, but nobody goes round in circles.
        let most = world.ledger.under("begun ").into_iter().max_by_key(|(_, times)| *times);
        assert!(most.as_ref().is_some_and(|(_, times)| *times <= 10), "{most:?}");
        world.stop().await;
    });
}

/// Every message is read and acknowledged, and none is a dead letter.
async fn nothing_is_left(world: &World) {
    let broker = world.broker().await;
    let queues = (0..4).map(Address::Coordinator).chain([Address::Jobs(QUEUE.into()), Address::Dead]);
    for queue in queues {
        until("the queue is empty", async || broker.depth(&queue).await.expect("a depth") == 0).await;
    }
    assert_eq!(world.store().await.dead_count().await.expect("a count"), 0);
    broker.close().await;
}

/// A definition came after the copy, and a submission of it waited in a queue meanwhile. Coordinators that remember it
/// can start the run; others must be able to go on with it.
#[test]
fn a_definition_that_a_rewind_has_lost_is_stored_again() {
    play(async |mut world, mut redis| {
        let backup = redis.directory().join("backup");
        let tap = Tap::at(0);
        let engine = world.start_engine().await;
        let ledger = world.ledger.clone();
        world.start_worker(hosting(&ledger, &tap)).await;
        until("the engine is ready", async || engine.readiness().await.is_empty()).await;
        copy(&redis.data(), &backup);
        let text = fan(JOBS);
        engine.apply_workflow(&text).await.expect("it is stored");
        rewind(&mut redis, &backup);
        let workflow = parse(&text).expect("a definition").workflow;
        let run = RunId::from_key(phasework_engine::engine::NAMESPACE, &workflow.name, "waited");
        let order = json!({ "run": run, "workflow": workflow.name, "revision": workflow.revision, "key": "waited" });
        let body = json!({ "v": 1, "items": [order] }).to_string();
        publish(&world, Address::Coordinator(run.shard().queue(4)), StartRuns::KIND, body).await;
        until_jobs(&world, "begun", &[run], JOBS as usize).await;
        let store = world.store().await;
        until("the definition is stored again", async || {
            store.workflow(&workflow.revision).await.expect("the store answers").is_some()
        })
        .await;
        world.stop_engine(0).await;
        let engine = world.start_engine().await;
        tap.turn(u64::MAX);
        ended_rightly(&world, &engine, run, JOBS).await;
        world.stop().await;
    });
}

#[test]
fn a_full_redis_holds_everything_up_and_says_so() {
    play(async |mut world, redis| {
        let tap = Tap::at(4);
        let engine = world.start_engine().await;
        let ledger = world.ledger.clone();
        world.start_worker(hosting(&ledger, &tap)).await;
        let runs = submit_all(&engine, &fan(JOBS), "run", 6).await;
        until_jobs(&world, "begun", &runs, 6 * JOBS as usize).await;
        let client = redis::Client::open(redis.url()).expect("a URL");
        let mut direct = client.get_multiplexed_async_connection().await.expect("Redis answers");
        let mut limit = async |bytes: &str| {
            let set = redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes]).query_async::<()>(&mut direct).await;
            set.expect("it can be set");
        };
        limit("1").await;
        until("the engine says why it is not ready", async || {
            engine.readiness().await.iter().any(|reason| reason.contains("store") && reason.contains("maxmemory"))
        })
        .await;
        tap.turn(u64::MAX);
        until_jobs(&world, "done", &runs, 6 * JOBS as usize).await;
        for &run in &runs {
            assert_eq!(engine.run(run).await.expect("it can be looked at").head.state, RunState::Running);
        }
        limit("0").await;
        for &run in &runs {
            ended_rightly(&world, &engine, run, JOBS).await;
            assert_eq!(losses(&world, run).await, [], "{run}: what takes its time is not lost");
        }
        until("the engine is ready again", async || engine.readiness().await.is_empty()).await;
        world.stop().await;
    });
}
