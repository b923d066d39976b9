//! The `phasework` command: runs the engine, submits to it, looks at it.
//!
//! In reading order: [`args`] is the command line; [`commands`] has one file per command; [`http`] speaks to a server
//! and [`views`] is what it answers; [`follow`] watches a run, [`timeline`] is what happened to it, [`progress`] shows
//! that live; [`output`], [`snippet`], [`length`] and [`failure`] are how things are printed and told; [`settings`],
//! [`parts`], [`waiting`],
//! [`readiness`], [`telemetry`] and [`interrupt`] are what `serve` is put together from. Nothing imports this crate.

mod args;
mod commands;
mod failure;
mod follow;
mod http;
mod interrupt;
mod length;
mod output;
mod parts;
mod progress;
mod readiness;
mod settings;
mod snippet;
mod telemetry;
mod timeline;
mod views;
mod waiting;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Before anything can want TLS; a second provider in the same program would be a defect.
    rustls::crypto::ring::default_provider().install_default().expect("the first and only TLS provider");
    let command = args::Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::usage(format!("cannot start: {error}")).tell().into(),
    };
    let exit = runtime.block_on(commands::run(command)).unwrap_or_else(|failure| failure.tell());
    // What still runs has nothing left to save: every command waits for what matters.
    runtime.shutdown_background();
    exit.into()
}
