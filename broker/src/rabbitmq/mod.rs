//! The broker on RabbitMQ, 3.10 to 4.x.
//!
//! In reading order: [`RabbitMq`] here is one program's door; `topology` names everything; `wire` is one connection,
//! `line` keeps one up for ever; `publisher`, `outlet` and `parcel` write, `consumer`, `inbox` and `feeder` read;
//! `properties` and `errors` translate; `look` is for who asks whether all is well. It does without lapin's own recovery,
//! which would bring channels back unseen: a lost connection is made anew with all that belongs on it, and everyone on
//! it knows.

mod consumer;
mod errors;
mod feeder;
mod inbox;
mod line;
mod look;
mod outlet;
mod parcel;
mod properties;
mod publisher;
mod topology;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::QueueDeleteOptions;
use lapin::uri::AMQPUri;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::consumer::RabbitConsumer;
use self::errors::{NOT_FOUND, broker_error, code};
use self::feeder::{Feeder, Intake};
use self::inbox::Inbox;
use self::line::{Line, Link};
pub use self::look::{Found, Server};
use self::publisher::Publisher;
use self::topology::Topology;
use self::wire::Dialer;
use crate::{Address, Broker, BrokerError, Consumer, Message, PublishError, Subscription};

/// How to use RabbitMQ.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://…`. `?heartbeat=<seconds>` goes before
    /// [`RabbitOptions::heartbeat`].
    pub url: String,
    /// What the names of all queues and exchanges begin with. Programs with different prefixes do not see each other.
    pub prefix: String,
    /// What RabbitMQ shows as the connections' name; `publish` and `consume` are added.
    pub connection_name: String,
    /// The heartbeat that is asked for, in whole seconds. The shorter of it and RabbitMQ's own is what counts: each side
    /// then sends something twice in that time, and gives a connection up when nothing has come for two to three times as
    /// long. With less than 5 s a machine that is busy is soon taken for one that is gone.
    pub heartbeat: Duration,
    /// How long one attempt to connect may take, and how long the first subscription of a consumer.
    pub connect_timeout: Duration,
    /// How long a call of [`Broker::publish`] may take, through lost connections and alarms, before what is not
    /// confirmed is [`PublishError::Unconfirmed`].
    pub publish_timeout: Duration,
    /// How long a consumer of a durable queue may receive and hold nothing before its subscription is made anew, in case
    /// RabbitMQ lost it.
    pub renew_quiet_after: Duration,
    /// The most a message's body may hold. RabbitMQ's own limit is 16 MiB from 4.0.
    pub max_message_bytes: usize,
}

impl RabbitOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "phasework".to_owned(),
            connection_name: "phasework".to_owned(),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(10),
            renew_quiet_after: Duration::from_secs(120),
            max_message_bytes: 8 << 20,
        }
    }
}

impl fmt::Debug for RabbitOptions {
    /// Without the URL, which holds the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, prefix, connection_name, .. } = self;
        f.debug_struct("RabbitOptions")
            .field("prefix", prefix)
            .field("connection_name", connection_name)
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("publish_timeout", &self.publish_timeout)
            .field("renew_quiet_after", &self.renew_quiet_after)
            .field("max_message_bytes", &self.max_message_bytes)
            .finish_non_exhaustive()
    }
}

/// A program's connections to RabbitMQ: one to publish and one to consume, since under an alarm RabbitMQ stops reading
/// from those that publish. Both are made again for ever when they are lost.
///
/// Call [`Broker::close`] before the runtime ends. Dropped without, it closes in the background, after its last consumer.
pub struct RabbitMq {
    publisher: Publisher,
    consuming: Line<Intake>,
    topology: Topology,
    connect_timeout: Duration,
    renew_quiet_after: Duration,
    life: Arc<Life>,
}

/// The tasks of a broker, and what ends them.
struct Life {
    closing: CancellationToken,
    consumers: TaskTracker,
    connections: TaskTracker,
}

