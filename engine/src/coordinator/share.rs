//! Who has how many coordinator queues. Everything here is known from ticks: every coordinator sends one to every queue,
//! so whoever owns any queue knows which coordinators live, and hands over what it has beyond its fair share. Pure: it
//! is told what happened and when, and reads no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phasework_workflows::message::event::Tick;
use phasework_workflows::run::STATE_FORMAT;
use phasework_workflows::time::{Millis, Timestamp};
use tokio::sync::Notify;

/// For how many ticks a coordinator that is not heard of counts as living, and a queue that delivers nothing as owned.
pub(super) const TICKS_MISSED: u64 = 5;

/// What one coordinator knows about the sharing of queues.
#[derive(Debug)]
pub(super) struct Share {
    /// What this coordinator calls itself in ticks. No two call themselves the same.
    me: Arc<str>,
    /// How many queues are shared: those that runs map onto.
    queues: u16,
    /// How long what was heard is believed.
    believed: Millis,
    /// The other coordinators.
    heard: BTreeMap<Arc<str>, Heard>,
    /// The queues that this coordinator stands in line at.
    in_line: BTreeSet<u16>,
    /// The queues that serve this coordinator.
    held: BTreeMap<u16, Held>,
    /// When each queue was last handed over.
    handed_over: BTreeMap<u16, Timestamp>,
    /// The formats of state that were met in queues, where they are newer than what this coordinator reads.
    newer: BTreeMap<u16, u16>,
}

/// What was heard of another coordinator.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When, at last.
    at: Timestamp,
    /// How many queues it maps runs onto.
    queues: u16,
    /// Which format of stored state it writes.
    format: u16,
}

/// A queue that serves this coordinator.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Since when.
    since: Timestamp,
    /// When it last delivered something.
    served: Timestamp,
}

impl Share {
    pub(super) fn new(me: Arc<str>, queues: u16, tick: Millis) -> Self {
        Self {
            me,
            queues,
            believed: Millis(tick.0 * TICKS_MISSED),
            heard: BTreeMap::new(),
            in_line: BTreeSet::new(),
            held: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            newer: BTreeMap::new(),
        }
    }

    /// A coordinator was heard of.
    pub(super) fn heard(&mut self, tick: &Tick, now: Timestamp) {
        if tick.from != self.me {
            self.heard.retain(|_, heard| now.since(heard.at) <= self.believed);
            let (queues, format) = (tick.queues.unwrap_or(self.queues).max(1), tick.format.unwrap_or(STATE_FORMAT));
            self.heard.insert(Arc::clone(&tick.from), Heard { at: now, queues, format });
        }
    }

    /// The other coordinators that live.
    fn live(&self, now: Timestamp) -> impl Iterator<Item = (&Arc<str>, &Heard)> {
        self.heard.iter().filter(move |(_, heard)| now.since(heard.at) <= self.believed)
    }

    /// The numbers of queues that coordinators map runs onto: one, but while it is changed. Whoever owns a queue looks
    /// after the shards that map onto it in any of these ways, so that none is left alone meanwhile.
    pub(super) fn mappings(&self, now: Timestamp) -> BTreeSet<u16> {
        self.live(now).map(|(_, heard)| heard.queues).chain([self.queues]).collect()
    }

    /// This coordinator stands in line at a queue.
    pub(super) fn lines_up(&mut self, queue: u16) {
        self.in_line.insert(queue);
    }

    /// A queue delivered something to this coordinator. Whether that is news: it was not owned before.
    pub(super) fn served(&mut self, queue: u16, now: Timestamp) -> bool {
        let is_new = !self.owns(queue, now);
        let held = self.held.entry(queue).or_insert(Held { since: now, served: now });
        if is_new {
            held.since = now;
        }
        held.served = now;
        is_new
    }

    /// This coordinator left the line at a queue, and the queue serves it no more.
    pub(super) fn lost(&mut self, queue: u16) {
        self.in_line.remove(&queue);
        self.held.remove(&queue);
        self.newer.remove(&queue);
    }

    /// Whether this coordinator counts on owning a queue: it was served lately.
    pub(super) fn owns(&self, queue: u16, now: Timestamp) -> bool {
        self.held.get(&queue).is_some_and(|held| now.since(held.served) <= self.believed)
    }

    /// How many queues this coordinator may keep: all of them divided by those who live, and of the rest one for each
    /// of the first in the order of names. So the shares of all add up to all queues, and whenever somebody has too
    /// many, somebody has room. Those that cannot read what this one writes get none of it back.
    fn fair(&self, now: Timestamp) -> usize {
        let live = || self.live(now).filter(|(_, heard)| heard.format >= STATE_FORMAT);
        let (count, place) = (live().count() + 1, live().filter(|(name, _)| **name < self.me).count());
        let queues = usize::from(self.queues);
        queues / count + usize::from(place < queues % count)
    }

