//! One connection to RabbitMQ, from the handshake until it is lost or hung up. It never connects again: `line` does.

use std::fmt;
use std::future::Future;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, ErrorKind, Event, runtime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::errors::{broker_error, connection_lost, is_about_a_channel, no_answer};
use crate::BrokerError;

/// How long RabbitMQ may take to answer a request. It answers in milliseconds, or is not well.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may take to say goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// How often a connection is looked at whose loss was not announced.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) uri: AMQPUri,
    pub(super) connection_name: String,
    pub(super) connect_timeout: Duration,
}

impl fmt::Debug for Dialer {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} as {:?}", self.uri.authority.host, self.uri.authority.port, self.connection_name)
    }
}

pub(super) struct Wire {
    connection: Connection,
    socket: Arc<Socket>,
    /// Cancelled when the connection is lost, or no good any more.
    broken: CancellationToken,
    /// Why RabbitMQ takes no messages from this connection, while it does not.
    blocked: watch::Sender<Option<String>>,
}

/// The socket under a connection, to cut it when lapin would wait for ever: in a handshake that is never answered, or
/// for a goodbye that a blocked connection cannot say. Its thread ends with it.
#[derive(Debug, Default)]
struct Socket {
    cut: CancellationToken,
    stream: Mutex<Option<TcpStream>>,
}

impl Dialer {
    /// Connects, unless it takes too long or `closing` is cancelled.
    pub(super) async fn dial(&self, closing: &CancellationToken) -> Result<Wire, BrokerError> {
        let socket: Arc<Socket> = Arc::default();
        let mut guard = CutOnDrop(Some(socket.clone()));
        let connecting = self.connect(socket.clone());
        tokio::pin!(connecting);
        let error = tokio::select! {
            biased;
            connected = &mut connecting => {
                let connection = connected.map_err(|error| broker_error(&error))?;
                guard.0 = None;
                return Ok(Wire { connection, socket, broken: CancellationToken::new(), blocked: watch::Sender::new(None) });
            }
            () = closing.cancelled() => BrokerError::Closed,
            () = sleep(self.connect_timeout) => {
                BrokerError::Unavailable(format!("no answer within {:?}", self.connect_timeout))
            }
        };
        // lapin's thread must be gone before the runtime may be, so its end is awaited; it has no more to say.
        socket.cut();
        drop(timeout(GOODBYE_WITHIN, connecting).await);
        Err(error)
    }

    async fn connect(&self, socket: Arc<Socket>) -> lapin::Result<Connection> {
        let properties = ConnectionProperties::default().with_connection_name(self.connection_name.as_str().into());
        let limit = self.connect_timeout;
        let runtime = runtime::default_runtime()?;
        Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let opening = AMQPUriTcpExt::connect_with_config_async(&uri, TLSConfig::default(), &runtime);
                let stream = tokio::select! {
                    biased;
                    () = socket.cut.cancelled() => return Err(connection_lost()),
                    opened = timeout(limit, opening) => opened.map_err(|_| no_answer())??,
                };
                #[cfg(unix)]
                socket.hold(match &stream {
                    AsyncTcpStream::Plain(stream) => duplicate(stream.get_ref()),
                    AsyncTcpStream::Rustls(stream) => duplicate(stream.get_ref().0.get_ref()),
                    _ => None,
                });
                Ok(stream)
            },
            properties,
        )
        .await
    }
}

#[cfg(unix)]
fn duplicate(stream: &impl std::os::fd::AsFd) -> Option<TcpStream> {
    stream.as_fd().try_clone_to_owned().ok().map(TcpStream::from)
}

impl Socket {
    fn hold(&self, stream: Option<TcpStream>) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
        if self.cut.is_cancelled() {
            self.cut();
        }
    }

    fn cut(&self) {
        self.cut.cancel();
        if let Some(stream) = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Fails only when it is cut already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Cuts a connection attempt that nobody waits for any more.
struct CutOnDrop(Option<Arc<Socket>>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.cut();
        }
    }
}

