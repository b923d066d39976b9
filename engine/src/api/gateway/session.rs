//! What a session holds: a plain state machine that knows neither broker nor socket, and is told what time it is.
//!
//! Deliveries of all subscriptions are numbered together, 1, 2, 3…, and stay here until they are settled. A poll says up to
//! which number the reader has them; it is given what is above, and so is every later one that says the same: an answer
//! that was lost loses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Delivery, DeliveryTag};
use tokio::time::Instant;

/// A subscription's name, as its reader calls it.
pub(super) type Name = Arc<str>;

/// Names a subscription for good: its reader may give one up and make another of the same name, and what belongs to the one
/// is nothing of the other's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    /// No other subscription of the session ever has it.
    pub(super) number: u64,
    pub(super) name: Name,
}

#[derive(Debug)]
pub(super) struct Holdings {
    /// The number of the last delivery.
    last: u64,
    /// The reader has what is up to here.
    given: u64,
    held: BTreeMap<u64, Held>,
    /// How many bytes are held that the reader does not have.
    buffered: usize,
    subscriptions: BTreeMap<Label, Standing>,
    /// The number of the poll that is served.
    poll: u64,
    deadline: Instant,
    ended: Option<String>,
}

/// One delivery that is not settled.
#[derive(Debug)]
struct Held {
    subscription: Label,
    tag: DeliveryTag,
    /// Not needed any more once the reader has it.
    delivery: Option<Delivery>,
}

/// How far a subscription is.
#[derive(Debug, Default)]
struct Standing {
    generation: u64,
    last: u64,
}

/// A delivery to be given to the reader.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) n: u64,
    pub(super) subscription: Label,
    pub(super) delivery: Delivery,
}

/// What there is for a poll.
#[derive(Debug)]
pub(super) enum Found {
    Some(Vec<Given>),
    Nothing,
    /// Another poll is served in its place.
    Superseded,
    /// The session has ended; why.
    Ended(String),
}

/// It never was given a delivery of this number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeverGiven {
    pub(super) last: u64,
}

