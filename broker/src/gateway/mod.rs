//! The broker of an engine, over HTTP: for workers that cannot reach RabbitMQ, and for those of an engine that holds its
//! broker within itself. `docs/wire-format.md` says what travels.
//!
//! In reading order: [`Gateway`] here is one program's door; [`wire`] is what both ends read and write, with
//! [`mod@address`] for where to; `exchange` is one request, which [`Http`] carries; `keeper` keeps a session, which
//! stands for a connection: what it holds goes to others when it is lost, and it is opened anew for ever. `desk` is
//! where `consumer`s meet it, `errands` are what they want done; `publisher` publishes; `pauses` says how soon to try
//! again.

pub mod address;
mod consumer;
mod desk;
mod errands;
mod exchange;
mod http;
mod keeper;
mod pauses;
mod publisher;
pub mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::consumer::GatewayConsumer;
use self::desk::Desk;
use self::exchange::{Door, Failure};
pub use self::exchange::{Exchange, Method, NoAnswer, Request, Response};
pub use self::http::Http;
use self::keeper::{ANSWER_WITHIN, Keeper};
use self::publisher::Publisher;
use self::wire::{Depth, Opened, ROOT};
use crate::{Address, Broker, BrokerError, Consumer, Message, PublishError, Subscription};

/// The most that a message may hold, in bytes, whatever the broker behind the gateway takes: more does not fit into a
/// request.
pub const MAX_MESSAGE_BYTES: usize = 11 << 20;

/// How to use a gateway.
#[derive(Clone)]
pub struct GatewayOptions {
    /// `http://host:port` or `https://host:port`; several, with commas between, are tried in turn.
    pub urls: String,
    /// What every request shows, if the gateway asks for it.
    pub token: Option<String>,
    /// Who this is, for people to read.
    pub name: String,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long the first subscription of a consumer may take, and how long nobody may be there to publish to.
    pub patience: Duration,
    /// What pauses are drawn from, so that not everybody comes back at the same time.
    pub seed: u64,
}

impl GatewayOptions {
    /// The usual settings.
    #[must_use]
    pub fn new(urls: &str) -> Self {
        Self {
            urls: urls.to_owned(),
            token: None,
            name: "phasework".to_owned(),
            connect_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            seed: 1,
        }
    }
}

impl fmt::Debug for GatewayOptions {
    /// Without addresses, which may hold passwords, and the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A program's door to an engine's broker.
///
/// Call [`Broker::close`] before the runtime ends. Dropped without, it closes in the background, after its last consumer.
pub struct Gateway {
    door: Door,
    desk: Arc<Desk>,
    publisher: Arc<Publisher>,
    server: Arc<AtomicUsize>,
    prefix: String,
    patience: Duration,
    life: Arc<Life>,
}

/// The tasks of a gateway, and what ends them.
struct Life {
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Gateway {
    /// Connects over HTTP.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for an address or a token that is not right; [`BrokerError::Unavailable`] when no server
    /// can be reached. Once connected, a lost server is no error.
    pub async fn connect(options: GatewayOptions) -> Result<Self, BrokerError> {
        let http = Http::new(&options.urls, options.token.as_deref(), options.connect_timeout)?;
        Self::over(Arc::new(http), options).await
    }

    /// Connects over whatever carries requests.
    ///
    /// # Errors
    /// As [`Gateway::connect`].
    pub async fn over(exchange: Arc<dyn Exchange>, options: GatewayOptions) -> Result<Self, BrokerError> {
        let GatewayOptions { name, patience, seed, .. } = options;
        let (door, desk, server) = (Door(exchange), Arc::<Desk>::default(), Arc::<AtomicUsize>::default());
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let life = Arc::new(Life { closing: closing.clone(), tasks: tasks.clone() });
        let keeper = Keeper {
            door: door.clone(),
            desk: Arc::clone(&desk),
            server: Arc::clone(&server),
            name,
            seed,
            closing: closing.clone(),
            tasks: tasks.clone(),
        };
        let (ready, opened) = oneshot::channel();
        tasks.spawn(keeper.run(ready));
        let Opened { prefix, .. } = opened.await.unwrap_or(Err(BrokerError::Closed))?;
        let publisher = Publisher::new(door.clone(), Arc::clone(&server), patience, seed, closing, tasks);
        Ok(Self { door, desk, publisher, server, prefix, patience, life })
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.life.closing.is_cancelled() { Err(BrokerError::Closed) } else { Ok(()) }
    }

    async fn ask_about(&self, queue: &Address, method: Method) -> Result<Bytes, BrokerError> {
        self.check_open()?;
        let path = format!("{ROOT}/queues/{}", address::text(queue));
        let request = Request { method, path, body: Bytes::new() };
        let answer = self.door.ask(self.server.load(Ordering::Relaxed), request, ANSWER_WITHIN).await;
        answer.map_err(|failure| failure.broker_error())
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.door.0).finish()
    }
}

#[async_trait]
impl Broker for Gateway {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        match self.check_open() {
            Ok(()) => self.publisher.publish(messages, None).await,
            Err(closed) => vec![Err(PublishError::Unconfirmed(closed.to_string())); messages.len()],
        }
    }

    async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        self.check_open().map_err(|closed| PublishError::Unconfirmed(closed.to_string()))?;
        self.publisher.publish(vec![message], Some(reply_to)).await.remove(0)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        self.check_open()?;
        let place = self.desk.sit(subscription)?;
        // From here on dropping it takes the place back.
        let consumer = GatewayConsumer { desk: Arc::clone(&self.desk), place, _life: Arc::clone(&self.life) };
        match timeout(self.patience, consumer.subscribed()).await {
            Ok(subscribed) => subscribed.map(|()| -> Box<dyn Consumer> { Box::new(consumer) }),
            Err(_) => Err(self
                .desk
                .health()
                .err()
                .unwrap_or_else(|| BrokerError::Unavailable(format!("not subscribed within {:?}", self.patience)))),
        }
    }

    fn name_of(&self, address: &Address) -> String {
        match address {
            Address::Events(_) => format!("{}events", self.prefix),
            address => format!("{}{}", self.prefix, address::text(address)),
        }
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        let body = self.ask_about(queue, Method::Get).await?;
        let depth: Result<Depth, _> = serde_json::from_slice(&body);
        depth.map(|depth| depth.messages).map_err(|error| Failure::Unknown(error.to_string()).broker_error())
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.ask_about(queue, Method::Delete).await.map(drop)
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.check_open()?;
        self.desk.health()
    }

    async fn close(&self) {
        self.life.closing.cancel();
        self.life.tasks.close();
        self.life.tasks.wait().await;
    }
}
