//! One queue in memory: what waits in it, who reads from it, and who gets the next message. It never awaits, and wakes
//! readers only once its lock is let go: once per batch, however many messages the batch holds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::seat::{Held, Seat};
use crate::{BrokerError, Delivery, DeliveryTag, Message};

/// Names a reader of one queue; later readers have higher numbers.
pub(super) type SeatId = u64;

pub(super) struct Queue {
    name: Arc<str>,
    kind: Kind,
    state: Mutex<State>,
}

/// How a queue treats its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Readers take turns. It stays when they leave.
    Shared,
    /// The reader that came first is served until it leaves. It stays when they leave.
    SingleActive,
    /// It goes away with its last reader.
    Transient,
}

#[derive(Default)]
struct State {
    /// By position: a message that comes back goes to where it was.
    ready: VecDeque<Held>,
    last_position: u64,
    seats: BTreeMap<SeatId, Seat>,
    last_seat: SeatId,
    /// The seats with room, in the order in which they are served.
    willing: VecDeque<SeatId>,
    /// Taken out of the broker: what is sent here now would reach nobody.
    gone: bool,
}

/// The queue was removed from the broker; look it up again.
#[derive(Debug)]
pub(super) struct Gone;

impl Queue {
    pub(super) fn new(name: Arc<str>, kind: Kind) -> Arc<Self> {
        Arc::new(Self { name, kind, state: Mutex::default() })
    }

    /// Appends messages. Takes none of them when the queue is gone.
    pub(super) fn push(&self, messages: impl Iterator<Item = Message>) -> Result<(), Gone> {
        self.change(|state, wakers| {
            if state.gone {
                return Err(Gone);
            }
            for message in messages {
                state.last_position += 1;
                let expires_at = message.expires.map(|after| Instant::now() + after);
                state.ready.push_back(Held { position: state.last_position, redelivered: false, expires_at, message });
            }
            state.dispatch(wakers);
            Ok(())
        })
    }

    /// Adds a reader.
    pub(super) fn join(&self, prefetch: u16) -> Result<SeatId, Gone> {
        self.change(|state, wakers| {
            if state.gone {
                return Err(Gone);
            }
            state.last_seat += 1;
            let id = state.last_seat;
            state.seats.insert(id, Seat::new(prefetch));
            state.serve(self.kind, id, wakers);
            Ok(id)
        })
    }

    /// Removes a reader; what it held goes to others. Says whether the queue went away with it.
    pub(super) fn leave(&self, id: SeatId) -> bool {
        self.change(|state, wakers| {
            let Some(mut seat) = state.seats.remove(&id) else { return false };
            wakers.extend(seat.waker.take());
            if self.kind == Kind::Transient && state.seats.is_empty() {
                state.gone = true;
                state.ready.clear();
                return true;
            }
            state.put_back(seat.into_held());
            state.serve_next(self.kind, wakers);
            false
        })
    }

    /// Serves a reader no more, but lets it keep what it has.
    pub(super) fn stop(&self, id: SeatId) {
        self.change(|state, wakers| {
            let Some(seat) = state.seats.get_mut(&id) else { return };
            seat.stopped = true;
            wakers.extend(seat.waker.take());
            state.serve_next(self.kind, wakers);
        });
    }

