//! The `phasework` command: runs the engine, submits to it, looks at it.
//!
//! In reading order: [`args`] is the command line; [`commands`] has one file per command, [`session`] what holds for a
//! whole one and [`contexts`] the servers that have names; [`complete`] is what shells are offered; [`routes`] is what a server can be asked, [`http`] asks, [`pages`] goes on asking, and [`views`] is what it
//! answers; [`follow`] watches a run, [`timeline`] is what happened to it, [`progress`] shows that live; [`watch`],
//! [`table`], [`output`], [`snippet`], [`length`] and [`failure`] are how things are shown and told; [`settings`],
//! [`parts`], [`waiting`], [`readiness`], [`telemetry`] and [`interrupt`] are what `serve` is put together from. Nothing
//! imports this crate.

mod args;
#[cfg(test)]
mod book;
mod commands;
mod complete;
mod contexts;
mod failure;
mod file;
mod follow;
mod http;
mod interrupt;
mod length;
mod output;
mod pages;
mod parts;
mod program;
mod progress;
mod readiness;
#[cfg(test)]
mod reference;
mod routes;
mod session;
mod settings;
mod snippet;
mod table;
mod telemetry;
mod timeline;
#[cfg(feature = "otel")]
mod traces;
mod views;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    // Before anything can want TLS; a second provider in the same program would be a defect.
    rustls::crypto::ring::default_provider().install_default().expect("the first and only TLS provider");
    // When a shell asks what to offer, that is all there is to do.
    let completion = clap_complete::CompleteEnv::with_factory(args::Cli::command).var(commands::completions::VARIABLE);
    completion.complete();
    let args::Cli { global, command, .. } = args::Cli::parse();
    global.color.choose();
    let session = session::Session::new(global.context, global.utc);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::usage(format!("cannot start: {error}")).tell().into(),
    };
    let exit = runtime.block_on(commands::run(command, &session)).unwrap_or_else(|failure| failure.tell());
    // What still runs has nothing left to save: every command waits for what matters.
    runtime.shutdown_background();
    exit.into()
}
