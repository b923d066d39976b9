//! The task behind a consumer: subscribes, brings deliveries in, writes acknowledgements, and subscribes again when the
//! connection, the channel or the queue is lost. It ends when its consumer is dropped or the broker is closed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, message};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::errors::broker_error;
use super::inbox::{Inbox, Orders};
use super::line::{Equipment, Line, Link, pauses};
use super::properties::delivery;
use super::topology::Topology;
use super::wire::Wire;
use crate::{BrokerError, Subscription};

/// How long acknowledgements wait for others to go with them. To a quorum queue each is an entry in a log that is written
/// to disk before anything else is, so one at a time they would hold up the very messages that follow from them.
const ACKS_GATHER: Duration = Duration::from_millis(10);

/// After a session that lasted this long, pauses begin short again.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// What consumers need on every connection: the exchanges they bind to.
pub(super) struct Intake;

impl Equipment for Intake {
    async fn set_up(wire: &Arc<Wire>, topology: &Topology) -> lapin::Result<Self> {
        let channel = wire.open_channel().await?;
        wire.ask(topology.declare_exchanges(&channel)).await?;
        wire.close_channel(channel).await;
        Ok(Self)
    }
}

pub(super) struct Feeder {
    pub(super) line: Line<Intake>,
    pub(super) topology: Topology,
    pub(super) subscription: Subscription,
    /// The name of what is read, which deliveries are given.
    pub(super) name: Arc<str>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) closing: CancellationToken,
    /// How long the first subscription may take.
    pub(super) patience: Duration,
    /// How long nothing may arrive and nothing be held before the subscription is made anew.
    pub(super) renew_quiet_after: Duration,
}

/// A subscription on one connection.
struct Session {
    link: Arc<Link<Intake>>,
    channel: Channel,
    stream: lapin::Consumer,
    generation: u64,
    stopped: bool,
}

/// How a session ended.
#[derive(PartialEq, Eq)]
enum End {
    /// The consumer or the broker wants no more.
    Finished,
    /// Ended by RabbitMQ; another one is needed.
    Ended,
    /// Lost with the connection, or ended by us; another one is needed.
    Lost,
}

