//! The sessions that are open: found by their id, bounded in number, and ended when nothing is heard of their readers.
//! A session stands for a connection: when it ends, what it held goes to others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use phasework_broker::{Consumer, Delivery, DeliveryTag, Subscription};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feeder::{Feeder, Order};
use super::session::{Found, Given, Holdings, Label, Name, NeverGiven};
use super::{MAX_BUFFERED_BYTES, MAX_PREFETCH, SESSION_TTL};

/// How long a reader that has hung up on its poll may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Whoever looks for sessions to end so much too late was kept from it, and so were the readers.
const LATE: Duration = Duration::from_secs(1);

/// Why sessions end that could have gone on.
const STOPS: &str = "this coordinator stops";

/// Every session that is open.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<Arc<str>, Arc<Session>>>);

impl Sessions {
    /// Opens a session, unless there are `most`. It ends when this coordinator stops.
    pub(super) fn open(
        self: &Arc<Self>,
        id: Arc<str>,
        name: String,
        most: usize,
        stopping: Option<CancellationToken>,
    ) -> Option<Arc<Session>> {
        let mut sessions = self.lock();
        if sessions.len() >= most {
            return None;
        }
        let session = Arc::new(Session::new(id, name));
        sessions.insert(Arc::clone(&session.id), Arc::clone(&session));
        metrics::gauge!("phasework_gateway_sessions").set(sessions.len() as f64);
        drop(sessions);
        tokio::spawn(look_after(Arc::clone(&session), Arc::downgrade(self), stopping.unwrap_or_default()));
        Some(session)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn forget(&self, session: &Session) {
        let mut sessions = self.lock();
        sessions.remove(&session.id);
        metrics::gauge!("phasework_gateway_sessions").set(sessions.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.lock().values().for_each(|session| session.end(STOPS));
    }
}

/// Ends a session when nothing is heard of its reader, or this coordinator stops, and forgets it when it has ended. Who
/// polls is told at once, and what is held goes back at once: both go on elsewhere, whatever else is still to be done here.
async fn look_after(session: Arc<Session>, sessions: Weak<Sessions>, stopping: CancellationToken) {
    loop {
        let deadline = session.holdings().deadline();
        let ended = session.changed(|session| {
            let holdings = session.holdings();
            holdings.ended().is_some() || holdings.deadline() < deadline
        });
        tokio::select! {
            biased;
            () = ended => {
                if session.ended().is_some() {
                    break;
                }
            }
            () = stopping.cancelled() => {
                session.end(STOPS);
                break;
            }
            () = sleep_until(deadline) => {
                let now = Instant::now();
                let late = now - deadline;
                let mut holdings = session.holdings();
                if late > LATE && holdings.deadline() == deadline {
                    // This program stood still. Whoever wanted to be heard is heard now.
                    holdings.put_off(late + BACK_WITHIN);
                } else if holdings.expire(now, Duration::ZERO) {
                    break;
                }
            }
        }
    }
    if let Some(sessions) = sessions.upgrade() {
        sessions.forget(&session);
    }
    let why = session.holdings().ended().unwrap_or_default().to_owned();
    tracing::info!(session = &*session.id, name = session.name, why, "a worker's session has ended");
    session.end(&why);
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Arc<str>,
    name: String,
    holdings: Mutex<Holdings>,
    subscriptions: Mutex<BTreeMap<Name, Place>>,
    /// How many subscriptions there have been.
    labels: AtomicU64,
    /// How many more deliveries subscriptions may hold unsettled.
    prefetch: Arc<Semaphore>,
    /// Something arrived, was made, or ended.
    change: Notify,
    /// The reader took something.
    room: Notify,
    feeders: TaskTracker,
}

/// A subscription.
#[derive(Debug)]
enum Place {
    BeingMade,
    Made { label: Label, subscription: Subscription, orders: UnboundedSender<Order>, _prefetch: Granted },
}

/// How many deliveries a subscription may hold unsettled, of those that its session may. It has one even if there are none
/// left.
type Granted = Option<OwnedSemaphorePermit>;

/// Whether there is such a subscription.
pub(super) enum Asked<'a> {
    /// There is, with this prefetch.
    There(u16),
    /// There is one of this name, from somewhere else.
    Other,
    /// It is to be made by who asked.
    ToBeMade(Making<'a>),
    TooMany,
}

/// A subscription that is being made. Dropped before it is, it makes way for the next attempt.
pub(super) struct Making<'a> {
    session: &'a Arc<Session>,
    name: Name,
    prefetch: Granted,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut subscriptions = self.session.subscriptions();
        if let Some(Place::BeingMade) = subscriptions.get(&self.name) {
            subscriptions.remove(&self.name);
        }
        drop(subscriptions);
        self.session.change.notify_waiters();
    }
}

