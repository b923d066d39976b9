//! What phasework costs: runs and jobs a second, latency, processor, memory, messages, commits and bytes, on whole
//! processes with the guarantees of production. `cargo xtask bench` builds it with optimisations and runs it.
//!
//! Nothing is judged but completeness: figures depend on the machine, so those of the servers alone, measured in between,
//! stand beside them. In reading order: `scenario` is what is done, `system` what does it, `measure` what it took, `floor`
//! what the servers could do at best, and `report` how all that is shown.

mod client;
mod floor;
mod host;
mod measure;
mod process;
mod report;
mod scenario;
mod servers;
mod system;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::floor::Floor;
use crate::measure::{Measured, measure};
use crate::report::{Line, Report};
use crate::scenario::Scenario;
use crate::servers::Servers;
use crate::system::{On, System};

/// Measures phasework: prints a table of what each scenario took.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Which scenarios; all if none is named
    #[arg(value_enum, value_name = "SCENARIO")]
    scenarios: Vec<Kind>,
    /// On which parts; all if none is named
    #[arg(long, value_enum, value_name = "PARTS")]
    on: Vec<On>,
    /// How often each is measured; the one in the middle is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// The largest number of jobs of a fan-out
    #[arg(long, default_value_t = 1_000_000)]
    largest: u64,
    /// How many coordinators, on RabbitMQ and Redis
    #[arg(long, default_value_t = 1)]
    coordinators: usize,
    /// How many workers, where slots are not what is measured
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Write everything into a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw what a job costs against the number of jobs, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// Which scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One run of one phase of 1 to 1,000,000 jobs
    FanOut,
    /// The same with inputs that are listed, and outputs
    Listed,
    /// 2,000 and 20,000 runs of three phases of one job
    Chains,
    /// One such run at a time
    Latency,
    /// Small runs beside a run of 1,000,000 jobs
    Mixed,
    /// Jobs of 50 ms, and 0.1 ms jobs with one of 10 s in a hundred
    Slow,
    /// Inputs and outputs of 1 kB, 64 kB and 512 kB
    Payloads,
    /// RabbitMQ and Redis alone
    Floor,
}

impl Kind {
    fn scenarios(self, largest: u64) -> Vec<Scenario> {
        let fan_out = |jobs, listed, output| Scenario::FanOut { jobs, listed, output };
        match self {
            Self::FanOut => {
                let sizes = (0..).map(|power| 10_u64.pow(power)).take_while(|&jobs| jobs <= largest);
                let large = largest.min(100_000);
                sizes.map(|jobs| fan_out(jobs, false, false)).chain([fan_out(large, false, true)]).collect()
            }
            Self::Listed => vec![
                fan_out(largest.min(100_000), true, false),
                fan_out(largest.min(100_000), true, true),
                fan_out(largest, true, true),
            ],
            Self::Chains => vec![Scenario::Chains { runs: 2000 }, Scenario::Chains { runs: 20_000 }],
            Self::Latency => vec![Scenario::Latency],
            Self::Mixed => vec![Scenario::Mixed { jobs: largest }],
            Self::Slow => vec![Scenario::Slow { jobs: 2000 }, Scenario::Fooled { jobs: 3200 }],
            Self::Payloads => [(2000, 1000), (500, 64_000), (100, 512_000)]
                .map(|(runs, bytes)| Scenario::Payload { runs, bytes })
                .to_vec(),
            Self::Floor => Vec::new(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider is installed already");
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [host, port, slots] = words.as_slice()
        && host == "host"
    {
        return host::run(port.parse()?, slots.parse()?).await;
    }
    bench(&Arguments::parse()).await
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let kinds = if arguments.scenarios.is_empty() { Kind::value_variants() } else { &arguments.scenarios };
    let on = if arguments.on.is_empty() { On::value_variants() } else { &arguments.on };
    let needs_servers = on.contains(&On::Rabbitmq) || kinds.contains(&Kind::Floor);
    let servers = if needs_servers { Some(Servers::start().await?) } else { None };
    let mut report = Report::default();
    for &on in on {
        for &kind in kinds {
            lines(arguments, on, kind, servers.as_ref(), &mut report)
                .await
                .with_context(|| format!("{kind:?} on {on}"))?;
        }
    }
    if let Some(servers) = &servers {
        eprintln!("the servers alone…");
        report.floor = Some(Floor::measure(servers).await.context("the servers alone")?);
    }
    report.print();
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
    }
    if let Some(file) = &arguments.chart {
        report.draw(file)?;
    }
    Ok(())
}

/// All scenarios of a kind, on one system.
async fn lines(
    arguments: &Arguments,
    on: On,
    kind: Kind,
    servers: Option<&Servers>,
    report: &mut Report,
) -> Result<()> {
    let scenarios = kind.scenarios(arguments.largest);
    let Some(mut shape) = scenarios.first().map(|first| first.shape()) else { return Ok(()) };
    if on == On::Rabbitmq {
        shape.coordinators = arguments.coordinators;
    }
    if kind != Kind::Slow {
        shape.workers = arguments.workers;
    }
    let name = format!("bench-{on:?}-{kind:?}").to_lowercase();
    let system = System::start(on, shape, &name, servers).await?;
    for (place, scenario) in scenarios.into_iter().enumerate() {
        if place == 0 {
            eprintln!("{on}: warming up…");
            kind.warm_up(&system).await?;
        }
        scenario.prepare(&system.client).await?;
        let mut all = Vec::new();
        for round in 1..=arguments.repeat {
            eprintln!("{on}: {scenario}: {round} of {}…", arguments.repeat);
            all.push(measure(&system, scenario.run(&system.client)).await?);
        }
        if let Some((median, least, most)) = Measured::median(all) {
            report.lines.push(Line { on, scenario, median, least, most });
        }
    }
    Ok(())
}

impl Kind {
    /// Connections are made, caches filled and packs found before anything is measured.
    async fn warm_up(self, system: &System<'_>) -> Result<()> {
        let scenario = match self {
            Self::FanOut | Self::Mixed => Scenario::FanOut { jobs: 10_000, listed: false, output: false },
            Self::Listed => Scenario::FanOut { jobs: 10_000, listed: true, output: true },
            Self::Chains | Self::Latency => Scenario::Chains { runs: 200 },
            Self::Payloads => Scenario::Payload { runs: 20, bytes: 1000 },
            // What is not known of these jobs at first is a part of what is measured.
            Self::Slow | Self::Floor => return Ok(()),
        };
        scenario.prepare(&system.client).await?;
        scenario.run(&system.client).await.map(drop)
    }
}
