//! Whole-system scenarios. Each runs on embedded parts, and on a real RabbitMQ and Redis when the test command has
//! started them (`cargo xtask test`); those in which the store counts also on SQLite.

mod bad_input;
mod book;
mod certify;
mod client;
mod consumer_timeout;
mod crashes;
mod definitions;
mod disk;
mod emptied;
mod fans;
mod frozen;
mod gateway;
mod jobs;
mod leases;
mod lists;
mod lost;
mod lost_broker;
mod newer;
mod one_server;
mod orders;
mod own;
mod ownership;
mod processes;
mod purged;
mod recovery;
mod retention;
mod rewound;
mod sharing;
mod silence;
mod unsent;

use std::future::Future;

use phasework_tests::{Setting, World};

/// Runs a scenario on embedded parts.
fn embedded<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    play(Setting::Embedded, scenario);
}

/// Runs a scenario with a store on SQLite.
fn on_sqlite<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    play(Setting::OnSqlite, scenario);
}

/// Runs a scenario on real parts, if there are any.
fn real<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    match Setting::real() {
        Some(setting) => play(setting, scenario),
        None => eprintln!("not run: no real parts were started; `cargo xtask test` does"),
    }
}

/// Runs a scenario on embedded parts, with workers that reach them over HTTP.
fn over_http<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
    play(Setting::OverHttp, scenario);
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

/// As `scenarios`, and a third test of each: on embedded parts, with workers over HTTP.
macro_rules! scenarios_over_http_too {
    ($($scenario:ident),* $(,)?) => {
        crate::scenarios!($($scenario),*);
        mod over_http {
            $(#[test] fn $scenario() { crate::over_http(super::$scenario); })*
        }
    };
}
pub(crate) use scenarios_over_http_too;

/// Makes a third test of scenarios in which the store counts: with one on SQLite, whose broker is in memory.
macro_rules! scenarios_on_sqlite {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test] fn $scenario() { crate::on_sqlite(super::$scenario); })*
        }
    };
}
pub(crate) use scenarios_on_sqlite;
