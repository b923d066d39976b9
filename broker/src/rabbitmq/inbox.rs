//! Where a consumer and the task that feeds it meet: what has arrived, what is held, and what the consumer wants done.
//! It never talks to RabbitMQ.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::{BrokerError, Delivery, DeliveryTag};

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// There are orders for the feeder.
    orders: Notify,
}

#[derive(Default)]
struct State {
    generation: u64,
    arrived: VecDeque<Delivery>,
    /// Delivered on this connection, and not known to RabbitMQ to be settled.
    held: BTreeSet<u64>,
    acked: Vec<u64>,
    released: Vec<u64>,
    stop: Stop,
    abandoned: bool,
    end: Option<BrokerError>,
    /// Whoever waits in `next` or `stop`.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stop {
    #[default]
    No,
    Ordered,
    Done,
}

/// What a consumer wants done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) acks: Vec<Settle>,
    pub(super) releases: Vec<Settle>,
    /// Cancel the subscription, but keep what is held.
    pub(super) stop: bool,
    /// The consumer is gone.
    pub(super) leave: bool,
}

/// One acknowledgement or release to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settle {
    pub(super) tag: u64,
    /// Whether it means everything before it too.
    pub(super) multiple: bool,
}

impl Inbox {
    // The consumer's side.

    pub(super) fn poll_next(&self, max: usize, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>, BrokerError>> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.clone()));
        }
        if !state.arrived.is_empty() {
            let count = max.max(1).min(state.arrived.len());
            return Poll::Ready(Ok(state.arrived.drain(..count).collect()));
        }
        if state.stop == Stop::Done {
            return Poll::Ready(Err(BrokerError::Closed));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.settle(tags, |state| &mut state.acked)
    }

    pub(super) fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.settle(tags, |state| &mut state.released)
    }

    fn settle(&self, tags: &[DeliveryTag], list: fn(&mut State) -> &mut Vec<u64>) -> Result<(), BrokerError> {
        let mut state = self.lock();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let generation = state.generation;
        let numbers = tags.iter().filter(|tag| tag.generation == generation).map(|tag| tag.number);
        list(&mut state).extend(numbers);
        drop(state);
        self.orders.notify_one();
        Ok(())
    }

    pub(super) fn order_stop(&self) {
        let mut state = self.lock();
        if state.stop == Stop::No {
            state.stop = Stop::Ordered;
        }
        drop(state);
        self.orders.notify_one();
    }

    pub(super) fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.stop == Stop::Done || state.end.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.orders.notify_one();
    }

    // The feeder's side.

    /// A new session begins; says its generation.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.generation += 1;
        state.generation
    }

    /// The session is over: what was held comes again, on another.
    pub(super) fn interrupt(&self) {
        self.lock().forget();
    }

    pub(super) fn arrive(&self, deliveries: Vec<Delivery>) {
        let mut state = self.lock();
        state.held.extend(deliveries.iter().map(|delivery| delivery.tag.number));
        state.arrived.extend(deliveries);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// How much of what was delivered is not settled.
    pub(super) fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Waits until there may be orders.
    pub(super) async fn ordered(&self) {
        self.orders.notified().await;
    }

    /// Whether orders can wait for others to join them: there are only acknowledgements, and so few that a subscription
    /// with this prefetch has room for more deliveries than they keep from coming.
    pub(super) fn can_wait(&self, prefetch: u16) -> bool {
        let state = self.lock();
        let room = usize::from(prefetch).saturating_sub(state.held.len());
        state.acked.len() < room && state.released.is_empty() && state.stop != Stop::Ordered && !state.abandoned
    }

    pub(super) fn take_orders(&self) -> Orders {
        let mut state = self.lock();
        let (acked, released) = (std::mem::take(&mut state.acked), std::mem::take(&mut state.released));
        Orders {
            acks: plan(&mut state.held, acked),
            releases: plan(&mut state.held, released),
            stop: state.stop == Stop::Ordered,
            leave: state.abandoned,
        }
    }

    /// Waits until the consumer wants no more deliveries, so that subscribing again is not worth it.
    pub(super) async fn finished(&self) {
        self.until(|state| state.abandoned || state.stop != Stop::No).await;
    }

    /// Waits until the consumer is gone.
    pub(super) async fn abandoned(&self) {
        self.until(|state| state.abandoned).await;
    }

    async fn until(&self, holds: fn(&State) -> bool) {
        while !holds(&self.lock()) {
            self.orders.notified().await;
        }
    }

    /// Nothing more will arrive.
    pub(super) fn stopped(&self) {
        let mut state = self.lock();
        state.stop = Stop::Done;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// It is over, for this reason.
    pub(super) fn end(&self, why: BrokerError) {
        let mut state = self.lock();
        state.forget();
        state.end.get_or_insert(why);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.arrived.clear();
        self.held.clear();
        self.acked.clear();
        self.released.clear();
        // Tags handed out so far mean nothing from now on.
        self.generation += 1;
    }
}

/// Takes tags out of those held, in as few frames as can be: the lowest ones held, as far as they are all there, in one
/// (RabbitMQ then settles four times as many in a second), the others one by one. Tags not held are left out: RabbitMQ
/// closes the channel on them.
fn plan(held: &mut BTreeSet<u64>, mut tags: Vec<u64>) -> Vec<Settle> {
    tags.sort_unstable();
    tags.dedup();
    tags.retain(|tag| held.contains(tag));
    let lowest = held.iter().zip(&tags).take_while(|(held, tag)| held == tag).count();
    for tag in &tags {
        held.remove(tag);
    }
    let together = tags[..lowest].last().map(|&tag| Settle { tag, multiple: lowest > 1 });
    let alone = tags[lowest..].iter().map(|&tag| Settle { tag, multiple: false });
    together.into_iter().chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Inbox, Settle, plan};
    use crate::DeliveryTag;

    #[test]
    fn few_acknowledgements_can_wait_and_nothing_else() {
        let check = |prefetch, held: u64, acked: u64, released: u64, expected| {
            let inbox = Inbox::default();
            let generation = inbox.begin();
            inbox.lock().held.extend(1..=held);
            let tags = |from, count| (from..from + count).map(|number| DeliveryTag { generation, number });
            inbox.ack(&tags(1, acked).collect::<Vec<_>>()).unwrap();
            inbox.release(&tags(1 + acked, released).collect::<Vec<_>>()).unwrap();
            assert_eq!(inbox.can_wait(prefetch), expected, "{acked} and {released} of {held}, at most {prefetch}");
            inbox
        };
        check(256, 100, 100, 0, true);
        check(256, 128, 128, 0, false);
        check(256, 1, 1, 1, false);
        // Every slot is taken: the next job comes only when one of those that are done is acknowledged.
        check(8, 8, 1, 0, false);
        check(8, 7, 1, 0, false);
        check(8, 6, 1, 0, true);
        check(1, 1, 1, 0, false);
        check(3, 1, 1, 0, true);
        let inbox = check(256, 1, 1, 0, true);
        inbox.order_stop();
        assert!(!inbox.can_wait(256));
        let inbox = check(256, 1, 1, 0, true);
        inbox.abandon();
        assert!(!inbox.can_wait(256));
    }

    #[test]
    fn tags_are_settled_together_only_where_nothing_else_is_held() {
        let check = |held: &[u64], tags: &[u64], expected: &[(u64, bool)], left: &[u64]| {
            let mut held: BTreeSet<u64> = held.iter().copied().collect();
            let planned = plan(&mut held, tags.to_vec());
            let expected: Vec<_> = expected.iter().map(|&(tag, multiple)| Settle { tag, multiple }).collect();
            assert_eq!((planned, held.into_iter().collect::<Vec<_>>()), (expected, left.to_vec()), "{tags:?}");
        };
        check(&[], &[], &[], &[]);
        check(&[1], &[1], &[(1, false)], &[]);
        check(&[1, 2, 3], &[1, 2, 3], &[(3, true)], &[]);
        check(&[1, 2, 3], &[2, 1], &[(2, true)], &[3]);
        check(&[1, 2, 3], &[2, 3], &[(2, false), (3, false)], &[1]);
        check(&[1, 2, 3, 4], &[1, 2, 4], &[(2, true), (4, false)], &[3]);
        // What is not held any more is no gap.
        check(&[3, 7, 9], &[3, 7], &[(7, true)], &[9]);
        // Settled twice, settled before, never delivered.
        check(&[2, 3], &[2, 2, 1, 9], &[(2, false)], &[3]);
    }
}
