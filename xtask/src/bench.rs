//! `cargo xtask bench`: builds what is measured with optimisations, starts the services, and runs the measurement,
//! which is a program of the tests' package and works on whole processes.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use xtask::services::Services;
use xtask::tied::{self, Tied};

/// What `cargo xtask bench` is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For the measurement: numbers of jobs, in place of 10000 100000 1000000
    #[arg(value_name = "JOBS")]
    passed_on: Vec<OsString>,
}

/// Builds, starts the services, measures. The status is that of the measurement, which fails only when a run does.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut build = tied::cargo();
    build.args(["build", "--release", "--package", "phasework", "--package", "phasework-tests", "--bins"]);
    let status = Tied::spawn(&mut build).and_then(Tied::wait).context("cannot run cargo")?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let services = Services::start(false)?;
    let mut bench = tied::cargo();
    bench.args(["run", "--quiet", "--release", "--package", "phasework-tests", "--bin", "bench", "--"]);
    services.announce_to(bench.args(&arguments.passed_on));
    let status = Tied::spawn(&mut bench).and_then(Tied::wait).context("cannot run the measurement")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
