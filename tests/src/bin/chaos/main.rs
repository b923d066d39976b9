//! Real chaos: three coordinators and four workers, as processes of their own on a real RabbitMQ and a real Redis, work
//! on runs while processes are killed and frozen, servers restarted, emptied and filled up, connections cut and held up.
//! Then a checker that reads only what handlers wrote and what the HTTP API says finds whether everything was done, and
//! counted, once. `cargo xtask chaos` builds it and runs it.
//!
//! In reading order: `shapes` are the runs and what has to come of them; `schedule` draws the faults from a seed;
//! `site` is what runs (each `process` may be killed, every connection goes through a `proxy`); `load` submits, `faults`
//! strikes; `checker` judges, with the `ledger` of the handlers and the `api`; `report` prints.

mod api;
mod checker;
mod faults;
mod ledger;
mod load;
mod process;
mod proxy;
mod report;
mod schedule;
mod shapes;
mod site;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use phasework_workflows::id::{IdSource as _, SystemIds};

use crate::report::Report;
use crate::site::Site;

/// Every run has to have ended this long after the last fault.
const RECOVERY: Duration = Duration::from_secs(60);

/// Kills, freezes and cuts off real processes, and checks that nothing is lost.
#[derive(Parser)]
struct Arguments {
    /// For how long faults strike
    #[arg(long, default_value_t = 1)]
    minutes: u32,
    /// What decides about faults and runs
    #[arg(long)]
    seed: Option<u64>,
    /// Leave logs, ledgers and data where they are even when all is well
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider is installed already");
    }
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| SystemIds.uuid().as_u64_pair().1 % 1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let site = Site::start().await?;
        println!("chaos: seed {seed}, {} min; logs are in {}", arguments.minutes, site.directory().display());
        let result = play(&site, Duration::from_secs(60) * arguments.minutes, seed).await;
        let passed = match &result {
            Ok(report) => {
                println!("{report}");
                report.problems.is_empty()
            }
            Err(error) => {
                println!("chaos: could not go on: {error:#}");
                false
            }
        };
        if !passed {
            println!("chaos: again with `cargo xtask chaos --minutes {} --seed {seed}`", arguments.minutes);
        }
        site.end(passed && !arguments.keep)?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Faults strike while runs are submitted; when the last one is over, all runs get a while to end; then they are judged.
async fn play(site: &Site, length: Duration, seed: u64) -> Result<Report> {
    let schedule = schedule::draw(&mut fastrand::Rng::with_seed(seed), length);
    let load = load::start(site.api(), seed);
    load.until_under_way().await?;
    let struck = faults::strike(site, &schedule).await?;
    let submitted = load.stop().await?;
    let late = checker::await_ends(site.api(), struck.over(), RECOVERY).await;
    let mut report = checker::judge(site, &submitted, &struck).await?;
    report.problems.extend(late);
    for process in site.processes() {
        process.stop().await?;
        report.problems.extend(process.complaints().await?);
    }
    Ok(report)
}
