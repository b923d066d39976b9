//! Where consumers and the task that keeps the session meet: what is subscribed to, what has arrived, and what consumers
//! want done. It never awaits, and asks nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::{BrokerError, Delivery, DeliveryTag, Subscription};

/// Names a subscription, for as long as the program runs.
pub(super) type Place = u64;

/// The most of a kind that is settled in one request.
pub(super) const MAX_SETTLED: usize = 5000;

#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// There are orders.
    orders: Notify,
}

struct State {
    health: Result<(), BrokerError>,
    /// Why the gateway's own broker cannot be used, as the gateway says.
    away: Option<String>,
    /// How many sessions there have been: tags of earlier ones settle nothing.
    session: u64,
    /// The number of the last delivery of this session that has arrived.
    after: u64,
    last_place: Place,
    seats: BTreeMap<Place, Seat>,
    /// To be settled, and not known to be.
    acks: Vec<u64>,
    releases: Vec<u64>,
    changes: VecDeque<Change>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            health: Ok(()),
            away: None,
            session: 0,
            after: 0,
            last_place: 0,
            seats: BTreeMap::new(),
            acks: Vec::new(),
            releases: Vec::new(),
            changes: VecDeque::new(),
        }
    }
}

/// One consumer's place.
struct Seat {
    subscription: Subscription,
    /// Whether it ever was subscribed.
    is_subscribed: bool,
    arrived: VecDeque<Delivery>,
    stop: Stop,
    end: Option<BrokerError>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Ordered,
    /// Stopped; what is up to this number is still to be given out.
    At(u64),
    /// Stopped, and nothing more can come.
    Done,
}

/// Something to be done about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe(Place),
    Stop(Place),
    Drop(Place),
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) acks: Vec<u64>,
    pub(super) releases: Vec<u64>,
    pub(super) changes: VecDeque<Change>,
}

impl Desk {
    // The consumers' side.

    /// A place for one more consumer. It is subscribed as soon as can be.
    pub(super) fn sit(&self, subscription: Subscription) -> Result<Place, BrokerError> {
        self.order(|state| {
            if let Err(BrokerError::Closed) = state.health {
                return Err(BrokerError::Closed);
            }
            state.last_place += 1;
            let place = state.last_place;
            let (is_subscribed, arrived, stop, end, waker) = (false, VecDeque::new(), Stop::No, None, None);
            state.seats.insert(place, Seat { subscription, is_subscribed, arrived, stop, end, waker });
            state.changes.push_back(Change::Subscribe(place));
            Ok(place)
        })
    }

    /// A consumer is gone.
    pub(super) fn leave(&self, place: Place) {
        self.order(|state| {
            if state.seats.remove(&place).is_some() {
                state.changes.push_back(Change::Drop(place));
            }
        });
    }

    /// What came of the first subscription.
    pub(super) fn poll_subscribed(&self, place: Place, cx: &mut Context<'_>) -> Poll<Result<(), BrokerError>> {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&place) else { return Poll::Ready(Err(BrokerError::Closed)) };
        match &seat.end {
            Some(end) => Poll::Ready(Err(end.clone())),
            None if seat.is_subscribed => Poll::Ready(Ok(())),
            None => seat.wait(cx),
        }
    }

