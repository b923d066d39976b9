//! `cargo xtask simulate`: builds the simulator, a program of the tests' package, and runs it. It says itself what it may
//! be told.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use xtask::tied::{self, Tied};

/// What `cargo xtask simulate` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For the simulator; `--help` says what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    passed_on: Vec<OsString>,
}

/// Builds and runs it. The status is that of the simulator.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut simulate = tied::cargo();
    simulate.args(RUN).args(&arguments.passed_on);
    let status = Tied::spawn(&mut simulate).and_then(Tied::wait).context("cannot run the simulator")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const RUN: [&str; 7] = ["run", "--quiet", "--package", "phasework-tests", "--bin", "simulate", "--"];
