//! A RabbitMQ that takes nothing for a while, and then comes back without anything it had: two coordinators notice, and
//! no run is lost. One server for both, since it takes long to start.

use phasework_broker::Address;
use phasework_engine::Engine;
use phasework_tests::{Setting, World};
use phasework_workflows::run::LostWhy;
use xtask::rabbitmq::RabbitMq;

use crate::fans::{
    Tap, ended_rightly, fan, hosting_at_once, losses, recovered_once, submit_all, until_jobs, until_recovered,
};
use crate::own::{self, Own};
use crate::processes::until;

/// How many jobs each phase of a run has.
const JOBS: u64 = 12;

/// How many runs are under way at an alarm.
const RUNS: usize = 10;

/// How many jobs each of two workers has room for: for all of those.
const SLOTS: u32 = 64;

/// How many runs are under way when all is lost, most of their jobs in the queue.
const MORE_RUNS: usize = 30;

/// How many jobs of each are let through before it happens.
const BEFORE: u64 = 4;

#[test]
fn a_rabbitmq_without_memory_and_then_without_its_data_costs_no_run() {
    let Some(mut rabbit) = own::rabbitmq() else { return };
    let Some(Setting::Real { store, .. }) = Setting::real() else { return };
    crate::play(Setting::Real { broker: rabbit.url(), store }, async |mut world| {
        let tap = Tap::at(BEFORE);
        let engines = [world.start_engine().await, world.start_engine().await];
        for _ in 0..2 {
            let ledger = world.ledger.clone();
            world.start_worker(hosting_at_once(SLOTS, &ledger, &tap)).await;
        }
        out_of_memory(&world, &engines, &tap, &rabbit).await;
        tap.turn(BEFORE);
        without_its_data(&world, &engines, &tap, &mut rabbit).await;
        world.stop().await;
    });
}

/// Jobs are done under a memory alarm, and cannot be reported.
async fn out_of_memory(world: &World, engines: &[Engine; 2], tap: &Tap, rabbit: &RabbitMq) {
    let runs = submit_all(&engines[0], &fan(JOBS), "alarm", RUNS).await;
    until_jobs(world, "done", &runs, RUNS * BEFORE as usize).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.0001"]).expect("an alarm can be set off");
    for engine in engines {
        until("the engine says why it is not ready", async || {
            engine
                .readiness()
                .await
                .iter()
                .any(|reason| reason.contains("broker") && reason.contains("takes no messages"))
        })
        .await;
    }
    tap.turn(u64::MAX);
    until_jobs(world, "done", &runs, RUNS * JOBS as usize).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]).expect("the alarm can be ended");
    for run in runs {
        ended_rightly(world, &engines[0], run, JOBS).await;
        assert!(!losses(world, run).await.contains(&LostWhy::Probe), "{run}: what takes its time is not lost");
    }
    for engine in engines {
        until("the engine is ready again", async || engine.readiness().await.is_empty()).await;
    }
}

/// Some jobs are with workers, most are in the queue.
async fn without_its_data(world: &World, engines: &[Engine; 2], tap: &Tap, rabbit: &mut Own<RabbitMq>) {
    let store = world.store().await;
    let marker = store.marker().await.expect("the store answers");
    let runs = submit_all(&engines[1], &fan(JOBS), "loss", MORE_RUNS).await;
    until_jobs(world, "begun", &runs, 2 * SLOTS as usize).await;
    let is_sent = async |run| {
        let head = engines[0].run(run).await.expect("the run is there").head;
        head.entry.handlers.iter().all(|handler| handler.cursor == JOBS)
    };
    for &run in &runs {
        until("all jobs are sent", async || is_sent(run).await).await;
    }
    rabbit.kill();
    std::fs::remove_dir_all(rabbit.data()).expect("its data can be removed");
    rabbit.start().expect("RabbitMQ starts");
    until_recovered(world, &runs).await;
    tap.turn(u64::MAX);
    for run in runs {
        ended_rightly(world, &engines[0], run, JOBS).await;
        // Found by the marker, and not by silence; by both coordinators, and yet once.
        recovered_once(world, run).await;
    }
    let renewed = store.marker().await.expect("the store answers").expect("there is a marker");
    assert_ne!(Some(&renewed), marker.as_ref());
    let broker = world.broker().await;
    assert_eq!(broker.depth(&Address::Marker(renewed.clone())).await.expect("a depth"), 1);
    let mut markers = [Address::Marker(renewed), Address::Marker("used".into())].map(|marker| broker.name_of(&marker));
    markers.sort_unstable();
    until("one marker is left of all that were made", async || {
        let mut found = markers_on(rabbit);
        found.sort_unstable();
        found == markers
    })
    .await;
    broker.close().await;
}

/// The names of the marker queues.
fn markers_on(rabbit: &RabbitMq) -> Vec<String> {
    let said_before = std::fs::read_to_string(rabbit.control_log()).unwrap_or_default().len();
    rabbit.control(&["--quiet", "list_queues", "name"]).expect("queues can be listed");
    let said = std::fs::read_to_string(rabbit.control_log()).expect("it said something");
    said[said_before..].lines().filter(|line| line.contains(".marker.")).map(str::to_owned).collect()
}
