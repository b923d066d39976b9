//! Publishing on one connection: one channel with confirms, written by one task. It never publishes anything twice, and
//! knows nothing of other connections.
//!
//! One task, because the numbers that confirms go by are counted when a message is handed to lapin, and two tasks at once
//! could be counted one way and written the other. Nobody waits for it: a whole batch is written before the first
//! confirm, and confirms of earlier batches come in meanwhile.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Notify, mpsc};

use super::errors::{PRECONDITION_FAILED, code};
use super::line::Equipment;
use super::topology::{Route, Topology};
use super::wire::Wire;
use crate::Address;

/// A message ready to be written.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) route: Route,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What became of a letter.
#[derive(Debug)]
pub(super) enum Outcome {
    Confirmed,
    /// No queue took it.
    Returned,
    /// It was not written: the connection was lost before.
    Unsent,
    /// It was written, and what came of it is unknown.
    Lost(String),
}

/// The way out on one connection.
pub(super) struct Outlet {
    parcels: mpsc::UnboundedSender<Vec<Parcel>>,
    /// The queues that were seen to exist.
    declared: Mutex<HashSet<Address>>,
    declaring: tokio::sync::Mutex<()>,
}

impl Equipment for Outlet {
    async fn set_up(wire: &Arc<Wire>, topology: &Topology) -> lapin::Result<Self> {
        let channel = wire.open_channel().await?;
        wire.ask(topology.declare_exchanges(&channel)).await?;
        wire.ask(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let (parcels, inbox) = mpsc::unbounded_channel();
        tokio::spawn(write(wire.clone(), channel, inbox));
        Ok(Self { parcels, declared: Mutex::default(), declaring: tokio::sync::Mutex::default() })
    }
}

impl Outlet {
    /// Makes a queue, unless it was seen on this connection before.
    pub(super) async fn make_sure_of(&self, queue: &Address, wire: &Wire, topology: &Topology) -> lapin::Result<()> {
        if self.declared().contains(queue) {
            return Ok(());
        }
        let _alone = self.declaring.lock().await;
        if self.declared().contains(queue) {
            return Ok(());
        }
        // On a channel of its own: a refusal costs the channel.
        let channel = wire.open_channel().await?;
        let declared = wire.ask(topology.declare_queue(&channel, queue)).await;
        wire.close_channel(channel).await;
        match declared {
            Err(error) if code(&error) == Some(PRECONDITION_FAILED) => {
                tracing::warn!(%error, ?queue, "somebody declared this queue otherwise; publishing to it as it is");
            }
            declared => declared?,
        }
        self.declared().insert(queue.clone());
        Ok(())
    }

    /// A queue turned out not to be there.
    pub(super) fn forget(&self, queue: &Address) {
        self.declared().remove(queue);
    }

