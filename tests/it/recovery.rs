//! How a loss is recovered from: by all coordinators at once, by one that dies over it, by one that is behind the times,
//! and in the middle of other work.

use phasework_broker::{Address, SharedBroker};
use phasework_engine::engine::NAMESPACE;
use phasework_engine::{Engine, Submission, ToRun};
use phasework_tests::{Blink, Crash, Damage, Deed, Point, World, wait};
use phasework_workflows::id::{RunId, Shard, WorkflowName};
use phasework_workflows::message::event::{Control, ControlAction};
use phasework_workflows::run::{LostWhy, RunState};

use crate::bad_input::announce_by_hand;
use crate::fans::{
    QUEUE, Tap, ended_rightly, fan, hosting, losses, recovered_once, submit_all, until_jobs, until_recovered,
};
use crate::processes::until;
use crate::{lost, scenarios, scenarios_on_sqlite};

scenarios!(
    two_coordinators_that_find_one_loss_recover_each_run_once,
    a_recovery_goes_on_whenever_a_coordinator_dies_over_it,
    a_coordinator_behind_the_times_recovers_nothing_again,
    a_loss_is_found_however_much_there_is_to_do,
    a_shard_that_cannot_be_recovered_holds_up_no_other,
    what_is_recovered_of_a_damaged_shard_is_left_alone,
);

scenarios_on_sqlite!(
    two_coordinators_that_find_one_loss_recover_each_run_once,
    a_recovery_goes_on_whenever_a_coordinator_dies_over_it,
    a_coordinator_behind_the_times_recovers_nothing_again,
    a_loss_is_found_however_much_there_is_to_do,
    what_is_recovered_of_a_damaged_shard_is_left_alone,
);

/// How many jobs each phase of a run has.
const JOBS: u64 = 6;

/// Takes away all that is on the broker and can be lost. Nobody is told.
async fn lose_all(world: &World, broker: &SharedBroker) {
    let marker = world.store().await.marker().await.expect("the store answers").expect("there is a marker");
    for lost in [Address::Jobs(QUEUE.into()), Address::Marker("used".into()), Address::Marker(marker)] {
        broker.delete(&lost).await.expect("a queue can be deleted");
    }
}

async fn two_coordinators_that_find_one_loss_recover_each_run_once(mut world: World) {
    let tap = Tap::at(2);
    let engines = [world.start_engine().await, world.start_engine().await];
    until("the queues are shared", async || engines.iter().all(|engine| engine.queues_owned() == 2)).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &tap)).await;
    let runs = submit_all(&engines[0], &fan(JOBS), "run", 16).await;
    until_jobs(&world, "begun", &runs, 16 * JOBS as usize).await;
    let broker = world.broker().await;
    lose_all(&world, &broker).await;
    until_recovered(&world, &runs).await;
    tap.turn(u64::MAX);
    for run in runs {
        ended_rightly(&world, &engines[1], run, JOBS).await;
        recovered_once(&world, run).await;
    }
    let marker = world.store().await.marker().await.expect("the store answers").expect("there is a marker");
    assert_eq!(broker.depth(&Address::Marker(marker)).await.expect("a depth"), 1);
    broker.close().await;
    world.stop().await;
}

async fn a_recovery_goes_on_whenever_a_coordinator_dies_over_it(world: World) {
    let setting = world.setting().clone();
    for (deed, after, nth) in
        [(Deed::Commit, false, 2), (Deed::Commit, true, 1), (Deed::Publish, false, 1), (Deed::Publish, true, 2)]
    {
        die_over_it(World::new(setting.clone()), Point { deed, after, nth }).await;
    }
}

/// The broker loses all it had while no coordinator runs; the first that comes dies in the middle of recovering.
async fn die_over_it(mut world: World, point: Point) {
    let engine = world.start_engine().await;
    announce_by_hand(&world, &engine, "Note").await;
    // Some in the shards of every queue.
    let runs = submit_all(&engine, &fan(JOBS), "run", 24).await;
    let (broker, jobs) = (world.broker().await, 24 * JOBS);
    lost::until_waiting(&*broker, QUEUE, jobs).await;
    world.stop_engine(0).await;
    lose_all(&world, &broker).await;
    let crash = Crash::at(point);
    world.start_crashing_engine(&crash).await;
    crash.happened().await;
    let engine = world.start_engine().await;
    world.kill_engine().await;
    until_recovered(&world, &runs).await;
    lost::until_waiting(&*broker, QUEUE, jobs).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &Tap::at(u64::MAX))).await;
    for run in runs {
        ended_rightly(&world, &engine, run, JOBS).await;
        let losses = losses(&world, run).await;
        assert!(losses.iter().all(|why| *why == LostWhy::Recovery), "{point:?}: {losses:?}");
    }
    broker.close().await;
    world.stop().await;
}

