//! What is measured: engine and workers as processes of their own, on one of the sets of parts.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tokio::time::Instant;
use xtask::tied;

use crate::client::Client;
use crate::process::{Process, beside, own_cpu};
use crate::servers::{Served, Servers};

/// How long an engine may take until it is ready, and its workers until they are known.
const PATIENCE: Duration = Duration::from_secs(60);

/// The parts that an engine and its workers stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum On {
    /// RabbitMQ and Redis; coordinators and workers are processes of their own
    Rabbitmq,
    /// Broker, store, engine and handlers in one process
    Embedded,
    /// Broker, store and engine in one process, workers join over HTTP
    Gateway,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rabbitmq => "RabbitMQ + Redis",
            Self::Embedded => "embedded",
            Self::Gateway => "gateway",
        })
    }
}

/// How many processes there are, and how many jobs of a handler each worker runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) coordinators: usize,
    pub(crate) workers: usize,
    pub(crate) slots: u32,
}

/// A running system. It ends with this value.
pub(crate) struct System<'a> {
    pub(crate) on: On,
    pub(crate) client: Client,
    servers: Option<&'a Servers>,
    engines: Vec<Process>,
    workers: Vec<Process>,
}

/// What everything took so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Seconds of processor of all coordinators; with everything in one process, of that.
    pub(crate) engine_cpu: f64,
    pub(crate) worker_cpu: f64,
    /// Of the process that measures and submits.
    pub(crate) client_cpu: f64,
    /// Commits, by the engines' own count.
    pub(crate) commits: u64,
    pub(crate) served: Option<Served>,
}

impl<'a> System<'a> {
    /// Starts it; `name` keeps its queues and keys from those of others on the same servers.
    pub(crate) async fn start(on: On, shape: Shape, name: &str, servers: Option<&'a Servers>) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let mut system = Self { on, client, servers, engines: Vec::new(), workers: Vec::new() };
        for number in 0..shape.coordinators {
            let engine = match (on, servers) {
                (On::Rabbitmq, Some(servers)) => {
                    let listen = if number == 0 { format!("127.0.0.1:{port}") } else { "127.0.0.1:0".to_owned() };
                    let mut command = serve(servers.broker(), servers.store(), &listen)?;
                    command.args(["--prefix", name, "--name", &format!("coordinator-{number}")]);
                    command
                }
                (On::Embedded, _) => {
                    let mut command = tied::command(std::env::current_exe()?);
                    command.args(["host", &port.to_string(), &(shape.slots * shape.workers as u32).to_string()]);
                    command
                }
                _ => serve("memory:", "memory:", &format!("127.0.0.1:{port}"))?,
            };
            system.engines.push(start(engine)?);
        }
        if on != On::Embedded {
            let url = match servers {
                Some(servers) if on == On::Rabbitmq => servers.broker().to_owned(),
                _ => system.client.base().to_owned(),
            };
            for _ in 0..shape.workers {
                system.add_worker(&url, name, shape.slots)?;
            }
        }
        system.wait_until_ready(if on == On::Embedded { 1 } else { shape.workers }).await?;
        Ok(system)
    }

    fn add_worker(&mut self, url: &str, prefix: &str, slots: u32) -> Result<()> {
        let mut command = tied::command(beside("noop-worker")?);
        command.arg(slots.to_string()).env("PHASEWORK_URL", url).env("PHASEWORK_PREFIX", prefix);
        self.workers.push(start(command)?);
        Ok(())
    }

    async fn wait_until_ready(&self, workers: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !(self.client.is_ready().await && self.client.workers().await.is_ok_and(|live| live >= workers)) {
            ensure!(Instant::now() < until, "engine and workers did not get ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What everything took so far.
    pub(crate) async fn taken(&self) -> Result<Taken> {
        let sum = |processes: &[Process]| processes.iter().map(Process::cpu).sum::<Result<f64>>();
        Ok(Taken {
            engine_cpu: sum(&self.engines)?,
            worker_cpu: sum(&self.workers)?,
            client_cpu: own_cpu()?,
            // The others on RabbitMQ are not asked, so with several coordinators the count of scripts tells.
            commits: self.client.commits().await?,
            served: match self.servers() {
                Some(servers) => Some(servers.served().await?),
                None => None,
            },
        })
    }

    /// RabbitMQ and Redis, if this system is on them.
    pub(crate) fn servers(&self) -> Option<&'a Servers> {
        self.servers.filter(|_| self.on == On::Rabbitmq)
    }

    pub(crate) fn forget_peaks(&self) -> Result<()> {
        self.engines.iter().chain(&self.workers).try_for_each(Process::forget_peak)
    }

    /// The most that an engine took of memory, and a worker, in bytes.
    pub(crate) fn peaks(&self) -> Result<(u64, u64)> {
        let most = |processes: &[Process]| {
            processes.iter().map(Process::peak).try_fold(0, |most, peak| anyhow::Ok(most.max(peak?)))
        };
        Ok((most(&self.engines)?, most(&self.workers)?))
    }
}

fn serve(broker: &str, store: &str, listen: &str) -> Result<Command> {
    let mut command = tied::command(beside("phasework")?);
    command.args(["serve", "--broker", broker, "--store", store, "--listen", listen]);
    Ok(command)
}

fn start(mut command: Command) -> Result<Process> {
    // Settings of whoever measures are not those of what is measured.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PHASEWORK_")) {
        if command.get_envs().all(|(set, _)| set != name) {
            command.env_remove(name);
        }
    }
    Process::start(command.env("PHASEWORK_LOG", "error").stdout(Stdio::null()))
}

impl Taken {
    /// What was taken since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let served = self.served.zip(before.served).map(|(now, then)| Served {
            messages: now.messages - then.messages,
            amqp_bytes: now.amqp_bytes.saturating_sub(then.amqp_bytes),
            scripts: now.scripts - then.scripts,
            redis_bytes: now.redis_bytes - then.redis_bytes,
            rabbitmq_cpu: now.rabbitmq_cpu - then.rabbitmq_cpu,
            redis_cpu: now.redis_cpu - then.redis_cpu,
        });
        Self {
            engine_cpu: self.engine_cpu - before.engine_cpu,
            worker_cpu: self.worker_cpu - before.worker_cpu,
            client_cpu: self.client_cpu - before.client_cpu,
            commits: self.commits - before.commits,
            served,
        }
    }
}
