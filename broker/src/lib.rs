//! How phasework's messages travel: the [`Broker`] port and its adapters, in memory ([`memory`]), on RabbitMQ
//! ([`rabbitmq`]) and through an engine ([`gateway`]). At least once, acknowledged one by one, redelivered after a lost
//! consumer, confirmed when published. It carries bytes and decides nothing about runs.

pub mod conformance;
pub mod gateway;
pub mod memory;
pub mod rabbitmq;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A place that messages are sent to or read from. Adapters map it to names under their prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A job queue, by its name without the prefix (`PageDownloader.1.2.0`). Durable; many competing consumers.
    Jobs(Arc<str>),
    /// A coordinator queue. Durable; many may consume, one is served at a time.
    Coordinator(u16),
    /// Submissions from any client. Durable; many competing consumers.
    Submit,
    /// Dead letters. Durable; many competing consumers.
    Dead,
    /// What a lost broker is recognised by: a queue with one message that nobody reads. Durable.
    Marker(Arc<str>),
    /// The private queue of one program, under a name it chose (`worker.<id>`, `engine.<id>`, `client.<id>`). Goes
    /// away with its consumer. Publishing to one that is gone is [`PublishError::Unroutable`].
    Private(Arc<str>),
    /// Lifecycle events, by routing key (`run.finished.search`); reaches whoever bound a matching pattern, maybe nobody.
    Events(Arc<str>),
    /// Orders to all workers (cancel); reaches every subscriber.
    Control,
    /// Worker announcements, heartbeats and queries; reaches every subscriber.
    Presence,
}

impl Address {
    /// Whether each message goes to one of the queue's consumers (otherwise every subscriber gets a copy).
    pub const fn is_queue(&self) -> bool {
        matches!(
            self,
            Self::Jobs(_) | Self::Coordinator(_) | Self::Submit | Self::Dead | Self::Marker(_) | Self::Private(_)
        )
    }
}

/// A message on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub to: Address,
    /// What it is: the AMQP `type` property (`JobsFinished`, `StartRun`…).
    pub kind: Arc<str>,
    /// Its content, JSON.
    pub body: Bytes,
    /// Its id, to recognise it by in logs; brokers do not look at it.
    pub id: Option<Arc<str>>,
    /// Where an answer goes: the full name of a queue (the AMQP `reply-to` property).
    pub reply_to: Option<Arc<str>>,
    /// What an answer repeats, so that the asker knows what was answered.
    pub correlation_id: Option<Arc<str>>,
    /// After this long the message is worthless and may be dropped (ticks, heartbeats).
    pub expires: Option<Duration>,
    /// Further headers, as text (`traceparent`; of a dead letter its reason).
    pub headers: Vec<(Arc<str>, Arc<str>)>,
}

impl Message {
    /// A message of `kind` with `body` to `to`, and nothing else set.
    pub fn new(to: Address, kind: &str, body: impl Into<Bytes>) -> Self {
        Self {
            to,
            kind: kind.into(),
            body: body.into(),
            id: None,
            reply_to: None,
            correlation_id: None,
            expires: None,
            headers: Vec::new(),
        }
    }
}

/// A message on its way out. Held until it is acknowledged, released, or its consumer is gone.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Names this delivery in [`Consumer::ack`] and [`Consumer::release`].
    pub tag: DeliveryTag,
    /// What the publisher said it is; empty when it said nothing.
    pub kind: Arc<str>,
    /// Its content.
    pub body: Bytes,
    /// Its id, when the publisher gave one.
    pub id: Option<Arc<str>>,
    /// Whether it was delivered before, maybe to somebody else, and not acknowledged.
    pub redelivered: bool,
    /// Where an answer goes, as the broker's own name of a queue.
    pub reply_to: Option<Arc<str>>,
    /// What an answer repeats.
    pub correlation_id: Option<Arc<str>>,
    /// For [`Address::Events`], the routing key it was published with; otherwise the queue's name.
    pub routing_key: Arc<str>,
    /// Headers with text values.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
}