/// One coordinator finds a loss, recovers its runs, and dies. The other has not looked since before the loss.
async fn a_coordinator_behind_the_times_recovers_nothing_again(mut world: World) {
    let tap = Tap::at(2);
    let first = world.start_engine().await;
    until("the first has the queues", async || first.queues_owned() == 4).await;
    // Its ticks are so far apart that it looks once a minute.
    let second = world.start_blinking_engine(&Blink::default()).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &tap)).await;
    let run = submit_all(&first, &fan(JOBS), "run", 1).await[0];
    until_jobs(&world, "begun", &[run], JOBS as usize).await;
    until("the second is ready", async || second.readiness().await.is_empty()).await;
    let (broker, store) = (world.broker().await, world.store().await);
    let before = store.epochs(&[run.shard()]).await.expect("the store answers");
    lose_all(&world, &broker).await;
    until("the recovery is noted", async || store.epochs(&[run.shard()]).await.expect("the store answers") != before)
        .await;
    recovered_once(&world, run).await;
    drop(first);
    world.kill_engine().await;
    // An order that the second carries out shows that it has had its turn to recover.
    for reason in ["to see that it is there", "to see that it has done what it had to"] {
        for action in [ControlAction::Pause, ControlAction::Resume] {
            let order = Control { reason: Some(reason.into()), ..Control::new(run, action) };
            second.order(order).await.expect("the order is carried out");
        }
    }
    tap.turn(u64::MAX);
    ended_rightly(&world, &second, run, JOBS).await;
    recovered_once(&world, run).await;
    broker.close().await;
    world.stop().await;
}

/// The queues always have something for their owner.
async fn a_loss_is_found_however_much_there_is_to_do(mut world: World) {
    let engine: Engine = world.start_busy_engine().await;
    announce_by_hand(&world, &engine, "Note").await;
    let runs = submit_all(&engine, &fan(JOBS), "run", 1).await;
    let broker = world.broker().await;
    lost::until_waiting(&*broker, QUEUE, JOBS).await;
    lose_all(&world, &broker).await;
    lost::until_waiting(&*broker, QUEUE, JOBS).await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &Tap::at(u64::MAX))).await;
    assert_eq!(wait(&engine, runs[0]).await.head.state, RunState::Succeeded);
    broker.close().await;
    world.stop().await;
}

async fn a_shard_that_cannot_be_recovered_holds_up_no_other(mut world: World) {
    let tap = Tap::at(2);
    let first = world.start_engine().await;
    let ledger = world.ledger.clone();
    world.start_worker(hosting(&ledger, &tap)).await;
    let runs = submit_all(&first, &fan(JOBS), "run", 16).await;
    until_jobs(&world, "begun", &runs, 16 * JOBS as usize).await;
    world.stop_engine(0).await;
    // Of every queue the shard that comes first.
    let damaged: Vec<_> = (0..4).map(Shard).collect();
    let others: Vec<_> = runs.into_iter().filter(|run| !damaged.contains(&run.shard())).collect();
    assert!(others.len() > 8);
    let broker = world.broker().await;
    lose_all(&world, &broker).await;
    let second = world.start_damaged_engine(&Damage::of(damaged)).await;
    until_recovered(&world, &others).await;
    tap.turn(u64::MAX);
    for run in others {
        ended_rightly(&world, &second, run, JOBS).await;
    }
    broker.close().await;
    world.stop().await;
}

/// Only the first page of a shard can be read. Recovered again and again, its runs would never come to an end.
async fn what_is_recovered_of_a_damaged_shard_is_left_alone(mut world: World) {
    let engine = world.start_engine().await;
    announce_by_hand(&world, &engine, "Note").await;
    let (definition, shard) = (fan(JOBS), Shard(7));
    let workflow = WorkflowName::new(&format!("fan-{JOBS}")).expect("a name");
    let keys = (0..).map(|number| format!("run {number}"));
    let keys = keys.filter(|key| RunId::from_key(NAMESPACE, &workflow, key).shard() == shard).take(40);
    let mut runs = Vec::new();
    for key in keys {
        let what = ToRun::Definition(definition.clone());
        let accepted = engine.submit(Submission { what, data: None, key: Some(key.into()) }).await;
        runs.push(accepted.expect("it is accepted").run);
    }
    let broker = world.broker().await;
    lost::until_waiting(&*broker, QUEUE, 40 * JOBS).await;
    world.stop_engine(0).await;
    lose_all(&world, &broker).await;
    let damage = Damage::behind_the_first_page(vec![shard]);
    world.start_damaged_engine(&damage).await;
    until("the damage is met again and again", async || damage.met() >= 3).await;
    let mut recovered = 0;
    for run in runs {
        if !losses(&world, run).await.is_empty() {
            recovered_once(&world, run).await;
            recovered += 1;
        }
    }
    assert!((1..40).contains(&recovered), "{recovered}");
    broker.close().await;
    world.stop().await;
}