    /// Takes what has arrived for a reader, or has it woken when something does.
    pub(super) fn poll_take(
        &self,
        id: SeatId,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Delivery>, BrokerError>> {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&id) else { return Poll::Ready(Err(BrokerError::Closed)) };
        let deliveries = seat.take(max.max(1), &self.name);
        if !deliveries.is_empty() {
            Poll::Ready(Ok(deliveries))
        } else if seat.stopped {
            Poll::Ready(Err(BrokerError::Closed))
        } else {
            seat.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// Forgets deliveries of a reader.
    pub(super) fn ack(&self, id: SeatId, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.change(|state, wakers| {
            let seat = state.seats.get_mut(&id).ok_or(BrokerError::Closed)?;
            for tag in tags {
                drop(seat.settle(*tag));
            }
            state.serve(self.kind, id, wakers);
            Ok(())
        })
    }

    /// Takes deliveries of a reader back, to be delivered again.
    pub(super) fn release(&self, id: SeatId, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.change(|state, wakers| {
            let seat = state.seats.get_mut(&id).ok_or(BrokerError::Closed)?;
            let held = tags.iter().filter_map(|tag| seat.settle(*tag)).collect();
            state.put_back(held);
            state.serve(self.kind, id, wakers);
            Ok(())
        })
    }

    /// How many messages wait.
    pub(super) fn depth(&self) -> usize {
        let mut state = self.lock();
        state.drop_expired();
        state.ready.len()
    }

    /// Removes what waits.
    pub(super) fn purge(&self) {
        self.lock().ready.clear();
    }

    /// Removes everything in the queue, delivered or not. Readers stay, with nothing. Says whether the queue is gone
    /// with it, which it is when nobody reads from it.
    pub(super) fn delete(&self) -> bool {
        self.change(|state, wakers| {
            state.ready.clear();
            state.gone |= state.seats.is_empty();
            state.seats.values_mut().for_each(Seat::reset);
            for id in state.seats.keys().copied().collect::<Vec<_>>() {
                state.serve(self.kind, id, wakers);
            }
            state.gone
        })
    }

    /// Runs `change` under the lock, and then wakes those it names.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let result = change(&mut self.lock(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    /// Without what it holds, which may be much.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl State {
    /// Lists a reader as willing if it may have messages and has room, and gives out what waits.
    fn serve(&mut self, kind: Kind, id: SeatId, wakers: &mut Vec<Waker>) {
        let its_turn = kind != Kind::SingleActive || self.active() == Some(id);
        if let Some(seat) = self.seats.get_mut(&id)
            && its_turn
            && !seat.willing
            && seat.has_room()
        {
            seat.willing = true;
            self.willing.push_back(id);
        }
        self.dispatch(wakers);
    }

    /// After a reader went or stopped: gives out what it left, to its successor if only one is served.
    fn serve_next(&mut self, kind: Kind, wakers: &mut Vec<Waker>) {
        match self.active().filter(|_| kind == Kind::SingleActive) {
            Some(active) => self.serve(kind, active, wakers),
            None => self.dispatch(wakers),
        }
    }

    /// The first reader that has not stopped.
    fn active(&self) -> Option<SeatId> {
        self.seats.iter().find(|(_, seat)| !seat.stopped).map(|(id, _)| *id)
    }

    /// Gives out what waits, to one willing reader after the other.
    fn dispatch(&mut self, wakers: &mut Vec<Waker>) {
        loop {
            self.drop_expired();
            if self.ready.is_empty() {
                return;
            }
            let Some(id) = self.willing.pop_front() else { return };
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            seat.willing = false;
            if !seat.has_room() {
                continue;
            }
            if let Some(held) = self.ready.pop_front() {
                seat.accept(held);
            }
            wakers.extend(seat.waker.take());
            if seat.has_room() {
                seat.willing = true;
                self.willing.push_back(id);
            }
        }
    }

    /// Expired messages go when they reach the head, as on RabbitMQ.
    fn drop_expired(&mut self) {
        while let Some(Held { expires_at: Some(at), .. }) = self.ready.front()
            && *at <= Instant::now()
        {
            self.ready.pop_front();
        }
    }

    /// Puts messages back where they were, marked as redelivered.
    fn put_back(&mut self, mut held: Vec<Held>) {
        held.sort_unstable_by_key(|held| held.position);
        for mut held in held.into_iter().rev() {
            held.redelivered = true;
            let at = self.ready.partition_point(|waiting| waiting.position < held.position);
            self.ready.insert(at, held);
        }
    }
}
