//! A RabbitMQ that takes deliveries back early: a leased job that runs for much longer is done once; one that holds its
//! delivery is not, which shows that the limit is in force.

use std::time::Duration;

use phasework_sdk::{Context, HandlerError, Worker};
use phasework_tests::{Ledger, Setting, World, submit, wait};
use phasework_workflows::run::RunState;
use serde_json::{Value, json};

use crate::jobs::one_phase;
use crate::own;
use crate::processes::block_on;

/// How long a delivery may be held, and how often RabbitMQ looks.
const LIMIT: &str = "application:set_env(rabbit, consumer_timeout, 4000), \
                     application:set_env(rabbit, channel_tick_interval, 1000).";

/// How long the job takes: many times as long.
const WORK: Duration = Duration::from_secs(20);

fn with_lease_after(length: Duration, ledger: &Ledger) -> impl FnOnce(Worker) -> Worker + use<> {
    let ledger = ledger.clone();
    move |worker| {
        let handler = move |_: Value, ctx: Context| {
            ledger.note(format!("attempt {}", ctx.attempt()));
            async move {
                // The work itself, not a wait for somebody else.
                tokio::time::sleep(WORK).await;
                Ok::<_, HandlerError>(())
            }
        };
        worker.handler("Long", "1.0.0", handler).lease_after(length)
    }
}

#[test]
fn a_long_job_passes_the_limit_of_rabbitmq() {
    let Some(rabbit) = own::rabbitmq() else { return };
    let Some(Setting::Real { store, .. }) = Setting::real() else { return };
    rabbit.control(&["eval", LIMIT]).expect("the limit is set");
    block_on(async {
        for (lease_after, is_held) in [(Duration::from_secs(1), false), (Duration::from_secs(30), true)] {
            let mut world = World::new(Setting::Real { broker: rabbit.url(), store: store.clone() });
            let engine = world.start_engine().await;
            let ledger = world.ledger.clone();
            // What is taken back from one goes to the other; a worker would know the job that it still has.
            world.start_worker(with_lease_after(lease_after, &ledger)).await;
            world.start_worker(with_lease_after(lease_after, &ledger)).await;
            let run = submit(&engine, &one_phase(&json!(["Long"])), Value::Null).await;
            let ended = wait(&engine, run).await;
            let attempts = ledger.under("attempt ");
            let times = attempts.iter().map(|(_, times)| times).sum::<u64>();
            if is_held {
                // It went from one worker to the other, and counts as lost with them each time but the first.
                assert!(times > 1, "the limit is not in force: {attempts:?} {:#?}", ended.head);
            } else {
                assert_eq!((ended.head.state, times), (RunState::Succeeded, 1), "{attempts:?} {:#?}", ended.head);
            }
            world.stop().await;
        }
    });
}
