//! Whether anything is left in the queues.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{Instant, sleep};

use crate::shapes::SHAPES;
use crate::site::PREFIX;

/// How long what is left may take to be taken away: by duplicates that are still on their way, by ticks.
const PATIENCE: Duration = Duration::from_secs(40);

/// The queues that do not become empty.
pub(super) async fn not_empty(url: &str) -> Result<Vec<String>> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.context("RabbitMQ is away")?;
    let channel = connection.create_channel().await?;
    let begun = Instant::now();
    let mut problems = Vec::new();
    for queue in names() {
        loop {
            let length = length(&channel, &queue).await.with_context(|| format!("the queue {queue}"))?;
            if length == 0 {
                break;
            }
            if begun.elapsed() > PATIENCE {
                problems.push(format!("{length} messages are left in {queue}"));
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(problems)
}

async fn length(channel: &Channel, queue: &str) -> Result<u32> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
}

/// All queues of which there has to be one.
fn names() -> Vec<String> {
    let phases = SHAPES.iter().flat_map(|shape| shape.expected(1).phases);
    let mut handlers: Vec<&str> = phases.flat_map(|phase| phase.handlers).map(|jobs| jobs.handler).collect();
    handlers.sort_unstable();
    handlers.dedup();
    let jobs = handlers.iter().map(|handler| format!("{PREFIX}.jobs.{handler}.1.0.0"));
    let coordinators = (0..8).map(|number| format!("{PREFIX}.coordinator.{number}"));
    jobs.chain(coordinators).chain(["submit", "dead"].map(|name| format!("{PREFIX}.{name}"))).collect()
}