/// Names a delivery of one consumer. `generation` counts the consumer's reconnections: a tag of an earlier
/// connection acknowledges nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag {
    /// Which connection of the consumer it came over.
    pub generation: u64,
    /// Its number on that connection.
    pub number: u64,
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// What to read from. A queue is made when it is not there. For [`Address::Events`] the text is a pattern
    /// (`run.finished.*`, `#`); `Events`, `Control` and `Presence` give each subscriber a private, transient queue.
    pub from: Address,
    /// How many deliveries may be held unacknowledged; at least 1.
    pub prefetch: u16,
}

/// Why a message is not known to have been published.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// It reached no queue, and it will not: the private queue it was meant for is gone.
    #[error("nobody is there to receive it: {0}")]
    Unroutable(String),
    /// It is too large for the broker. Publishing it again will not help.
    #[error("the message is too large: {size} bytes, at most {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Unknown outcome: it may or may not have been published. Publish it again.
    #[error("the broker did not confirm it: {0}")]
    Unconfirmed(String),
}

/// Why a broker call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The broker cannot be reached, or did not answer. Trying again later may help.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker refused, and will refuse again: credentials, permissions, a queue declared otherwise.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// The broker or the consumer was closed by us.
    #[error("closed")]
    Closed,
}

/// Carries messages. Shared by the whole program; every method may be called from many tasks at once.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Publishes messages and waits until the broker has confirmed each (durable for durable queues). One result per
    /// message, in order; one bad message does not hold up the others. Messages to one address are enqueued in the
    /// order given. Job, coordinator, submit, dead and marker queues are made when they are not there, so a message to them is
    /// never unroutable; to `Events`, `Control` and `Presence` nobody may listen, and that is success.
    ///
    /// If the process dies during the call, any of the messages may or may not have been published.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>>;

    /// Answers a request: publishes to the queue that `reply_to` names (the broker's own name, as a [`Delivery`] or
    /// [`Broker::name_of`] gives it).
    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError>;

    /// Starts reading. Returns once the queue exists and deliveries can arrive (so what is published to a subscribed
    /// exchange afterwards is seen). From then on the consumer survives lost connections by itself.
    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError>;

    /// The broker's own name for the queue `address`, for use as `reply_to`.
    fn name_of(&self, address: &Address) -> String;

    /// How many messages wait in a queue, ready to be delivered; 0 when it does not exist.
    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError>;

    /// Removes a queue and what is in it. Succeeds when it does not exist.
    async fn delete(&self, queue: &Address) -> Result<(), BrokerError>;

    /// Whether the broker can be used right now, and if not, why: connection lost, publishing blocked by an alarm.
    fn health(&self) -> Result<(), BrokerError>;

    /// Ends all connections cleanly; what was not acknowledged will be redelivered. Consumers then end with
    /// [`BrokerError::Closed`]. May be called twice.
    async fn close(&self);
}

/// A broker shared by the parts of a program.
pub type SharedBroker = Arc<dyn Broker>;

/// Reads from one queue. Dropping it cancels the subscription; what it held is redelivered to others.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// The next deliveries: waits for the first, then takes what else has already arrived, up to `max`. Cancel safe:
    /// no delivery is lost when the future is dropped.
    ///
    /// # Errors
    /// [`BrokerError::Closed`] when the broker was closed; [`BrokerError::Refused`] when it will not get better. A lost
    /// connection is no error: the consumer reconnects, and unacknowledged deliveries come again, marked redelivered.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError>;

    /// Forgets these deliveries for good. Tags of an earlier connection are passed over: those come again.
    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError>;

    /// Gives these deliveries back, to be delivered again, to this or another consumer.
    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError>;

    /// Stops new deliveries, but keeps those held, so that they can still be acknowledged. [`Consumer::next`] then
    /// gives what had already arrived, and after that ends with [`BrokerError::Closed`].
    async fn stop(&mut self) -> Result<(), BrokerError>;
}