    pub(super) fn poll_next(
        &self,
        place: Place,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Delivery>, BrokerError>> {
        let mut state = self.lock();
        let after = state.after;
        let Some(seat) = state.seats.get_mut(&place) else { return Poll::Ready(Err(BrokerError::Closed)) };
        if let Some(end) = &seat.end {
            return Poll::Ready(Err(end.clone()));
        }
        if !seat.arrived.is_empty() {
            let count = max.max(1).min(seat.arrived.len());
            return Poll::Ready(Ok(seat.arrived.drain(..count).collect()));
        }
        match seat.stop {
            Stop::Done => Poll::Ready(Err(BrokerError::Closed)),
            Stop::At(last) if after >= last => Poll::Ready(Err(BrokerError::Closed)),
            Stop::No | Stop::Ordered | Stop::At(_) => seat.wait(cx),
        }
    }

    pub(super) fn settle(&self, place: Place, tags: &[DeliveryTag], ack: bool) -> Result<(), BrokerError> {
        self.order(|state| {
            let seat = state.seats.get(&place).ok_or(BrokerError::Closed)?;
            if let Some(end) = &seat.end {
                return Err(end.clone());
            }
            let session = state.session;
            let numbers = tags.iter().filter(|tag| tag.generation == session).map(|tag| tag.number);
            let list = if ack { &mut state.acks } else { &mut state.releases };
            list.extend(numbers);
            Ok(())
        })
    }

    pub(super) fn order_stop(&self, place: Place) {
        self.order(|state| {
            if let Some(seat) = state.seats.get_mut(&place)
                && seat.stop == Stop::No
            {
                seat.stop = Stop::Ordered;
                state.changes.push_back(Change::Stop(place));
            }
        });
    }

    pub(super) fn poll_stopped(&self, place: Place, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        match state.seats.get_mut(&place) {
            Some(seat) if seat.end.is_none() && matches!(seat.stop, Stop::No | Stop::Ordered) => seat.wait(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Whether there is a session, and a broker behind it.
    pub(super) fn health(&self) -> Result<(), BrokerError> {
        let state = self.lock();
        state.health.clone()?;
        state.away.clone().map_or(Ok(()), |why| Err(BrokerError::Unavailable(why)))
    }

    // The keeper's side.

    /// A session was opened: everything is to be subscribed to on it. Says its number.
    pub(super) fn begin(&self) -> u64 {
        self.tell(|state, wakers| {
            state.forget(wakers);
            state.health = Ok(());
            let wanted = state.seats.iter().filter(|(_, seat)| seat.end.is_none() && seat.stop == Stop::No);
            state.changes = wanted.map(|(&place, _)| Change::Subscribe(place)).collect();
            self.orders.notify_one();
            state.session
        })
    }

    /// There is no session: what was held comes again, on another.
    pub(super) fn interrupt(&self, why: BrokerError) {
        self.tell(|state, wakers| {
            state.forget(wakers);
            state.health = Err(why);
        });
    }

    /// What is to be subscribed to at a place, if anybody still wants it.
    pub(super) fn wanted(&self, place: Place) -> Option<Subscription> {
        let state = self.lock();
        let seat = state.seats.get(&place).filter(|seat| seat.end.is_none() && seat.stop == Stop::No)?;
        Some(seat.subscription.clone())
    }

    /// Subscribing is over: now what the consumer wanted meanwhile can be done.
    pub(super) fn catch_up(&self, place: Place) {
        self.order(|state| match state.seats.get(&place) {
            None => state.changes.push_back(Change::Drop(place)),
            Some(seat) if seat.stop == Stop::Ordered => state.changes.push_back(Change::Stop(place)),
            Some(_) => {}
        });
    }

    /// It is subscribed to.
    pub(super) fn subscribed(&self, place: Place) {
        self.tell(|state, wakers| {
            if let Some(seat) = state.seats.get_mut(&place) {
                seat.is_subscribed = true;
                wakers.extend(seat.waker.take());
            }
        });
    }

    /// It will never be subscribed to.
    pub(super) fn refused(&self, place: Place, why: BrokerError) {
        self.tell(|state, wakers| {
            if let Some(seat) = state.seats.get_mut(&place) {
                seat.end(why);
                wakers.extend(seat.waker.take());
            }
        });
    }

    /// Nothing with a higher number than `last` will come for this one.
    pub(super) fn stopped(&self, place: Place, last: u64) {
        self.tell(|state, wakers| {
            if let Some(seat) = state.seats.get_mut(&place) {
                seat.stop = Stop::At(last);
                wakers.extend(seat.waker.take());
            }
        });
    }

    /// The number of the last delivery that has arrived.
    pub(super) fn after(&self) -> u64 {
        self.lock().after
    }

    /// Whether the gateway has said that its broker cannot be used.
    pub(super) fn is_away(&self) -> bool {
        self.lock().away.is_some()
    }

    /// Deliveries of a session, each with the place that it is for, and what the gateway says of its broker. What came
    /// before is passed over.
    pub(super) fn arrive(&self, session: u64, deliveries: Vec<(Place, Delivery)>, away: Option<String>) {
        self.tell(|state, wakers| {
            if state.session != session {
                return;
            }
            state.away = away;
            for (place, delivery) in deliveries {
                if delivery.tag.number <= state.after {
                    continue;
                }
                state.after = delivery.tag.number;
                if let Some(seat) = state.seats.get_mut(&place) {
                    seat.arrived.push_back(delivery);
                }
            }
            for seat in state.seats.values_mut() {
                if !seat.arrived.is_empty() || matches!(seat.stop, Stop::At(_)) {
                    wakers.extend(seat.waker.take());
                }
            }
        });
    }

    /// Waits until there may be orders.
    pub(super) async fn ordered(&self) {
        self.orders.notified().await;
    }

    /// What is to be done, with at most so many settlements of a kind. These are given out again until they are
    /// [`Desk::settled`]. No subscription is dropped while some are left: what it held could not be settled after that.
    pub(super) fn take_orders(&self, most: usize) -> Orders {
        let mut state = self.lock();
        let (leaves_some, changes) =
            (state.acks.len().max(state.releases.len()) > most, std::mem::take(&mut state.changes));
        let is_later = |change: &Change| leaves_some && matches!(change, Change::Drop(_));
        let (later, changes) = changes.into_iter().partition(is_later);
        state.changes = later;
        let some = |numbers: &[u64]| numbers[..numbers.len().min(most)].to_vec();
        Orders { acks: some(&state.acks), releases: some(&state.releases), changes }
    }

    /// Gives back what was not done: it is first the next time.
    pub(super) fn put_back(&self, session: u64, change: Change) {
        let mut state = self.lock();
        if state.session == session {
            state.changes.push_front(change);
        }
    }

    /// The server of this session has done so many settlements, the first of those there are.
    pub(super) fn settled(&self, session: u64, acks: usize, releases: usize) {
        self.order(|state| {
            if state.session == session {
                state.acks.drain(..acks);
                state.releases.drain(..releases);
            }
        });
    }

    /// It is over.
    pub(super) fn close(&self) {
        self.tell(|state, wakers| {
            state.forget(wakers);
            state.health = Err(BrokerError::Closed);
            state.seats.values_mut().for_each(|seat| seat.end(BrokerError::Closed));
        });
    }

    /// Changes something that the keeper has to do something about.
    fn order<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.orders.notify_one();
        result
    }

    /// Changes something that consumers wait for, and then wakes those that are named.
    fn tell<T>(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let result = change(&mut self.lock(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The session is over: what has arrived, and what was to be done on it, means nothing any more.
    fn forget(&mut self, wakers: &mut Vec<Waker>) {
        self.session += 1;
        self.away = None;
        self.after = 0;
        self.acks.clear();
        self.releases.clear();
        self.changes.clear();
        for seat in self.seats.values_mut() {
            seat.arrived.clear();
            if seat.stop != Stop::No {
                seat.stop = Stop::Done;
            }
            wakers.extend(seat.waker.take());
        }
    }
}

impl Seat {
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn end(&mut self, why: BrokerError) {
        self.arrived.clear();
        self.end.get_or_insert(why);
    }
}
