//! Whole-system scenarios. Each runs on embedded parts, and on a real RabbitMQ and Redis when the test command has
//! started them (`cargo xtask test`).

mod bad_input;
mod client;
mod consumer_timeout;
mod crashes;
mod definitions;
mod disk;
mod jobs;
mod leases;
mod lost;
mod orders;
mod ownership;
mod processes;
mod retention;
mod sharing;
mod silence;
mod unsent;

use std::future::Future;

use phasework_tests::{Setting, World};

/// Runs a scenario on embedded parts.
fn embedded<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    play(Setting::Embedded, scenario);
}

/// Runs a scenario on real parts, if there are any.
fn real<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    match Setting::real() {
        Some(setting) => play(setting, scenario),
        None => eprintln!("not run: no real parts were started; `cargo xtask test` does"),
    }
}

fn play<F: Future<Output = ()>>(setting: Setting, scenario: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be built").block_on(scenario(World::new(setting)));
}

/// Makes two tests of each scenario: one on embedded parts, one on real ones.
macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $scenario() { crate::embedded(super::$scenario); })*
        }
        mod real {
            $(#[test] fn $scenario() { crate::real(super::$scenario); })*
        }
    };
}
pub(crate) use scenarios;