impl Holdings {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            last: 0,
            given: 0,
            held: BTreeMap::new(),
            buffered: 0,
            subscriptions: BTreeMap::new(),
            poll: 0,
            deadline,
            ended: None,
        }
    }

    /// Something was heard of the reader: it lives until then.
    pub(super) fn heard(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// The reader has hung up on a poll. If that was the one that is served, it does not have long to come back.
    pub(super) fn hung_up(&mut self, poll: u64, deadline: Instant) {
        if self.poll == poll {
            self.deadline = self.deadline.min(deadline);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends it if nothing was heard for too long. `late` is by how much who asks was kept from asking: that time does not
    /// count. Whether it has ended.
    pub(super) fn expire(&mut self, now: Instant, late: Duration) -> bool {
        if self.ended.is_none() && now >= self.deadline + late {
            self.end("nothing was heard of it for too long");
        }
        self.ended.is_some()
    }

    /// Puts the end off, as time passed in which nobody could be heard.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.deadline += by;
    }

    /// Ends it. The first reason is the one that counts.
    pub(super) fn end(&mut self, why: &str) {
        self.ended.get_or_insert_with(|| why.to_owned());
    }

    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Whether the reader has taken enough of what there is for more to be held.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.buffered < most
    }

    /// Holds what a subscription has brought. What it brought over an earlier connection comes again by itself, and
    /// settling it means nothing.
    pub(super) fn arrive(&mut self, subscription: &Label, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let generation = delivery.tag.generation;
            if self.subscriptions.get(subscription).is_some_and(|standing| standing.generation != generation) {
                self.forget(subscription);
            }
            self.last += 1;
            self.subscriptions.insert(subscription.clone(), Standing { generation, last: self.last });
            self.buffered += delivery.body.len();
            let held = Held { subscription: subscription.clone(), tag: delivery.tag, delivery: Some(delivery) };
            self.held.insert(self.last, held);
        }
    }

    /// Forgets what a subscription has brought.
    pub(super) fn forget(&mut self, subscription: &Label) {
        let buffered = &mut self.buffered;
        self.held.retain(|_, held| {
            let stays = held.subscription != *subscription;
            if !stays {
                *buffered -= held.delivery.as_ref().map_or(0, |delivery| delivery.body.len());
            }
            stays
        });
        self.subscriptions.remove(subscription);
    }

    /// The number of the last delivery of a subscription.
    pub(super) fn last_of(&self, subscription: &Label) -> u64 {
        self.subscriptions.get(subscription).map_or(0, |standing| standing.last)
    }

    /// A poll of a reader that has everything up to `after`. It is served in place of any other; its number.
    pub(super) fn begin_poll(&mut self, after: u64) -> Result<u64, NeverGiven> {
        if after > self.last {
            return Err(NeverGiven { last: self.last });
        }
        if after > self.given {
            for (_, held) in self.held.range_mut(self.given + 1..=after) {
                self.buffered -= held.delivery.take().map_or(0, |delivery| delivery.body.len());
            }
            self.given = after;
        }
        self.poll += 1;
        Ok(self.poll)
    }

    /// What there is for a poll: at most `max` deliveries, and not much more than `bytes`.
    pub(super) fn find(&self, poll: u64, max: usize, bytes: usize) -> Found {
        if let Some(why) = &self.ended {
            return Found::Ended(why.clone());
        }
        if self.poll != poll {
            return Found::Superseded;
        }
        let (mut given, mut size) = (Vec::new(), 0);
        for (&n, held) in self.held.range(self.given + 1..) {
            let Some(delivery) = &held.delivery else { continue };
            if given.len() == max || size >= bytes {
                break;
            }
            size += delivery.body.len();
            given.push(Given { n, subscription: held.subscription.clone(), delivery: delivery.clone() });
        }
        if given.is_empty() { Found::Nothing } else { Found::Some(given) }
    }

    /// Takes out what is settled: the tags, by subscription. Numbers that are not held any more are passed over.
    pub(super) fn settle(&mut self, numbers: &[u64]) -> BTreeMap<Label, Vec<DeliveryTag>> {
        let mut tags: BTreeMap<Label, Vec<DeliveryTag>> = BTreeMap::new();
        for number in numbers {
            let Some(held) = self.held.remove(number) else { continue };
            self.buffered -= held.delivery.map_or(0, |delivery| delivery.body.len());
            tags.entry(held.subscription).or_default().push(held.tag);
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(generation: u64, number: u64) -> Delivery {
        Delivery {
            tag: DeliveryTag { generation, number },
            kind: "Test".into(),
            body: "four".into(),
            id: None,
            redelivered: false,
            reply_to: None,
            correlation_id: None,
            routing_key: "q".into(),
            headers: Vec::new(),
        }
    }

    fn label(name: &str) -> Label {
        Label { number: 1, name: name.into() }
    }

    fn holdings() -> Holdings {
        Holdings::new(Instant::now() + Duration::from_secs(30))
    }

    fn numbers(found: &Found) -> Vec<u64> {
        match found {
            Found::Some(given) => given.iter().map(|given| given.n).collect(),
            Found::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn poll(holdings: &mut Holdings, after: u64) -> Vec<u64> {
        let poll = holdings.begin_poll(after).unwrap();
        numbers(&holdings.find(poll, 100, 1000))
    }

    #[test]
    fn what_is_not_known_to_have_arrived_is_given_again() {
        let (mut holdings, jobs, orders) = (holdings(), label("jobs"), label("orders"));
        holdings.arrive(&jobs, vec![delivery(1, 10), delivery(1, 11)]);
        holdings.arrive(&orders, vec![delivery(7, 10)]);
        assert_eq!(poll(&mut holdings, 0), [1, 2, 3]);
        assert_eq!(poll(&mut holdings, 0), [1, 2, 3]);
        assert_eq!(poll(&mut holdings, 2), [3]);
        // A request that was late on its way goes back no more.
        assert_eq!(poll(&mut holdings, 0), [3]);
        assert_eq!(holdings.begin_poll(4), Err(NeverGiven { last: 3 }));
        let tags = holdings.settle(&[1, 3, 1, 9]);
        let expected = [(jobs, vec![(1, 10)]), (orders, vec![(7, 10)])];
        let tags = tags
            .into_iter()
            .map(|(name, tags)| (name, tags.into_iter().map(|tag| (tag.generation, tag.number)).collect::<Vec<_>>()));
        assert_eq!(tags.collect::<Vec<_>>(), expected);
        assert!(holdings.settle(&[1, 3]).is_empty(), "settling again does nothing");
        assert_eq!(poll(&mut holdings, 3), [0; 0]);
    }

    #[test]
    fn the_later_poll_is_served() {
        let (mut holdings, jobs) = (holdings(), label("jobs"));
        let (first, second) = (holdings.begin_poll(0).unwrap(), holdings.begin_poll(0).unwrap());
        holdings.arrive(&jobs, vec![delivery(1, 1)]);
        assert!(matches!(holdings.find(first, 10, 10), Found::Superseded));
        assert_eq!(numbers(&holdings.find(second, 10, 10)), [1]);
        holdings.end("so");
        assert!(matches!(holdings.find(second, 10, 10), Found::Ended(_)));
    }

    #[test]
    fn an_answer_has_bounds_and_so_has_what_is_held() {
        let (mut holdings, jobs) = (holdings(), label("jobs"));
        holdings.arrive(&jobs, (1..=5).map(|n| delivery(1, n)).collect());
        let poll = holdings.begin_poll(0).unwrap();
        assert_eq!(numbers(&holdings.find(poll, 3, 1000)), [1, 2, 3]);
        assert_eq!(numbers(&holdings.find(poll, 100, 5)), [1, 2]);
        assert_eq!(numbers(&holdings.find(poll, 100, 0)), [0; 0], "no bytes are asked for");
        assert!(!holdings.has_room(20) && holdings.has_room(21));
        holdings.begin_poll(2).unwrap();
        assert!(!holdings.has_room(12) && holdings.has_room(13), "what the reader has takes no room");
        holdings.settle(&[1, 2, 3]);
        assert!(!holdings.has_room(8) && holdings.has_room(9));
        holdings.forget(&jobs);
        assert!(holdings.has_room(1));
    }

    #[test]
    fn what_came_over_an_earlier_connection_is_forgotten() {
        let (mut holdings, jobs) = (holdings(), label("jobs"));
        holdings.arrive(&jobs, vec![delivery(1, 1), delivery(1, 2)]);
        assert_eq!(poll(&mut holdings, 0), [1, 2]);
        holdings.arrive(&jobs, vec![delivery(2, 1)]);
        assert_eq!(poll(&mut holdings, 2), [3]);
        assert!(holdings.settle(&[1, 2]).is_empty());
        assert_eq!((holdings.last_of(&jobs), holdings.settle(&[3]).len()), (3, 1));
    }

    #[test]
    fn two_subscriptions_of_one_name_have_nothing_in_common() {
        let (mut holdings, first) = (holdings(), label("jobs"));
        let second = Label { number: 2, ..first.clone() };
        holdings.arrive(&first, vec![delivery(1, 1), delivery(1, 2)]);
        holdings.arrive(&second, vec![delivery(9, 1)]);
        assert_eq!((holdings.last_of(&first), holdings.last_of(&second)), (2, 3));
        holdings.forget(&first);
        assert_eq!(poll(&mut holdings, 0), [3]);
        assert_eq!(holdings.settle(&[1, 2, 3]).into_keys().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn it_ends_when_nothing_is_heard() {
        let mut holdings = holdings();
        let (end, second) = (holdings.deadline(), Duration::from_secs(1));
        assert!(!holdings.expire(end - second, Duration::ZERO));
        let (first, served) = (holdings.begin_poll(0).unwrap(), holdings.begin_poll(0).unwrap());
        holdings.hung_up(first, end - second * 20);
        assert_eq!(holdings.deadline(), end, "another poll is served");
        holdings.hung_up(served, end - second * 20);
        assert!(!holdings.expire(end - second * 20, second), "who asks was kept from asking");
        assert!(holdings.expire(end - second * 20, Duration::ZERO));
        assert!(holdings.ended().is_some());
    }
}
