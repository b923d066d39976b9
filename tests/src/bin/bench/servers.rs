//! RabbitMQ and Redis as seen from outside: what they did so far, by their own count.

use anyhow::{Context as _, Result};
use redis::aio::MultiplexedConnection;
use xtask::services::Services;

use crate::process::group_cpu;

/// The servers of one measurement.
pub(crate) struct Servers {
    services: Services,
    redis: MultiplexedConnection,
}

/// What they did so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    /// Messages that RabbitMQ was given.
    pub(crate) messages: u64,
    /// Bytes that RabbitMQ was sent, and sent, over connections that are still open.
    pub(crate) amqp_bytes: u64,
    /// Calls of scripts, each a commit or a load.
    pub(crate) scripts: u64,
    /// Bytes that Redis was sent, and sent.
    pub(crate) redis_bytes: u64,
    /// Seconds of processor.
    pub(crate) rabbitmq_cpu: f64,
    /// Seconds of processor.
    pub(crate) redis_cpu: f64,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        let services = tokio::task::spawn_blocking(|| Services::start(false)).await??;
        let redis = redis::Client::open(services.store_url.as_str())?.get_multiplexed_async_connection().await?;
        Ok(Self { services, redis })
    }

    pub(crate) fn broker(&self) -> &str {
        &self.services.broker_url
    }

    pub(crate) fn store(&self) -> &str {
        &self.services.store_url
    }

    /// What Redis keeps, without what it needs for its connections and its append-only file, in bytes.
    pub(crate) async fn kept(&self) -> Result<u64> {
        field(&self.info("memory").await?, "used_memory_dataset")
    }

    /// What was done so far. Asking takes RabbitMQ a second or two.
    pub(crate) async fn served(&self) -> Result<Served> {
        let rabbitmq = self.services.rabbitmq().context("a RabbitMQ of somebody else's is not measured")?;
        let rabbitmq_cpu = group_cpu(rabbitmq.group().context("RabbitMQ does not run")?)?;
        let (messages, amqp_bytes) = tokio::task::block_in_place(|| {
            let counters = rabbitmq.ask(&["eval", "rabbit_global_counters:overview()."])?;
            let messages = after(&counters, "messages_received_total =>").context("no count of messages")?;
            let connections = rabbitmq.ask(&["--quiet", "list_connections", "recv_oct", "send_oct"])?;
            let bytes = connections.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum();
            anyhow::Ok((messages, bytes))
        })?;
        let (stats, cpu, commands) =
            (self.info("stats").await?, self.info("cpu").await?, self.info("commandstats").await?);
        let traffic: u64 =
            field::<u64>(&stats, "total_net_input_bytes")? + field::<u64>(&stats, "total_net_output_bytes")?;
        let (user, system): (f64, f64) = (field(&cpu, "used_cpu_user")?, field(&cpu, "used_cpu_sys")?);
        let scripts = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls="]
            .iter()
            .filter_map(|name| commands.lines().find_map(|line| line.strip_prefix(name)))
            .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
            .sum();
        Ok(Served { messages, amqp_bytes, scripts, redis_bytes: traffic, rabbitmq_cpu, redis_cpu: user + system })
    }

    async fn info(&self, section: &str) -> Result<String> {
        Ok(redis::cmd("INFO").arg(section).query_async(&mut self.redis.clone()).await?)
    }
}

/// The number of a line of Redis's `INFO`.
fn field<T: std::str::FromStr>(info: &str, name: &str) -> Result<T> {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("Redis does not tell its {name}"))
}

/// The sum of the numbers that stand behind `name`: RabbitMQ counts for each protocol.
fn after(text: &str, name: &str) -> Option<u64> {
    let found: Vec<u64> = text
        .split(name)
        .skip(1)
        .filter_map(|rest| rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    (!found.is_empty()).then(|| found.iter().sum())
}
