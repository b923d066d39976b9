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

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::Channel;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use tokio::sync::mpsc;

use super::errors::{PRECONDITION_FAILED, code};
use super::line::Equipment;
use super::parcel::{Confirmed, Letter, Outcome, Parcel, Sent, settle};
use super::topology::Topology;
use super::wire::Wire;
use crate::Address;

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
        let (sent, parcels) = Sent::pack(letters);
        if let Err(mpsc::error::SendError(parcels)) = self.parcels.send(parcels) {
            parcels.into_iter().for_each(|parcel| parcel.settle(Outcome::Unsent));
        }
        sent
    }
}

type Posting = Pin<Box<dyn Future<Output = Confirmed> + Send>>;

/// Writes what comes, until the connection is lost.
async fn write(wire: Arc<Wire>, channel: Channel, mut inbox: mpsc::UnboundedReceiver<Vec<Parcel>>) {
    let mut under_way = FuturesUnordered::<Posting>::new();
    let mut returned = Vec::new();
    loop {
        tokio::select! {
            biased;
            // An error is the end of the channel, so of the connection too: all of it is made anew.
            confirmed = all_ready(&mut under_way) => if settle(confirmed, &mut returned).is_err() {
                wire.give_up();
            },
            () = wire.broken() => break,
            // While the broker takes nothing, lapin would keep all we give it.
            () = wire.unblocked(), if wire.is_blocked() => (),
            parcels = inbox.recv(), if !wire.is_blocked() => match parcels {
                Some(parcels) => post(parcels, &channel, &wire, &mut under_way).await,
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
async fn post(parcels: Vec<Parcel>, channel: &Channel, wire: &Wire, under_way: &mut FuturesUnordered<Posting>) {
    for parcel in parcels {
        if parcel.is_abandoned() {
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
            // Judged with the others, for what was returned may have come with them.
            Poll::Ready(done) => under_way.push(Box::pin(std::future::ready(done))),
            Poll::Pending => under_way.push(posting),
        }
    }
}

async fn post_one(channel: Channel, parcel: Parcel) -> Confirmed {
    let Letter { route, properties, body } = parcel.letter();
    let (exchange, routing_key) = (route.exchange.clone(), route.routing_key.clone());
    let options = BasicPublishOptions { mandatory: route.mandatory, ..Default::default() };
    let confirmation = match channel.basic_publish(exchange, routing_key, options, body, properties.clone()).await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (parcel, confirmation)
}

/// Waits for something to be ready, and takes everything that is.
async fn all_ready(under_way: &mut FuturesUnordered<Posting>) -> Vec<Confirmed> {
    poll_fn(|cx| {
        let mut ready = Vec::new();
        while let Poll::Ready(Some(done)) = under_way.poll_next_unpin(cx) {
            ready.push(done);
        }
        if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
    })
    .await
}
