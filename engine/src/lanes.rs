//! Work for several queues, each of which stands for itself: what comes for a queue gathers while its last publish is
//! under way, and a queue that takes nothing holds up no other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

/// How long a delivery may be held whose message was not published, before it is given back: RabbitMQ takes away what is
/// held for too long. It comes again at once, and waits as long again.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(300);

/// How long a queue is left alone after something was not confirmed: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A lane for each queue `K`, with items `T`; what came of the items that were under way is a `D`.
pub(crate) struct Lanes<K, T, D> {
    lanes: BTreeMap<K, Lane<T>>,
    under_way: FuturesUnordered<BoxFuture<'static, (K, D)>>,
    /// The most items that go together.
    together: usize,
}

struct Lane<T> {
    waiting: VecDeque<T>,
    is_busy: bool,
    /// How long to wait before the next publish.
    wait: Duration,
}

impl<K: Ord + Copy + Send + 'static, T, D: Send + 'static> Lanes<K, T, D> {
    pub(crate) fn new(together: usize) -> Self {
        Self { lanes: BTreeMap::new(), under_way: FuturesUnordered::new(), together }
    }

    fn lane(&mut self, queue: K) -> &mut Lane<T> {
        let empty = || Lane { waiting: VecDeque::new(), is_busy: false, wait: Duration::ZERO };
        self.lanes.entry(queue).or_insert_with(empty)
    }

    /// Takes in what is for a queue.
    pub(crate) fn put(&mut self, queue: K, item: T) {
        self.lane(queue).waiting.push_back(item);
    }

    /// Takes in again what was not confirmed, before what came since. All of that waits for a while.
    pub(crate) fn put_back(&mut self, queue: K, items: Vec<T>) {
        let lane = self.lane(queue);
        for item in items.into_iter().rev() {
            lane.waiting.push_front(item);
        }
        lane.wait = (lane.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
    }

    /// Forgets what waits for a queue and is of no use any more.
    pub(crate) fn retain(&mut self, queue: K, is_of_use: impl Fn(&T) -> bool) {
        self.lane(queue).waiting.retain(is_of_use);
    }

    /// Begins with what waits, wherever nothing is under way. `send` is told how long to wait before.
    pub(crate) fn begin<F>(&mut self, mut send: impl FnMut(K, Vec<T>, Duration) -> F)
    where
        F: Future<Output = D> + Send + 'static,
    {
        for (&queue, lane) in &mut self.lanes {
            if lane.is_busy || lane.waiting.is_empty() {
                continue;
            }
            lane.is_busy = true;
            let some = lane.waiting.drain(..lane.waiting.len().min(self.together)).collect();
            let sending = send(queue, some, lane.wait);
            self.under_way.push(Box::pin(async move { (queue, sending.await) }));
        }
    }

    /// What came of items that were under way; nothing when none are. Cancel safe.
    pub(crate) async fn done(&mut self) -> Option<(K, D)> {
        let (queue, came) = self.under_way.next().await?;
        self.lane(queue).is_busy = false;
        Some((queue, came))
    }

    /// A queue confirms what it gets: nothing has to wait for it.
    pub(crate) fn goes_well(&mut self, queue: K) {
        self.lane(queue).wait = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;

    use super::*;

    type Sent = (Vec<u8>, Duration);

    /// Begins what can begin; what goes to queue 9 never ends. What is done then.
    fn step(lanes: &mut Lanes<u8, u8, Sent>) -> Vec<(u8, Sent)> {
        lanes.begin(|queue, items, wait| async move {
            if queue == 9 { pending().await } else { ready((items, wait)).await }
        });
        let mut done = Vec::new();
        while let Some(Some(one)) = lanes.done().now_or_never() {
            done.push(one);
        }
        done.sort();
        done
    }

    #[test]
    fn a_queue_that_takes_nothing_holds_up_no_other() {
        let mut lanes = Lanes::new(2);
        for (queue, item) in [(1, 10), (9, 90), (1, 11), (2, 20), (1, 12)] {
            lanes.put(queue, item);
        }
        let at_once = Duration::ZERO;
        assert_eq!(step(&mut lanes), [(1, (vec![10, 11], at_once)), (2, (vec![20], at_once))]);
        lanes.put(9, 91);
        assert_eq!(step(&mut lanes), [(1, (vec![12], at_once))]);
        assert_eq!(step(&mut lanes), []);
    }

    #[test]
    fn what_was_not_confirmed_goes_first_and_waits_ever_longer() {
        let mut lanes = Lanes::new(10);
        lanes.put(1, 10);
        lanes.put(1, 11);
        let mut waits = Vec::new();
        for item in 12..20 {
            let [(1, (items, wait))] = &step(&mut lanes)[..] else { panic!("one publish") };
            assert_eq!(items[..2], [10, 11]);
            waits.push(wait.as_millis());
            lanes.put(1, item);
            lanes.put_back(1, items.clone());
        }
        assert_eq!(waits, [0, 200, 400, 800, 1600, 3200, 5000, 5000]);
        lanes.retain(1, |item| *item == 19);
        lanes.goes_well(1);
        assert_eq!(step(&mut lanes), [(1, (vec![19], Duration::ZERO))]);
    }
}
