//! One connection to RabbitMQ kept up for as long as the broker is open: lost, it is made again, for ever, with what
//! belongs on it. What was under way on a lost connection is not carried over: publishers and consumers do that.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::errors::broker_error;
use super::topology::Topology;
use super::wire::{Dialer, Wire};
use crate::BrokerError;

/// What is set up on every new connection of a line.
pub(super) trait Equipment: Send + Sync + Sized + 'static {
    fn set_up(wire: &Arc<Wire>, topology: &Topology) -> impl Future<Output = lapin::Result<Self>> + Send;
}

/// A connection, with what was set up on it.
pub(super) struct Link<E> {
    pub(super) wire: Arc<Wire>,
    pub(super) equipment: E,
}

enum State<E> {
    Up(Arc<Link<E>>),
    /// Lost, and not yet made again; why.
    Down(BrokerError),
    Closed,
}

/// A connection that is made again when it is lost.
pub(super) struct Line<E> {
    state: watch::Receiver<State<E>>,
}

impl<E> Clone for Line<E> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<E: Equipment> Line<E> {
    /// Connects, and keeps connected until `closing` is cancelled.
    pub(super) async fn open(
        dialer: Dialer,
        topology: Topology,
        closing: CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Self, BrokerError> {
        let first = connect(&dialer, &topology, &closing).await?;
        let (state, line) = watch::channel(State::Up(first.clone()));
        tasks.spawn(keep_up(dialer, topology, closing, first, state));
        Ok(Self { state: line })
    }

    /// The connection, as soon as there is one, at the latest at `deadline`.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Arc<Link<E>>, BrokerError> {
        match timeout_at(deadline, self.wait_for_link()).await {
            Ok(link) => link,
            Err(_) => Err(self.health().err().unwrap_or_else(|| BrokerError::Unavailable("no connection".to_owned()))),
        }
    }

    /// The connection, as soon as there is one, however long that takes.
    pub(super) async fn wait_for_link(&self) -> Result<Arc<Link<E>>, BrokerError> {
        let mut line = self.state.clone();
        let settled = line.wait_for(|state| match state {
            State::Up(link) => !link.wire.is_broken(),
            State::Down(_) => false,
            State::Closed => true,
        });
        match settled.await.as_deref() {
            Ok(State::Up(link)) => Ok(link.clone()),
            Ok(State::Down(_) | State::Closed) | Err(_) => Err(BrokerError::Closed),
        }
    }

    /// The connection, if there is one now.
    pub(super) fn current(&self) -> Option<Arc<Link<E>>> {
        match &*self.state.borrow() {
            State::Up(link) if !link.wire.is_broken() => Some(link.clone()),
            _ => None,
        }
    }

    pub(super) fn health(&self) -> Result<(), BrokerError> {
        match &*self.state.borrow() {
            State::Up(link) => match link.wire.blocked() {
                None => Ok(()),
                Some(reason) => Err(BrokerError::Unavailable(format!("RabbitMQ takes no messages: {reason}"))),
            },
            State::Down(why) => Err(why.clone()),
            State::Closed => Err(BrokerError::Closed),
        }
    }
}

/// Connects, and sets up what belongs on the connection.
async fn connect<E: Equipment>(
    dialer: &Dialer,
    topology: &Topology,
    closing: &CancellationToken,
) -> Result<Arc<Link<E>>, BrokerError> {
    let wire = Arc::new(dialer.dial(closing).await?);
    let set_up = tokio::select! {
        biased;
        set_up = E::set_up(&wire, topology) => set_up.map_err(|error| broker_error(&error)),
        () = closing.cancelled() => Err(BrokerError::Closed),
    };
    match set_up {
        Ok(equipment) => Ok(Arc::new(Link { wire, equipment })),
        Err(error) => {
            wire.hang_up().await;
            Err(error)
        }
    }
}

async fn keep_up<E: Equipment>(
    dialer: Dialer,
    topology: Topology,
    closing: CancellationToken,
    first: Arc<Link<E>>,
    state: watch::Sender<State<E>>,
) {
    let mut link = first;
    let mut pauses = pauses();
    loop {
        let began = Instant::now();
        let lost = tokio::select! {
            biased;
            () = closing.cancelled() => None,
            why = link.wire.watch() => Some(why),
        };
        let Some(why) = lost else { break };
        tracing::warn!(broker = ?dialer, %why, "the connection to RabbitMQ is lost; connecting again");
        state.send_replace(State::Down(BrokerError::Unavailable(why)));
        link.wire.hang_up().await;
        if began.elapsed() > GOOD_CONNECTION {
            pauses = self::pauses();
        }
        let Some(next) = connect_again(&dialer, &topology, &closing, &state, &mut pauses).await else { break };
        tracing::info!(broker = ?dialer, "connected to RabbitMQ again");
        link = next;
        state.send_replace(State::Up(link.clone()));
    }
    state.send_replace(State::Closed);
    link.wire.hang_up().await;
}

/// Tries until it works; gives up only when closing.
async fn connect_again<E: Equipment>(
    dialer: &Dialer,
    topology: &Topology,
    closing: &CancellationToken,
    state: &watch::Sender<State<E>>,
    pauses: &mut impl Iterator<Item = Duration>,
) -> Option<Arc<Link<E>>> {
    loop {
        // Before the first attempt too: a connection that is lost as soon as it is made is no reason to hurry.
        tokio::select! {
            biased;
            () = closing.cancelled() => return None,
            () = sleep(pauses.next().unwrap_or(LONGEST_PAUSE)) => (),
        }
        match connect(dialer, topology, closing).await {
            Ok(link) => return Some(link),
            Err(BrokerError::Closed) => return None,
            Err(error) => {
                tracing::debug!(broker = ?dialer, %error, "connecting to RabbitMQ");
                state.send_replace(State::Down(error));
            }
        }
    }
}

/// After a connection that lasted this long, pauses begin short again.
const GOOD_CONNECTION: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Longer and longer, and not the same for all who lost the same broker.
pub(super) fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}
