//! One reader's place at a queue in memory: what it was given and has not settled yet. It knows nothing of other
//! readers, and takes no lock: the queue does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use crate::{Address, Delivery, DeliveryTag, Message};

/// A message in a queue, waiting or delivered.
pub(super) struct Held {
    /// Its place in the order of the queue, for good.
    pub(super) position: u64,
    pub(super) redelivered: bool,
    pub(super) expires_at: Option<Instant>,
    pub(super) message: Message,
}

/// How many bits of a delivery's number name its slot; the rest count deliveries, so that numbers rise and none comes
/// twice.
const SLOT_BITS: u32 = 16;

pub(super) struct Seat {
    prefetch: usize,
    generation: u64,
    deliveries: u64,
    /// What is held, with the delivery's number; at most `prefetch`.
    slots: Vec<Option<(u64, Held)>>,
    free: Vec<usize>,
    /// Numbers of deliveries that [`Seat::take`] has not handed out yet.
    inbox: VecDeque<u64>,
    /// Whether the queue lists it as having room.
    pub(super) willing: bool,
    pub(super) stopped: bool,
    pub(super) waker: Option<Waker>,
}

impl Seat {
    pub(super) fn new(prefetch: u16) -> Self {
        Self {
            prefetch: usize::from(prefetch.max(1)),
            generation: 1,
            deliveries: 0,
            slots: Vec::new(),
            free: Vec::new(),
            inbox: VecDeque::new(),
            willing: false,
            stopped: false,
            waker: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.stopped && (!self.free.is_empty() || self.slots.len() < self.prefetch)
    }

    /// Holds one more message. Only called while there is room.
    pub(super) fn accept(&mut self, held: Held) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.deliveries += 1;
        let number = (self.deliveries << SLOT_BITS) | slot as u64;
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some((number, held));
        self.inbox.push_back(number);
    }

    /// Hands out up to `max` deliveries that have arrived.
    pub(super) fn take(&mut self, max: usize, queue: &Arc<str>) -> Vec<Delivery> {
        let count = max.min(self.inbox.len());
        let numbers = self.inbox.drain(..count);
        let slots = &self.slots;
        let generation = self.generation;
        numbers
            .filter_map(|number| slots[slot_of(number)].as_ref())
            .map(|(number, held)| delivery(DeliveryTag { generation, number: *number }, held, queue))
            .collect()
    }

    /// Takes out one delivery. None when it was settled before, or is of an earlier generation.
    pub(super) fn settle(&mut self, tag: DeliveryTag) -> Option<Held> {
        let slot = slot_of(tag.number);
        let found = self.slots.get_mut(slot)?;
        let same = tag.generation == self.generation && found.as_ref().is_some_and(|(number, _)| *number == tag.number);
        let (_, held) = found.take_if(|_| same)?;
        self.free.push(slot);
        Some(held)
    }

    /// Forgets all that is held: the queue was deleted under its reader.
    pub(super) fn reset(&mut self) {
        self.generation += 1;
        self.slots.clear();
        self.free.clear();
        self.inbox.clear();
    }

    /// All that is held, in no order.
    pub(super) fn into_held(self) -> Vec<Held> {
        self.slots.into_iter().flatten().map(|(_, held)| held).collect()
    }
}

const fn slot_of(number: u64) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}

fn delivery(tag: DeliveryTag, held: &Held, queue: &Arc<str>) -> Delivery {
    let message = &held.message;
    Delivery {
        tag,
        kind: message.kind.clone(),
        body: message.body.clone(),
        id: message.id.clone(),
        redelivered: held.redelivered,
        reply_to: message.reply_to.clone(),
        correlation_id: message.correlation_id.clone(),
        routing_key: match &message.to {
            Address::Events(key) => key.clone(),
            _ => queue.clone(),
        },
        headers: message.headers.clone(),
    }
}