impl Wire {
    /// Waits for RabbitMQ's answer, but not for ever, nor when the connection is lost.
    pub(super) async fn ask<T>(&self, question: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = question => answer,
            () = self.broken.cancelled() => Err(connection_lost()),
            () = sleep(ANSWER_WITHIN) => Err(no_answer()),
        }
    }

    /// Opens a channel. lapin does not forget that RabbitMQ closed a channel over an error: whoever is given the number
    /// of that one later, when all have been given out, is told of the error. Then the next number has to do; when there
    /// is none any more, a connection is no good.
    pub(super) async fn open_channel(&self) -> lapin::Result<Channel> {
        for _ in 0..u16::MAX {
            match self.ask(self.connection.create_channel()).await {
                Err(error) if is_about_a_channel(&error) => {}
                Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => break,
                opened => return opened,
            }
        }
        tracing::debug!("no number is left for a channel; connecting anew");
        self.give_up();
        Err(connection_lost())
    }

    /// Closes a channel, if an error did not close it already. That it cannot be closed means that it is gone.
    pub(super) async fn close_channel(&self, channel: Channel) {
        if channel.status().connected()
            && let Err(error) = self.ask(channel.close(200, "done".into())).await
        {
            tracing::debug!(%error, "closing a channel");
        }
    }

    /// Declares the connection no good: it is hung up, and another one is made.
    pub(super) fn give_up(&self) {
        self.broken.cancel();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Waits until the connection is lost.
    pub(super) async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Why RabbitMQ takes no messages from this connection right now.
    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Waits until messages are taken, or the connection is lost.
    pub(super) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        tokio::select! {
            biased;
            // The sender is our own, so this does not end otherwise.
            _ = blocked.wait_for(Option::is_none) => (),
            () = self.broken.cancelled() => (),
        }
    }

    /// Keeps an eye on the connection until it is lost; says why.
    pub(super) async fn watch(&self) -> String {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut last_error = None;
        while self.connection.status().connected() && !self.is_broken() {
            tokio::select! {
                biased;
                () = self.broken.cancelled() => (),
                event = next_event(&mut events) => last_error = self.note(event).or(last_error),
                _ = look.tick() => self.note_blocked(None),
            }
        }
        // The reason may have come after the loss.
        while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
            last_error = self.note(event).or(last_error);
        }
        self.broken.cancel();
        last_error.unwrap_or_else(|| "the connection was lost".to_owned())
    }

    /// An error here may be one of a channel only, which is not ours to mend.
    fn note(&self, event: Event) -> Option<String> {
        match event {
            Event::ConnectionBlocked(reason) => self.note_blocked(Some(reason)),
            Event::ConnectionUnblocked => self.note_blocked(None),
            Event::Error(error) => return Some(broker_error(&error).to_string()),
            _ => (),
        }
        None
    }

    fn note_blocked(&self, reason: Option<String>) {
        let blocked = self.connection.status().blocked();
        self.blocked.send_if_modified(|current| match (blocked, current.is_some()) {
            (true, false) => {
                let reason = reason.unwrap_or_else(|| "an alarm".to_owned());
                tracing::warn!(reason, "RabbitMQ takes no messages for now");
                *current = Some(reason);
                true
            }
            (false, true) => {
                tracing::info!("RabbitMQ takes messages again");
                *current = None;
                true
            }
            _ => false,
        });
    }

    /// Ends the connection, cleanly if it can be done at once. Nothing that is under way on it will be answered.
    pub(super) async fn hang_up(&self) {
        // A blocked connection cannot even say goodbye.
        if self.connection.status().connected() && !self.connection.status().blocked() {
            match timeout(GOODBYE_WITHIN, self.connection.close(200, "done".into())).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => tracing::debug!(%error, "closing the connection"),
                Err(_) => tracing::debug!("closing the connection: no answer"),
            }
        }
        self.broken.cancel();
        self.socket.cut();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.broken.cancel();
        self.socket.cut();
    }
}

/// The next event; waits for ever when there can be none.
async fn next_event(events: &mut (impl Stream<Item = Event> + Unpin)) -> Event {
    match events.next().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}