    /// Whether this coordinator should give this queue up, for the next in line to have it. The queues it got last go
    /// first. One that came back soon after it was given up is kept for a while: nobody else wanted it. One in which
    /// there is what this coordinator cannot read goes to whoever can, however many it has.
    pub(super) fn to_hand_over(&self, queue: u16, now: Timestamp) -> bool {
        let free = |number: &u16| self.handed_over.get(number).is_none_or(|at| now.since(*at) > self.believed);
        if let Some(format) = self.newer.get(&queue)
            && self.live(now).any(|(_, heard)| heard.format >= *format)
            && free(&queue)
        {
            return true;
        }
        let shared = self.held.iter().filter(|(number, _)| **number < self.queues && self.owns(**number, now));
        let mut shared: Vec<_> = shared.map(|(&number, held)| (held.since, number)).collect();
        shared.sort_unstable_by(|a, b| b.cmp(a));
        let too_many = shared.len().saturating_sub(self.fair(now));
        shared.into_iter().map(|(_, number)| number).take(too_many).filter(free).any(|number| number == queue)
    }

    /// State of a newer format than this coordinator reads was met in a queue.
    pub(super) fn met_newer(&mut self, queue: u16, format: u16) {
        let met = self.newer.entry(queue).or_default();
        *met = format.max(*met);
    }

    /// A queue is given up.
    pub(super) fn hand_over(&mut self, queue: u16, now: Timestamp) {
        self.lost(queue);
        self.handed_over.insert(queue, now);
    }

    /// The coordinators that live, this one first. Of others it hears where it owns a queue.
    fn peers(&self, now: Timestamp) -> Vec<Peer> {
        let me = Peer { name: Arc::clone(&self.me), last_heard: None, owned: Some(self.owned(now)) };
        let other = |name: &Arc<str>, at| Peer { name: Arc::clone(name), last_heard: Some(at), owned: None };
        let others = self.live(now).map(|(name, heard)| other(name, heard.at));
        [me].into_iter().chain(others).collect()
    }

    /// How many queues this coordinator owns.
    pub(super) fn owned(&self, now: Timestamp) -> usize {
        self.held.keys().filter(|queue| self.owns(**queue, now)).count()
    }
}

/// A coordinator that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it calls itself.
    pub(crate) name: Arc<str>,
    /// When it was last heard of; nothing for the one that says so.
    pub(crate) last_heard: Option<Timestamp>,
    /// How many queues it owns, if that is known.
    pub(crate) owned: Option<usize>,
}

/// What all owners of one coordinator know together.
#[derive(Clone, Debug)]
pub(crate) struct SharedShare {
    share: Arc<Mutex<Share>>,
    /// Told when this coordinator first stands in line somewhere.
    lined_up: Arc<Notify>,
}