    fn declared(&self) -> MutexGuard<'_, HashSet<Address>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes letters in their order. What comes of them is in the batch once it is done.
    pub(super) fn send(&self, letters: Vec<Arc<Letter>>) -> Sent {
        let batch = Arc::new(Batch::new(letters.len()));
        let parcels = letters.into_iter().enumerate();
        let parcels = parcels.map(|(index, letter)| Parcel { letter, index, batch: batch.clone(), settled: false });
        if let Err(mpsc::error::SendError(parcels)) = self.parcels.send(parcels.collect()) {
            parcels.into_iter().for_each(|parcel| parcel.settle(Outcome::Unsent));
        }
        Sent(batch)
    }
}

/// Letters that were sent together. Those not written when this is dropped never will be.
pub(super) struct Sent(Arc<Batch>);

struct Batch {
    progress: Mutex<Progress>,
    done: Notify,
}

struct Progress {
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    /// Nobody waits any more.
    abandoned: bool,
}

impl Batch {
    fn new(letters: usize) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(letters).collect();
        let progress = Progress { outcomes, open: letters, abandoned: false };
        Self { progress: Mutex::new(progress), done: Notify::new() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sent {
    /// Waits until it is known of every letter what came of it.
    pub(super) async fn done(&self) {
        while self.0.progress().open > 0 {
            self.0.done.notified().await;
        }
    }

    /// What is known of each letter.
    pub(super) fn outcomes(self) -> Vec<Option<Outcome>> {
        std::mem::take(&mut self.0.progress().outcomes)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.progress().abandoned = true;
    }
}

/// A letter on its way. Dropped on the way, it counts as lost, so that nobody waits for it for ever.
struct Parcel {
    letter: Arc<Letter>,
    index: usize,
    batch: Arc<Batch>,
    settled: bool,
}

impl Parcel {
    fn settle(mut self, outcome: Outcome) {
        self.note(outcome);
    }

    fn note(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut progress = self.batch.progress();
        if let Some(place) = progress.outcomes.get_mut(self.index) {
            *place = Some(outcome);
        }
        progress.open -= 1;
        if progress.open == 0 {
            self.batch.done.notify_one();
        }
    }

    fn is(&self, returned: &BasicReturnMessage) -> bool {
        let Letter { route, properties, body } = &*self.letter;
        returned.routing_key == route.routing_key
            && returned.exchange == route.exchange
            && returned.data == *body
            && returned.properties == *properties
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.note(Outcome::Lost("the connection was lost".to_owned()));
    }
}

type Posting = Pin<Box<dyn Future<Output = (Parcel, lapin::Result<Confirmation>)> + Send>>;

/// Writes what comes, until the connection is lost.
async fn write(wire: Arc<Wire>, channel: Channel, mut inbox: mpsc::UnboundedReceiver<Vec<Parcel>>) {
    let mut under_way = FuturesUnordered::<Posting>::new();
    let mut returned = Vec::new();
    loop {
        tokio::select! {
            biased;
            confirmed = all_ready(&mut under_way) => settle(confirmed, &mut returned, &wire),
            () = wire.broken() => break,
            // While the broker takes nothing, lapin would keep all we give it.
            () = wire.unblocked(), if wire.is_blocked() => (),
            parcels = inbox.recv(), if !wire.is_blocked() => match parcels {
                Some(parcels) => post(parcels, &channel, &wire, &mut under_way, &mut returned).await,
                None => break,
            },
        }
    }
    inbox.close();
    while let Some(parcels) = inbox.recv().await {
        parcels.into_iter().for_each(|parcel| parcel.settle(Outcome::Unsent));
    }
}

/// Hands parcels to lapin, in order, without waiting for anything.
async fn post(
    parcels: Vec<Parcel>,
    channel: &Channel,
    wire: &Wire,
    under_way: &mut FuturesUnordered<Posting>,
    returned: &mut Vec<BasicReturnMessage>,
) {
    for parcel in parcels {
        if parcel.batch.progress().abandoned {
            continue;
        }
        if !channel.status().connected() {
            wire.give_up();
            parcel.settle(Outcome::Unsent);
            continue;
        }
        let mut posting: Posting = Box::pin(post_one(channel.clone(), parcel));
        // The first poll counts and queues it, so the order of these polls is the order on the wire.
        match futures::poll!(posting.as_mut()) {
            Poll::Ready(done) => settle(vec![done], returned, wire),
            Poll::Pending => under_way.push(posting),
        }
    }
}

async fn post_one(channel: Channel, parcel: Parcel) -> (Parcel, lapin::Result<Confirmation>) {
    let Letter { route, properties, body } = &*parcel.letter;
    let (exchange, routing_key) = (route.exchange.clone(), route.routing_key.clone());
    let options = BasicPublishOptions { mandatory: route.mandatory, ..Default::default() };
    let confirmation = match channel.basic_publish(exchange, routing_key, options, body, properties.clone()).await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (parcel, confirmation)
}

/// Waits for something to be ready, and takes everything that is.
async fn all_ready(under_way: &mut FuturesUnordered<Posting>) -> Vec<(Parcel, lapin::Result<Confirmation>)> {
    poll_fn(|cx| {
        let mut ready = Vec::new();
        while let Poll::Ready(Some(done)) = under_way.poll_next_unpin(cx) {
            ready.push(done);
        }
        if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
    })
    .await
}

/// Says what came of parcels.
///
/// RabbitMQ returns an unroutable message before it confirms it, but lapin gives what was returned to whichever confirm
/// comes next, be it of another message. So first everything returned is gathered, and then it is looked up whose it is.
/// Two equal messages may be taken for one another; they are equal.
fn settle(confirmed: Vec<(Parcel, lapin::Result<Confirmation>)>, returned: &mut Vec<BasicReturnMessage>, wire: &Wire) {
    let mut settled = Vec::with_capacity(confirmed.len());
    for (parcel, confirmation) in confirmed {
        let refused = confirmation.as_ref().map(Confirmation::is_nack);
        settled.push((parcel, refused.map_err(ToString::to_string)));
        returned.extend(confirmation.ok().and_then(Confirmation::take_message));
    }
    for (parcel, refused) in settled {
        let outcome = match refused {
            Ok(false) => match returned.iter().position(|message| parcel.is(message)) {
                Some(at) => {
                    returned.swap_remove(at);
                    Outcome::Returned
                }
                None => Outcome::Confirmed,
            },
            Ok(true) => Outcome::Lost("RabbitMQ could not take it".to_owned()),
            Err(error) => {
                // The channel is no good any more, so neither is the connection: all of it is made anew.
                wire.give_up();
                Outcome::Lost(error)
            }
        };
        parcel.settle(outcome);
    }
}