impl Making<'_> {
    /// How many deliveries it may hold unsettled.
    pub(super) fn prefetch(&self) -> u16 {
        let granted = self.prefetch.as_ref().map_or(1, OwnedSemaphorePermit::num_permits);
        u16::try_from(granted).unwrap_or(MAX_PREFETCH)
    }

    /// It is made. If the session has ended meanwhile, what it got goes back.
    pub(super) fn done(mut self, subscription: Subscription, consumer: Box<dyn Consumer>) {
        let (orders, ordered) = unbounded_channel();
        let name = Arc::clone(&self.name);
        let label = Label { number: self.session.labels.fetch_add(1, Ordering::Relaxed), name: Arc::clone(&name) };
        let mut subscriptions = self.session.subscriptions();
        if self.session.holdings().ended().is_none() {
            let _prefetch = self.prefetch.take();
            subscriptions.insert(name, Place::Made { label: label.clone(), subscription, orders, _prefetch });
            let feeder = Feeder { session: Arc::clone(self.session), label, consumer };
            self.session.feeders.spawn(feeder.run(ordered));
        }
    }
}

impl Session {
    fn new(id: Arc<str>, name: String) -> Self {
        Self {
            id,
            name,
            holdings: Mutex::new(Holdings::new(Instant::now() + SESSION_TTL)),
            subscriptions: Mutex::default(),
            labels: AtomicU64::new(0),
            prefetch: Arc::new(Semaphore::new(MAX_PREFETCH.into())),
            change: Notify::new(),
            room: Notify::new(),
            feeders: TaskTracker::new(),
        }
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<Name, Place>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds that changes are told of.
    async fn changed(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.change.notified());
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    /// Its reader has asked for something.
    pub(super) fn heard(&self) {
        self.holdings().heard(Instant::now() + SESSION_TTL);
    }

    /// Whether it has ended, and why.
    pub(super) fn ended(&self) -> Option<String> {
        self.holdings().ended().map(str::to_owned)
    }

    /// Ends it. What it held goes to others, but for what was to be settled before.
    pub(super) fn end(&self, why: &str) {
        self.holdings().end(why);
        self.subscriptions().clear();
        self.feeders.close();
        self.change.notify_waiters();
        self.room.notify_waiters();
    }

    /// Ends it, and waits until what it held has gone back.
    pub(super) async fn close(&self, why: &str) {
        self.end(why);
        self.feeders.wait().await;
    }

    // The feeders' side.

    pub(super) fn arrive(&self, subscription: &Label, deliveries: Vec<Delivery>) {
        self.holdings().arrive(subscription, deliveries);
        self.change.notify_waiters();
    }

    pub(super) fn has_room(&self) -> bool {
        self.holdings().has_room(MAX_BUFFERED_BYTES)
    }

    /// Waits until there may be room.
    pub(super) async fn room(&self) {
        let mut room = std::pin::pin!(self.room.notified());
        room.as_mut().enable();
        let is_over = || {
            let holdings = self.holdings();
            holdings.has_room(MAX_BUFFERED_BYTES) || holdings.ended().is_some()
        };
        if !is_over() {
            room.await;
        }
    }

    // The reader's side.

    /// Looks for a subscription, once nobody is making it.
    pub(super) async fn ask_for<'a>(self: &'a Arc<Self>, name: &Name, like: &Subscription, most: usize) -> Asked<'a> {
        loop {
            self.made(name).await;
            let mut subscriptions = self.subscriptions();
            return match subscriptions.get(name) {
                Some(Place::Made { subscription, .. }) if subscription.from == like.from => {
                    Asked::There(subscription.prefetch)
                }
                Some(Place::Made { .. }) => Asked::Other,
                Some(Place::BeingMade) => continue, // somebody else was faster
                None if subscriptions.len() >= most => Asked::TooMany,
                None => {
                    subscriptions.insert(Arc::clone(name), Place::BeingMade);
                    let prefetch = self.grant(like.prefetch);
                    Asked::ToBeMade(Making { session: self, name: Arc::clone(name), prefetch })
                }
            };
        }
    }

    /// What is left of the deliveries that may be held, if so many are not.
    fn grant(&self, asked: u16) -> Granted {
        let left = usize::from(asked).min(self.prefetch.available_permits());
        Arc::clone(&self.prefetch).try_acquire_many_owned(left as u32).ok().filter(|granted| granted.num_permits() > 0)
    }

    /// Waits until nobody is making a subscription of this name.
    async fn made(&self, name: &Name) {
        self.changed(|session| !matches!(session.subscriptions().get(name), Some(Place::BeingMade))).await;
    }

    /// Has a subscription take nothing new; the number of its last delivery. None when there is no such.
    pub(super) async fn stop(&self, name: &Name) -> Option<u64> {
        self.made(name).await;
        let (done, stopped) = oneshot::channel();
        let label = match self.subscriptions().get(name)? {
            Place::Made { label, orders, .. } => orders.send(Order::Stop(done)).ok().map(|()| label.clone())?,
            Place::BeingMade => return None, // another one, made since
        };
        // Without an answer it is given up, or the session has ended.
        stopped.await.ok()?;
        Some(self.holdings().last_of(&label))
    }

    /// Gives up a subscription. That there is none is fine.
    pub(super) async fn unsubscribe(&self, name: &Name) {
        self.made(name).await;
        let Some(Place::Made { label, orders, _prefetch, .. }) = self.take(name) else { return };
        let (done, left) = oneshot::channel();
        let _ended = orders.send(Order::Leave(done));
        // Without an answer the session has ended, and this with it.
        drop(left.await);
        self.holdings().forget(&label);
        self.room.notify_waiters();
    }

    /// Takes a subscription out: from here on there may be another of its name.
    fn take(&self, name: &Name) -> Option<Place> {
        let mut subscriptions = self.subscriptions();
        match subscriptions.get(name)? {
            Place::Made { .. } => subscriptions.remove(name),
            Place::BeingMade => None, // another one, made since
        }
    }

    /// Forgets some deliveries for good, and gives others back.
    pub(super) fn settle(&self, ack: &[u64], release: &[u64]) {
        for (numbers, order) in [(ack, Order::Ack as fn(Vec<DeliveryTag>) -> Order), (release, Order::Release)] {
            if numbers.is_empty() {
                continue;
            }
            let settled = self.holdings().settle(numbers);
            let subscriptions = self.subscriptions();
            for (of, tags) in settled {
                if let Some(Place::Made { label, orders, .. }) = subscriptions.get(&of.name)
                    && *label == of
                {
                    // One that is gone has given back what it held.
                    let _gone = orders.send(order(tags));
                }
            }
        }
        self.room.notify_waiters();
    }

    /// Begins a poll of a reader that has everything up to `after`.
    pub(super) fn poll(&self, after: u64) -> Result<Poll<'_>, NeverGiven> {
        let number = self.holdings().begin_poll(after)?;
        self.change.notify_waiters();
        self.room.notify_waiters();
        Ok(Poll { session: self, number, is_answered: false })
    }
}

/// A poll that is served. Dropped without an answer, its reader has hung up.
pub(super) struct Poll<'a> {
    session: &'a Session,
    number: u64,
    is_answered: bool,
}

impl Poll<'_> {
    /// What there is for it, once there is something, or nothing when it has waited for so long. `Err` says why the
    /// session has ended.
    pub(super) async fn wait(&self, wait: Duration, max: usize, bytes: usize) -> Result<Vec<Given>, String> {
        let over = Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(self.session.change.notified());
            changed.as_mut().enable();
            match self.session.holdings().find(self.number, max, bytes) {
                Found::Some(given) => return Ok(given),
                Found::Superseded => return Ok(Vec::new()),
                Found::Ended(why) => return Err(why),
                Found::Nothing => {}
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(over) => return Ok(Vec::new()),
            }
        }
    }

    /// It is answered.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.holdings().hung_up(self.number, Instant::now() + BACK_WITHIN);
            // Whoever looks after it looks again.
            self.session.change.notify_waiters();
        }
    }
}