impl Feeder {
    /// Feeds the consumer for as long as it is there; says through `ready` what came of the first subscription.
    pub(super) async fn run(self, ready: oneshot::Sender<Result<(), BrokerError>>) {
        match self.feed(ready).await {
            Ok(()) => {
                // Stopped, and what was held is lost with the connection. Acknowledging it is still no error.
                self.inbox.stopped();
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => (),
                    () = self.inbox.abandoned() => (),
                }
                self.inbox.end(BrokerError::Closed);
            }
            Err(end) => self.inbox.end(end),
        }
    }

    /// Ends with the reason why it cannot go on, or without one when it need not.
    async fn feed(&self, ready: oneshot::Sender<Result<(), BrokerError>>) -> Result<(), BrokerError> {
        let mut pauses = pauses();
        let deadline = Instant::now() + self.patience;
        let opened = tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(BrokerError::Closed),
            () = self.inbox.finished() => return Ok(()),
            opened = self.open(Some(deadline)) => opened,
        };
        // Whoever asked may have given up by now; that shows in the inbox.
        drop(ready.send(opened.as_ref().map(drop).map_err(BrokerError::clone)));
        let mut session = opened?;
        loop {
            let began = Instant::now();
            let end = self.serve(&mut session).await;
            session.link.wire.close_channel(session.channel).await;
            self.inbox.interrupt();
            if self.closing.is_cancelled() {
                return Err(BrokerError::Closed);
            }
            if end == End::Finished {
                return Ok(());
            }
            if began.elapsed() > GOOD_SESSION {
                pauses = self::pauses();
            }
            // Only where RabbitMQ ended the subscription on a good connection: it may do so again and again. How soon
            // there is another connection is not decided here.
            let pause = if end == End::Ended { pauses.next() } else { None };
            session = tokio::select! {
                biased;
                () = self.closing.cancelled() => return Err(BrokerError::Closed),
                () = self.inbox.finished() => return Ok(()),
                opened = self.open_after(pause) => opened?,
            };
        }
    }

    async fn open_after(&self, pause: Option<Duration>) -> Result<Session, BrokerError> {
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        self.open(None).await
    }

    /// Subscribes. Tries until it works, or is refused, or the deadline passes.
    async fn open(&self, deadline: Option<Instant>) -> Result<Session, BrokerError> {
        for pause in pauses() {
            let link = match deadline {
                Some(deadline) => self.line.link(deadline).await?,
                None => self.line.wait_for_link().await?,
            };
            let error = match self.open_on(link).await {
                Ok(session) => return Ok(session),
                Err(error) => broker_error(&error),
            };
            let late = deadline.is_some_and(|deadline| Instant::now() + pause > deadline);
            if late || !matches!(error, BrokerError::Unavailable(_)) {
                return Err(error);
            }
            tracing::debug!(%error, from = ?self.subscription.from, "subscribing");
            sleep(pause).await;
        }
        Err(BrokerError::Unavailable("not subscribed in time".to_owned()))
    }

    async fn open_on(&self, link: Arc<Link<Intake>>) -> lapin::Result<Session> {
        let Subscription { from, prefetch } = &self.subscription;
        let channel = link.wire.open_channel().await?;
        let subscribing = async {
            channel.basic_qos((*prefetch).max(1), BasicQosOptions::default()).await?;
            let queue = self.topology.declare_source(&channel, from).await?;
            consume(&channel, queue).await
        };
        match link.wire.ask(subscribing).await {
            Ok(stream) => Ok(Session { link, channel, stream, generation: self.inbox.begin(), stopped: false }),
            Err(error) => {
                link.wire.close_channel(channel).await;
                Err(error)
            }
        }
    }

    /// Brings deliveries in and carries orders out, until the session ends.
    async fn serve(&self, session: &mut Session) -> End {
        let wire = session.link.wire.clone();
        let (mut quiet_since, mut acks_at) = (Instant::now(), None::<Instant>);
        loop {
            let result = tokio::select! {
                biased;
                () = self.closing.cancelled() => self.carry_out(session).await.map(|_| Some(End::Finished)),
                () = wire.broken() => return End::Lost,
                () = self.inbox.ordered() => {
                    acks_at.get_or_insert(Instant::now() + ACKS_GATHER);
                    Ok(None)
                }
                () = sleep_until(acks_at.unwrap_or(quiet_since)), if acks_at.is_some() => {
                    acks_at = None;
                    self.carry_out(session).await
                }
                arrived = all_ready(&mut session.stream), if !session.stopped => {
                    quiet_since = Instant::now();
                    self.arrived(session.generation, arrived)
                }
                () = sleep_until(quiet_since + self.renew_quiet_after), if !session.stopped => {
                    quiet_since = Instant::now();
                    self.renew(session).await
                }
            };
            let result = match result {
                // What has just been ordered, or has just arrived, may leave no time to wait.
                Ok(None) if acks_at.is_some() && !self.inbox.can_wait(self.subscription.prefetch) => {
                    acks_at = None;
                    self.carry_out(session).await
                }
                result => result,
            };
            match result {
                Ok(None) => (),
                Ok(Some(end)) => return end,
                Err(error) => {
                    tracing::debug!(%error, from = ?self.subscription.from, "the subscription is lost");
                    return if wire.is_broken() { End::Lost } else { End::Ended };
                }
            }
        }
    }

    fn arrived(&self, generation: u64, arrived: Arrived) -> lapin::Result<Option<End>> {
        let Arrived { deliveries, end } = arrived;
        if !deliveries.is_empty() {
            let from = &self.subscription.from;
            let deliveries = deliveries.into_iter().map(|amqp| delivery(amqp, generation, from, &self.name)).collect();
            self.inbox.arrive(deliveries);
        }
        match end {
            None => Ok(None),
            // RabbitMQ cancelled it: the queue was deleted.
            Some(Ok(())) => Ok(Some(End::Ended)),
            Some(Err(error)) => Err(error),
        }
    }

    /// Makes a quiet subscription anew, on a fresh channel. One that is dead looks just the same: when a queue is deleted
    /// and at once declared again, RabbitMQ 3.10 does not tell those who read from it, counts them as readers of the new
    /// queue, gives them messages, and these never arrive.
    async fn renew(&self, session: &mut Session) -> lapin::Result<Option<End>> {
        if !self.topology.is_durable(&self.subscription.from) || self.inbox.held() > 0 {
            return Ok(None);
        }
        let Arrived { deliveries, end } = session.cancel().await?;
        if deliveries.is_empty() {
            return Ok(Some(End::Lost));
        }
        // It lives, after all. What just came is not to come twice for that.
        self.arrived(session.generation, Arrived { deliveries, end })?;
        let consuming = consume(&session.channel, session.stream.queue());
        session.stream = session.link.wire.ask(consuming).await?;
        Ok(None)
    }

    async fn carry_out(&self, session: &mut Session) -> lapin::Result<Option<End>> {
        let orders = self.inbox.take_orders();
        write(session, &orders).await?;
        if orders.leave {
            return Ok(Some(End::Finished));
        }
        if orders.stop && !session.stopped {
            let arrived = session.cancel().await?;
            session.stopped = true;
            // That the stream ends is what was asked for.
            self.arrived(session.generation, arrived)?;
            self.inbox.stopped();
        }
        Ok(None)
    }
}

impl Session {
    /// Ends the subscription, but not the channel; what had arrived by then is given back.
    async fn cancel(&mut self) -> lapin::Result<Arrived> {
        let canceling = self.channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default());
        self.link.wire.ask(canceling).await?;
        Ok(all_ready(&mut self.stream).await)
    }
}

async fn consume(channel: &Channel, queue: ShortString) -> lapin::Result<lapin::Consumer> {
    let (tag, arguments) = (ShortString::default(), FieldTable::default());
    channel.basic_consume(queue, tag, BasicConsumeOptions::default(), arguments).await
}

/// Writes acknowledgements and releases; all are under way before the first is waited for.
async fn write(session: &Session, orders: &Orders) -> lapin::Result<()> {
    let channel = &session.channel;
    let acks = orders.acks.iter().map(|ack| channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
    let releases = orders.releases.iter().map(|release| {
        let options = BasicNackOptions { multiple: release.multiple, requeue: true };
        channel.basic_nack(release.tag, options)
    });
    if !orders.acks.is_empty() {
        session.link.wire.ask(try_join_all(acks)).await?;
    }
    if !orders.releases.is_empty() {
        session.link.wire.ask(try_join_all(releases)).await?;
    }
    Ok(())
}

/// What a stream had ready.
struct Arrived {
    deliveries: Vec<message::Delivery>,
    /// Whether the stream is over, and by what error.
    end: Option<lapin::Result<()>>,
}

/// Waits for something to be ready, and takes everything that is.
async fn all_ready(stream: &mut lapin::Consumer) -> Arrived {
    poll_fn(|cx| {
        let mut deliveries = Vec::new();
        let end = loop {
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(delivery))) => deliveries.push(delivery),
                Poll::Ready(Some(Err(error))) => break Some(Err(error)),
                Poll::Ready(None) => break Some(Ok(())),
                Poll::Pending if deliveries.is_empty() => return Poll::Pending,
                Poll::Pending => break None,
            }
        };
        Poll::Ready(Arrived { deliveries, end })
    })
    .await
}