impl Life {
    /// Begins; says what connections end on: when closing, but after the consumers.
    fn begin() -> (Self, CancellationToken) {
        let (closing, hanging_up) = (CancellationToken::new(), CancellationToken::new());
        let (consumers, connections) = (TaskTracker::new(), TaskTracker::new());
        connections.spawn(end_in_order(closing.clone(), consumers.clone(), hanging_up.clone()));
        (Self { closing, consumers, connections }, hanging_up)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn end_in_order(closing: CancellationToken, consumers: TaskTracker, hanging_up: CancellationToken) {
    closing.cancelled().await;
    consumers.close();
    if timeout(LAST_ACKS_WITHIN, consumers.wait()).await.is_err() {
        tracing::warn!("consumers did not end in time; what they acknowledged last may come again");
    }
    hanging_up.cancel();
}

/// How long consumers may take to write their last acknowledgements.
const LAST_ACKS_WITHIN: Duration = Duration::from_secs(5);

impl RabbitMq {
    /// Connects.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for a URL, user or virtual host that is not right; [`BrokerError::Unavailable`] when
    /// RabbitMQ cannot be reached. Once connected, a lost connection is no error.
    pub async fn connect(options: RabbitOptions) -> Result<Self, BrokerError> {
        let mut uri: AMQPUri =
            options.url.parse().map_err(|error| BrokerError::Refused(format!("not an AMQP URL: {error}")))?;
        let heartbeat = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        uri.query.heartbeat.get_or_insert(heartbeat);
        let topology = Topology::new(&options.prefix);
        topology.check(&Address::Presence).map_err(|error| BrokerError::Refused(error.to_string()))?;
        let (life, hanging_up) = Life::begin();
        let dialer = |role: &str| Dialer {
            uri: uri.clone(),
            connection_name: format!("{} {role}", options.connection_name),
            connect_timeout: options.connect_timeout,
        };
        let line = Line::open(dialer("publish"), topology.clone(), hanging_up.clone(), &life.connections).await?;
        let consuming = Line::open(dialer("consume"), topology.clone(), hanging_up, &life.connections).await?;
        let publisher = Publisher {
            line,
            topology: topology.clone(),
            publish_timeout: options.publish_timeout,
            max_message_bytes: options.max_message_bytes,
        };
        let RabbitOptions { connect_timeout, renew_quiet_after, .. } = options;
        Ok(Self { publisher, consuming, topology, connect_timeout, renew_quiet_after, life: Arc::new(life) })
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.life.closing.is_cancelled() { Err(BrokerError::Closed) } else { Ok(()) }
    }

    /// The connection to ask questions on: never the one that an alarm may block.
    async fn link(&self) -> Result<Arc<Link<Intake>>, BrokerError> {
        self.check_open()?;
        self.consuming.link(Instant::now() + self.connect_timeout).await
    }

    /// A channel to ask one question on, with what it is on: what is not there costs it.
    async fn channel(&self) -> Result<(Arc<Link<Intake>>, Channel), BrokerError> {
        let link = self.link().await?;
        match link.wire.open_channel().await {
            // It had no number left for another channel; the next connection has.
            Err(_) if link.wire.is_broken() => {}
            opened => return opened.map(|channel| (link, channel)).map_err(|error| broker_error(&error)),
        }
        let link = self.link().await?;
        let channel = link.wire.open_channel().await.map_err(|error| broker_error(&error))?;
        Ok((link, channel))
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("topology", &self.topology).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        match self.check_open() {
            Ok(()) => self.publisher.publish(messages).await,
            Err(closed) => vec![Err(PublishError::Unconfirmed(closed.to_string())); messages.len()],
        }
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.check_open().map_err(|closed| PublishError::Unconfirmed(closed.to_string()))?;
        self.publisher.reply(reply_to, message).await
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.check_open()?;
        let from = &subscription.from;
        self.topology.check(from).map_err(|error| BrokerError::Refused(error.to_string()))?;
        let inbox: Arc<Inbox> = Arc::default();
        let consumer = RabbitConsumer { inbox: inbox.clone(), _life: self.life.clone() };
        let feeder = Feeder {
            line: self.consuming.clone(),
            topology: self.topology.clone(),
            name: self.topology.name(from).into(),
            subscription,
            inbox,
            closing: self.life.closing.clone(),
            patience: self.connect_timeout,
            renew_quiet_after: self.renew_quiet_after,
        };
        let (ready, outcome) = oneshot::channel();
        self.life.consumers.spawn(feeder.run(ready));
        outcome.await.unwrap_or(Err(BrokerError::Closed))?;
        Ok(Box::new(consumer))
    }

    fn name_of(&self, address: &Address) -> String {
        self.topology.name(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.check_open()?;
        if !queue.is_queue() || self.topology.check(queue).is_err() {
            return Ok(0);
        }
        let (link, channel) = self.channel().await?;
        let found = link.wire.ask(self.topology.inspect(&channel, queue)).await;
        link.wire.close_channel(channel).await;
        match found {
            Ok(found) => Ok(found.message_count().into()),
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(0),
            Err(error) => Err(broker_error(&error)),
        }
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.check_open()?;
        if !queue.is_queue() || self.topology.check(queue).is_err() {
            return Ok(());
        }
        let (link, channel) = self.channel().await?;
        let deleting = channel.queue_delete(self.topology.name(queue).into(), QueueDeleteOptions::default());
        let deleted = link.wire.ask(deleting).await;
        link.wire.close_channel(channel).await;
        if let Some(publishing) = self.publisher.line.current() {
            publishing.equipment.forget(queue);
        }
        match deleted {
            Ok(_) => {
                sleep(topology::DELETED_IS_HEARD_AFTER).await;
                Ok(())
            }
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(()),
            Err(error) => Err(broker_error(&error)),
        }
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.check_open()?;
        self.publisher.line.health()?;
        self.consuming.health()
    }

    async fn close(&self) {
        self.life.closing.cancel();
        self.life.connections.close();
        self.life.connections.wait().await;
    }
}
