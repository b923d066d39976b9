//! `cargo xtask chaos`: builds the programs and runs the chaos, which is a program of the tests' package and starts what
//! it needs by itself, as it has to stop and kill it.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use xtask::tied::{self, Tied};

use crate::beside::built;

/// What `cargo xtask chaos` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long faults are to strike
    #[arg(long, default_value_t = 1)]
    minutes: u32,
    /// What decides about faults and runs; without it, one that is printed
    #[arg(long)]
    seed: Option<u64>,
    /// Leave logs, ledgers and data where they are even when all is well, and say where
    #[arg(long)]
    keep: bool,
}

/// Builds and runs it. The status is that of the chaos.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut build = tied::cargo();
    build.args(["build", "--package", "phasework", "--package", "phasework-tests", "--bins"]);
    let status = Tied::spawn(&mut build).and_then(Tied::wait).context("cannot run cargo")?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut chaos = tied::cargo();
    chaos.args(["run", "--quiet", "--package", "phasework-tests", "--bin", "chaos", "--"]);
    Ok(if passes(chaos, arguments)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether everything holds for a minute, with the programs that were built together with the tests.
pub(crate) fn holds(seed: u64, keep: bool) -> Result<bool> {
    passes(tied::command(built("chaos")?), &Arguments { minutes: 1, seed: Some(seed), keep })
}

fn passes(mut chaos: Command, arguments: &Arguments) -> Result<bool> {
    chaos.args(["--minutes", &arguments.minutes.to_string()]);
    chaos.args(arguments.keep.then_some("--keep"));
    chaos.args(arguments.seed.map(|seed| format!("--seed={seed}")));
    let status = Tied::spawn(&mut chaos).and_then(Tied::wait).context("cannot run the chaos")?;
    Ok(status.success())
}
