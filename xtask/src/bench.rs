//! `cargo xtask bench`: builds what is measured with optimisations and runs the measurement, a program of the tests'
//! package that starts the servers and works on whole processes.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use xtask::tied::{self, Tied};

/// What `cargo xtask bench` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For the measurement; `--help` tells
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    passed_on: Vec<OsString>,
}

/// Builds and measures. The status is that of the measurement, which fails only when a run does.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut build = tied::cargo();
    build.args(["build", "--release", "--package", "phasework", "--package", "phasework-tests"]);
    build.args(["--bin", "phasework", "--bin", "bench", "--bin", "noop-worker"]);
    let status = Tied::spawn(&mut build).and_then(Tied::wait).context("cannot run cargo")?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut bench = tied::cargo();
    bench.args(["run", "--quiet", "--release", "--package", "phasework-tests", "--bin", "bench", "--"]);
    bench.args(&arguments.passed_on);
    let status = Tied::spawn(&mut bench).and_then(Tied::wait).context("cannot run the measurement")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