impl SharedShare {
    pub(crate) fn new(me: Arc<str>, queues: u16, tick: Millis) -> Self {
        Self { share: Arc::new(Mutex::new(Share::new(me, queues, tick))), lined_up: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lines_up(&self, queue: u16) {
        let mut share = self.lock();
        let is_first = share.in_line.is_empty();
        share.lines_up(queue);
        drop(share);
        if is_first {
            self.lined_up.notify_one();
        }
    }

    /// Returns when this coordinator has come to stand in line after it stood nowhere.
    pub(crate) async fn lined_up(&self) {
        self.lined_up.notified().await;
    }

    /// What this coordinator calls itself in its ticks, if it stands in line anywhere: one that does not is no one to hand
    /// anything over to.
    pub(crate) fn name_in_line(&self) -> Option<Arc<str>> {
        let share = self.lock();
        (!share.in_line.is_empty()).then(|| Arc::clone(&share.me))
    }

    /// The coordinators that live, this one first.
    pub(crate) fn peers(&self, now: Timestamp) -> Vec<Peer> {
        self.lock().peers(now)
    }

    /// Whether this coordinator owns a queue.
    pub(crate) fn owns(&self, queue: u16, now: Timestamp) -> bool {
        self.lock().owns(queue, now)
    }

    /// How many queues this coordinator owns.
    pub(crate) fn owned(&self, now: Timestamp) -> usize {
        self.lock().owned(now)
    }

    /// The newest format of state that was met in queues of this coordinator, where it is newer than what it reads.
    pub(crate) fn newest_met(&self) -> Option<u16> {
        self.lock().newer.values().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const TICK: Millis = Millis::from_secs(1);

    fn at(tick: u64) -> Timestamp {
        Timestamp::from_millis(0).plus(Millis(1_000_000 + tick * TICK.0))
    }

    fn name(number: usize) -> Arc<str> {
        format!("c{number:02}").into()
    }

    fn tick_of(number: usize) -> Tick {
        Tick { from: name(number), at: at(0), queues: None, format: None }
    }

    #[test]
    fn whoever_maps_runs_otherwise_is_taken_into_account_while_it_lives() {
        let mut share = Share::new(name(0), 4, TICK);
        share.heard(&tick_of(1), at(0));
        assert_eq!(share.mappings(at(0)), [4].into());
        share.heard(&Tick { queues: Some(8), ..tick_of(2) }, at(1));
        assert_eq!(share.mappings(at(6)), [4, 8].into());
        assert_eq!(share.mappings(at(7)), [4].into());
    }

    #[test]
    fn who_lives_is_known_from_ticks() {
        let mut share = Share::new(name(0), 4, TICK);
        share.served(3, at(0));
        share.heard(&tick_of(1), at(0));
        share.heard(&tick_of(2), at(4));
        let peer = |number, last_heard, owned| Peer { name: name(number), last_heard, owned };
        let (me, one, two) = (peer(0, None, Some(1)), peer(1, Some(at(0)), None), peer(2, Some(at(4)), None));
        assert_eq!(share.peers(at(5)), [me, one, two.clone()]);
        assert_eq!(share.peers(at(9)), [peer(0, None, Some(0)), two]);
    }

    #[test]
    fn shares_add_up_to_all_queues_and_differ_by_one_at_most() {
        for queues in [1, 2, 7, 8, 64] {
            for coordinators in 1..12 {
                let fair = |me| {
                    let mut share = Share::new(name(me), queues, TICK);
                    (0..coordinators).for_each(|other| share.heard(&tick_of(other), at(0)));
                    share.fair(at(1))
                };
                let shares: Vec<_> = (0..coordinators).map(fair).collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(queues), "{shares:?}");
                let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
                assert!(most - least <= 1, "{shares:?}");
            }
        }
    }

    #[test]
    fn what_is_given_up_is_what_came_last_and_not_what_just_came_back() {
        let mut share = Share::new(name(0), 4, TICK);
        for queue in 0..4 {
            assert!(share.served(queue, at(u64::from(queue))));
            assert!(!share.served(queue, at(4)));
        }
        let given_up =
            |share: &Share, tick| (0..9).filter(|&queue| share.to_hand_over(queue, at(tick))).collect::<Vec<_>>();
        assert_eq!(given_up(&share, 4), [] as [u16; 0], "nobody else is there");
        share.heard(&tick_of(1), at(4));
        assert_eq!(given_up(&share, 4), [2, 3]);
        share.hand_over(3, at(4));
        assert_eq!(given_up(&share, 4), [2]);
        assert!(share.served(3, at(5)), "nobody wanted it");
        assert_eq!(given_up(&share, 5), [2]);
        share.hand_over(2, at(5));
        assert_eq!(given_up(&share, 5), [] as [u16; 0]);
        share.heard(&tick_of(1), at(9));
        assert_eq!((0..4).filter(|&queue| share.served(queue, at(9))).count(), 1);
        assert_eq!(given_up(&share, 10), [3], "it has been kept for long enough");
        assert_eq!(given_up(&share, 30), [] as [u16; 0], "the other is gone, and nothing is owned");
        assert_eq!(share.owned(at(30)), 0);
    }

    #[test]
    fn what_cannot_be_read_goes_to_who_can_read_it_and_never_comes_back() {
        let newer = |number| Tick { format: Some(STATE_FORMAT + 1), ..tick_of(number) };
        let mut share = Share::new(name(0), 4, TICK);
        (0..2).for_each(|queue| assert!(share.served(queue, at(0))));
        share.met_newer(1, STATE_FORMAT + 1);
        share.heard(&tick_of(1), at(0));
        assert!(!share.to_hand_over(1, at(0)), "the other reads no more than this one");
        share.heard(&Tick { format: Some(STATE_FORMAT + 2), ..tick_of(2) }, at(1));
        assert_eq!((0..2).filter(|&queue| share.to_hand_over(queue, at(1))).collect::<Vec<_>>(), [1]);
        share.hand_over(1, at(1));
        assert!(share.served(1, at(1)), "it is gone, and was believed in a little longer");
        assert!(!share.to_hand_over(1, at(2)), "nothing was met since");
        share.met_newer(1, STATE_FORMAT + 1);
        assert!(!share.to_hand_over(1, at(3)), "not again and again");
        share.heard(&newer(2), at(7));
        share.served(1, at(7));
        assert!(share.to_hand_over(1, at(7)));

        // Of what this one writes, whoever writes less gets nothing.
        let older = |number| Tick { format: Some(STATE_FORMAT - 1), ..tick_of(number) };
        let mut share = Share::new(name(0), 4, TICK);
        (0..4).for_each(|queue| assert!(share.served(queue, at(0))));
        share.heard(&older(1), at(0));
        assert_eq!(share.fair(at(0)), 4);
        share.heard(&newer(1), at(0));
        assert_eq!(share.fair(at(0)), 2);
    }

    #[test]
    fn a_queue_that_nothing_maps_onto_any_more_is_neither_counted_nor_given_up() {
        let mut share = Share::new(name(0), 2, TICK);
        assert_eq!((0..8).filter(|&queue| share.served(queue, at(0))).count(), 8);
        share.heard(&tick_of(1), at(0));
        assert_eq!((0..8).filter(|&queue| share.to_hand_over(queue, at(0))).count(), 1);
    }

    /// Coordinators that stand in line at queues, as on a broker that serves the first of each line.
    struct Rehearsal {
        tick: u64,
        shares: BTreeMap<usize, Share>,
        lines: Vec<VecDeque<usize>>,
        moves: usize,
    }

    impl Rehearsal {
        fn new(queues: usize) -> Self {
            Self { tick: 0, shares: BTreeMap::new(), lines: vec![VecDeque::new(); queues], moves: 0 }
        }

        fn join(&mut self, number: usize) {
            self.shares.insert(number, Share::new(name(number), self.lines.len() as u16, TICK));
            self.lines.iter_mut().for_each(|line| line.push_back(number));
        }

        /// Goes without a word: the others believe in it for a while yet.
        fn leave(&mut self, number: usize) {
            self.shares.remove(&number);
            self.lines.iter_mut().for_each(|line| line.retain(|other| *other != number));
        }

        /// One tick of every coordinator reaches every queue, and with it the first of its line.
        fn tick(&mut self) {
            self.tick += 1;
            let (now, live) = (at(self.tick), self.shares.keys().copied().collect::<BTreeSet<_>>());
            for (queue, line) in self.lines.iter_mut().enumerate() {
                let queue = queue as u16;
                let Some(owner) = line.front().copied() else { continue };
                let share = self.shares.get_mut(&owner).unwrap();
                share.served(queue, now);
                live.iter().for_each(|&other| share.heard(&tick_of(other), now));
                if share.to_hand_over(queue, now) {
                    share.hand_over(queue, now);
                    line.rotate_left(1);
                    self.moves += 1;
                }
            }
        }

        fn owned(&self) -> Vec<usize> {
            let fronts: Vec<_> = self.lines.iter().filter_map(|line| line.front()).collect();
            self.shares.keys().map(|number| fronts.iter().filter(|front| **front == number).count()).collect()
        }

        /// Ticks until all is fair, and then for as long again: nothing moves any more.
        fn settles_within(&mut self, ticks: u64) {
            (0..ticks).for_each(|_| self.tick());
            let owned = self.owned();
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most - least <= 1, "{owned:?} after {} ticks", self.tick);
            let moves = std::mem::take(&mut self.moves);
            (0..2 * ticks).for_each(|_| self.tick());
            assert_eq!(self.moves, 0, "{owned:?} was fair after {moves} moves, and yet something moved");
        }
    }

    #[test]
    fn queues_end_up_fairly_shared_whoever_comes_and_goes() {
        for queues in [1, 4, 8, 16, 61] {
            let mut rehearsal = Rehearsal::new(queues);
            rehearsal.join(5);
            rehearsal.settles_within(1);
            rehearsal.join(3);
            rehearsal.settles_within(3);
            (6..9).for_each(|number| rehearsal.join(number));
            rehearsal.settles_within(15);
            rehearsal.leave(5);
            rehearsal.settles_within(20);
            rehearsal.join(1);
            rehearsal.join(9);
            rehearsal.leave(7);
            rehearsal.settles_within(25);
            (10..20).for_each(|number| rehearsal.join(number));
            rehearsal.settles_within(60);
            (10..19).for_each(|number| rehearsal.leave(number));
            rehearsal.settles_within(60);
            [1, 3, 6, 8, 9].into_iter().for_each(|number| rehearsal.leave(number));
            rehearsal.settles_within(15);
            assert_eq!(rehearsal.owned(), [queues]);
        }
    }

    #[test]
    fn a_new_coordinator_gets_its_share_with_few_moves() {
        let mut rehearsal = Rehearsal::new(8);
        rehearsal.join(1);
        rehearsal.tick();
        rehearsal.join(2);
        (0..3).for_each(|_| rehearsal.tick());
        assert_eq!((rehearsal.owned(), rehearsal.moves), (vec![4, 4], 4));
    }
}
