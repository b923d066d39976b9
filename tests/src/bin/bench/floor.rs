//! The floor: what RabbitMQ and Redis do at best on this machine at this time, with the same guarantees and nothing of
//! phasework in between.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use serde::Serialize;
use tokio::time::Instant;

use crate::servers::Servers;

/// The body of a message of one job, and of one of a hundred, in bytes.
const SIZES: [(u32, usize); 2] = [(1, 500), (100, 3000)];

/// Messages that go there and back.
const MESSAGES: usize = 20_000;

/// Unconfirmed messages of one publisher at most, and unacknowledged ones of one consumer.
const WINDOW: usize = 256;

/// Calls of the script, and how many of them go out together.
const SCRIPTS: usize = 40_000;
const PIPELINE: usize = 64;

/// How often a single message, and a single call, is timed.
const TIMED: usize = 500;

/// What a commit does: compare the version, write the record, move indexes, append to the history, keep an effect.
const SCRIPT: &str = r"
if redis.call('GETRANGE', KEYS[1], 0, 7) == 'never...' then return 1 end
if redis.call('LLEN', KEYS[2]) < 0 then return 2 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[3])
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[3])
redis.call('SADD', KEYS[5], ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[6], ARGV[4], ARGV[2])
return 0";

/// What such a commit writes as the record, and as each of the others, in bytes.
const RECORD: usize = 400;
const OTHER: usize = 150;

/// What the servers do alone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    /// Messages a second, published and consumed, of one job each.
    pub(crate) small_messages: f64,
    /// The same, of a hundred jobs each.
    pub(crate) large_messages: f64,
    /// Scripts a second.
    pub(crate) scripts: f64,
    /// From publishing to the delivery on an idle system, in milliseconds.
    pub(crate) hop: f64,
    /// A script's call and answer on an idle system, in milliseconds.
    pub(crate) round_trip: f64,
}

impl Floor {
    pub(crate) async fn measure(servers: &Servers) -> Result<Self> {
        let [small, large] = SIZES;
        Ok(Self {
            small_messages: there_and_back(servers.broker(), small.1).await.context("small messages")?,
            large_messages: there_and_back(servers.broker(), large.1).await.context("large messages")?,
            scripts: scripts(servers.store()).await.context("scripts")?,
            hop: hop(servers.broker()).await.context("one message")?,
            round_trip: round_trip(servers.store()).await.context("one script")?,
        })
    }

    /// How long the servers alone would take for so many messages and scripts, one after the other, in seconds.
    pub(crate) fn seconds(&self, messages: u64, scripts: u64, is_large: bool) -> f64 {
        let rate = if is_large { self.large_messages } else { self.small_messages };
        messages as f64 / rate + scripts as f64 / self.scripts
    }
}

/// A queue as phasework makes them, and the channel of its own that publishes to it or consumes from it.
async fn channel(url: &str) -> Result<Channel> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(WINDOW as u16, BasicQosOptions::default()).await?;
    Ok(channel)
}

async fn declare(channel: &Channel, queue: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    Ok(())
}

async fn consumer(channel: &Channel, queue: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

/// Publishes all of them, and returns when the last is confirmed.
async fn publish(channel: &Channel, queue: &str, bodies: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let mut open = futures::stream::FuturesOrdered::new();
    for body in bodies {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        open.push_back(channel.basic_publish("".into(), queue.into(), options, &body, properties).await?);
        if open.len() >= WINDOW {
            confirmed(&open.next().await.context("one is open")??)?;
        }
    }
    while let Some(confirmation) = open.next().await {
        confirmed(&confirmation?)?;
    }
    Ok(())
}

fn confirmed(confirmation: &Confirmation) -> Result<()> {
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "not confirmed: {confirmation:?}");
    Ok(())
}

