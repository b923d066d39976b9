//! Where the embedded broker's queues are: by address, and by what is bound to an exchange. It holds no message itself.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::queue::{Gone, Kind, Queue, SeatId};
use super::topic::Pattern;
use crate::{Address, Message, PublishError, Subscription};

#[derive(Debug, Default)]
pub(super) struct Server {
    queues: RwLock<HashMap<Address, Arc<Queue>>>,
    /// The private queues of those who subscribed to an exchange.
    bindings: RwLock<Vec<Binding>>,
}

#[derive(Debug)]
struct Binding {
    exchange: Exchange,
    /// Of events, which. None takes everything.
    pattern: Option<Pattern>,
    queue: Arc<Queue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    Events,
    Control,
    Presence,
}

impl Exchange {
    const fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Events(_) => Some(Self::Events),
            Address::Control => Some(Self::Control),
            Address::Presence => Some(Self::Presence),
            Address::Jobs(_)
            | Address::Coordinator(_)
            | Address::Submit
            | Address::Dead
            | Address::Marker(_)
            | Address::Private(_) => None,
        }
    }
}

impl Server {
    /// Delivers messages that all go to one address. Takes them all, whatever comes of it.
    pub(super) fn publish(&self, to: &Address, messages: impl Iterator<Item = Message>) -> Result<(), PublishError> {
        if let Some(exchange) = Exchange::of(to) {
            messages.for_each(|message| self.fan_out(exchange, &message));
            return Ok(());
        }
        let mut messages = messages;
        loop {
            let queue = match to {
                Address::Private(_) => self.find(to),
                _ => Some(self.find_or_create(to)),
            };
            let Some(queue) = queue else {
                messages.for_each(drop);
                return Err(PublishError::Unroutable(name_of(to)));
            };
            match queue.push(messages.by_ref()) {
                Ok(()) => return Ok(()),
                Err(Gone) => self.forget(to, &queue),
            }
        }
    }

    /// Delivers one message to a queue that has to be there.
    pub(super) fn reply(&self, message: Message) -> Result<(), PublishError> {
        let unroutable = || PublishError::Unroutable(name_of(&message.to));
        let queue = self.find(&message.to).ok_or_else(unroutable)?;
        let name = message.to.clone();
        queue.push(std::iter::once(message)).map_err(|Gone| PublishError::Unroutable(name_of(&name)))
    }

    fn fan_out(&self, exchange: Exchange, message: &Message) {
        let key = if let Address::Events(key) = &message.to { key } else { "" };
        for binding in read(&self.bindings).iter().filter(|binding| binding.exchange == exchange) {
            if binding.pattern.as_ref().is_none_or(|pattern| pattern.matches(key)) {
                // A subscriber that is just leaving needs no copy.
                let _gone = binding.queue.push(std::iter::once(message.clone()));
            }
        }
    }

    /// Takes a seat at the queue, which is made if need be.
    pub(super) fn subscribe(&self, subscription: &Subscription) -> (Arc<Queue>, SeatId) {
        let from = &subscription.from;
        loop {
            let queue = match Exchange::of(from) {
                Some(exchange) => self.bind(exchange, from),
                None => self.find_or_create(from),
            };
            match queue.join(subscription.prefetch) {
                Ok(seat) => return (queue, seat),
                Err(Gone) => self.forget(from, &queue),
            }
        }
    }

    fn bind(&self, exchange: Exchange, from: &Address) -> Arc<Queue> {
        let pattern = if let Address::Events(pattern) = from { Some(Pattern::new(pattern)) } else { None };
        let queue = Queue::new(name_of(from).into(), Kind::Transient);
        write(&self.bindings).push(Binding { exchange, pattern, queue: queue.clone() });
        queue
    }

    /// Gives up a seat; a queue that ends with it is forgotten.
    pub(super) fn leave(&self, queue: &Arc<Queue>, seat: SeatId) {
        if queue.leave(seat) {
            write(&self.bindings).retain(|binding| !Arc::ptr_eq(&binding.queue, queue));
            write(&self.queues).retain(|_, other| !Arc::ptr_eq(other, queue));
        }
    }

    pub(super) fn delete(&self, address: &Address) {
        if let Some(queue) = self.find(address)
            && queue.delete()
        {
            self.forget(address, &queue);
        }
    }

    pub(super) fn find(&self, address: &Address) -> Option<Arc<Queue>> {
        read(&self.queues).get(address).cloned()
    }

    fn find_or_create(&self, address: &Address) -> Arc<Queue> {
        if let Some(queue) = self.find(address) {
            return queue;
        }
        let kind = match address {
            Address::Coordinator(_) => Kind::SingleActive,
            Address::Private(_) => Kind::Transient,
            _ => Kind::Shared,
        };
        let mut queues = write(&self.queues);
        queues.entry(address.clone()).or_insert_with(|| Queue::new(name_of(address).into(), kind)).clone()
    }

    /// Takes a queue that is gone out of the map, unless another took its place already.
    fn forget(&self, address: &Address, queue: &Arc<Queue>) {
        let mut queues = write(&self.queues);
        if queues.get(address).is_some_and(|found| Arc::ptr_eq(found, queue)) {
            queues.remove(address);
        }
    }
}

/// A queue's name, for `reply_to` and routing keys.
pub(super) fn name_of(address: &Address) -> String {
    match address {
        Address::Jobs(queue) => format!("jobs.{queue}"),
        Address::Coordinator(number) => format!("coordinator.{number}"),
        Address::Submit => "submit".to_owned(),
        Address::Dead => "dead".to_owned(),
        Address::Marker(id) => format!("marker.{id}"),
        Address::Private(name) => name.to_string(),
        Address::Events(_) => "events".to_owned(),
        Address::Control => "control".to_owned(),
        Address::Presence => "presence".to_owned(),
    }
}

/// The queue that has this name.
pub(super) fn address_of(name: &str) -> Address {
    let coordinator = || name.strip_prefix("coordinator.")?.parse().ok().map(Address::Coordinator);
    match name {
        "submit" => Address::Submit,
        "dead" => Address::Dead,
        _ => match (name.strip_prefix("jobs."), name.strip_prefix("marker.")) {
            (Some(queue), _) => Address::Jobs(queue.into()),
            (None, Some(id)) => Address::Marker(id.into()),
            (None, None) => coordinator().unwrap_or_else(|| Address::Private(name.into())),
        },
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