/// Messages a second: each goes to an echo, which acknowledges it once its answer is confirmed, and comes back.
async fn there_and_back(url: &str, bytes: usize) -> Result<f64> {
    let (there, back) = (format!("floor.{bytes}.there"), format!("floor.{bytes}.back"));
    let (sender, echo_in, echo_out, receiver) =
        (channel(url).await?, channel(url).await?, channel(url).await?, channel(url).await?);
    declare(&sender, &there).await?;
    declare(&sender, &back).await?;
    let (echo_consumer, mut answers) = (consumer(&echo_in, &there).await?, consumer(&receiver, &back).await?);
    let echo = tokio::spawn(echo(echo_consumer, echo_out, back));
    let started = Instant::now();
    let sending = publish(&sender, &there, (0..MESSAGES).map(|_| vec![b'x'; bytes]));
    let receiving = async {
        for number in 1..=MESSAGES {
            let answer = answers.next().await.context("the consumer ended")??;
            if number % (WINDOW / 2) == 0 || number == MESSAGES {
                answer.acker.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    let seconds = started.elapsed().as_secs_f64();
    echo.abort();
    Ok(2.0 * MESSAGES as f64 / seconds)
}

/// Sends everything back: what has come meanwhile goes out together.
async fn echo(deliveries: Consumer, out: Channel, back: String) -> Result<()> {
    let mut chunks = deliveries.ready_chunks(WINDOW / 2);
    while let Some(chunk) = chunks.next().await {
        let mut bodies = Vec::with_capacity(chunk.len());
        let mut last = None;
        for delivery in chunk {
            let delivery = delivery?;
            bodies.push(delivery.data);
            last = Some(delivery.acker);
        }
        publish(&out, &back, bodies).await?;
        if let Some(last) = last {
            last.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

/// From publishing to delivery, the one in the middle of many, in milliseconds.
async fn hop(url: &str) -> Result<f64> {
    let (sender, receiver) = (channel(url).await?, channel(url).await?);
    declare(&sender, "floor.hop").await?;
    let mut deliveries = consumer(&receiver, "floor.hop").await?;
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let started = Instant::now();
        let sending = publish(&sender, "floor.hop", [vec![b'x'; SIZES[0].1]]);
        let receiving = async {
            let delivery = deliveries.next().await.context("the consumer ended")??;
            let elapsed = started.elapsed();
            delivery.acker.ack(BasicAckOptions::default()).await?;
            anyhow::Ok(elapsed)
        };
        times.push(tokio::try_join!(sending, receiving)?.1);
    }
    Ok(middle(times))
}

/// Calls of the script a second, many at a time.
async fn scripts(url: &str) -> Result<f64> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let hash: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await?;
    let started = Instant::now();
    for first in (0..SCRIPTS).step_by(PIPELINE) {
        let mut pipeline = redis::pipe();
        for number in first..first + PIPELINE {
            pipeline.add_command(call(&hash, number));
        }
        let done: Vec<u32> = pipeline.query_async(&mut connection).await?;
        ensure!(done.iter().all(|&done| done == 0), "a script wrote nothing");
    }
    Ok(SCRIPTS as f64 / started.elapsed().as_secs_f64())
}

/// One call and its answer, the one in the middle of many, in milliseconds.
async fn round_trip(url: &str) -> Result<f64> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let hash: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await?;
    let mut times = Vec::new();
    for number in 0..TIMED {
        let started = Instant::now();
        let () = call(&hash, number).query_async(&mut connection).await?;
        times.push(started.elapsed());
    }
    Ok(middle(times))
}

fn call(hash: &str, number: usize) -> redis::Cmd {
    let mut command = redis::cmd("EVALSHA");
    let run = number % 10_000;
    command.arg(hash).arg(6).arg(format!("floor:{run}:record")).arg(format!("floor:{run}:history"));
    command.arg("floor:live").arg("floor:timers").arg("floor:unpublished").arg(format!("floor:{run}:outbox"));
    command.arg("r".repeat(RECORD)).arg("o".repeat(OTHER)).arg(format!("run-{run}")).arg(number);
    command
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
