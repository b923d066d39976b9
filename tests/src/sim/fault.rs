//! What goes wrong in a simulation, and when: at one call in so many, or at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use fastrand::Rng;

/// A kind of thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message is not published, and not confirmed.
    PublishLost,
    /// A message is published, and not confirmed.
    ConfirmLost,
    /// A message arrives twice.
    Duplicate,
    /// A confirmed message arrives late, after others that were sent later.
    Delay,
    /// A call takes long.
    Slow,
    /// An acknowledgement does not arrive: the connection is lost.
    AckLost,
    /// A worker's request to a gateway does not arrive.
    RequestLost,
    /// The answer of a gateway to a worker does not arrive.
    AnswerLost,
    /// A worker's request to a gateway arrives twice.
    RequestTwice,
    /// The store does not do what it is asked, and says so.
    StoreFails,
    /// The store does what it is asked, and its answer is lost.
    ReplyLost,
    /// A commit is refused as if somebody else had been faster.
    Conflict,
    /// A coordinator dies just before or just after a call.
    CoordinatorDies,
    /// A worker dies just before or just after a call.
    WorkerDies,
    /// A coordinator is stopped as by SIGTERM, and another one started.
    CoordinatorReplaced,
    /// A worker is stopped as by SIGTERM, and another one started.
    WorkerReplaced,
    /// A coordinator stands still for a while, as by SIGSTOP.
    CoordinatorFrozen,
    /// A worker stands still for a while.
    WorkerFrozen,
    /// The connections of a program are lost.
    ConnectionLost,
    /// The clock of a coordinator jumps.
    ClockJumps,
    /// A coordinator comes back with another number of coordinator queues.
    QueuesChanged,
    /// The broker is restarted.
    BrokerRestarted,
    /// The broker comes back without anything it had.
    BrokerLost,
    /// A queue is deleted.
    QueueDeleted,
    /// A queue is purged.
    QueuePurged,
    /// The broker takes nothing from publishers for a while, as under a memory alarm.
    PublishersBlocked,
    /// The store cannot be reached for a while.
    StoreAway,
    /// The store refuses writes for a while.
    StoreFull,
    /// The store comes back as it was a while ago.
    StoreRewound,
    /// The store comes back empty.
    StoreEmptied,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::PublishLost,
        Self::ConfirmLost,
        Self::Duplicate,
        Self::Delay,
        Self::Slow,
        Self::AckLost,
        Self::RequestLost,
        Self::AnswerLost,
        Self::RequestTwice,
        Self::StoreFails,
        Self::ReplyLost,
        Self::Conflict,
        Self::CoordinatorDies,
        Self::WorkerDies,
        Self::CoordinatorReplaced,
        Self::WorkerReplaced,
        Self::CoordinatorFrozen,
        Self::WorkerFrozen,
        Self::ConnectionLost,
        Self::ClockJumps,
        Self::QueuesChanged,
        Self::BrokerRestarted,
        Self::BrokerLost,
        Self::QueueDeleted,
        Self::QueuePurged,
        Self::PublishersBlocked,
        Self::StoreAway,
        Self::StoreFull,
        Self::StoreRewound,
        Self::StoreEmptied,
    ];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublishLost => "publish-lost",
            Self::ConfirmLost => "confirm-lost",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Slow => "slow",
            Self::AckLost => "ack-lost",
            Self::RequestLost => "request-lost",
            Self::AnswerLost => "answer-lost",
            Self::RequestTwice => "request-twice",
            Self::StoreFails => "store-fails",
            Self::ReplyLost => "reply-lost",
            Self::Conflict => "conflict",
            Self::CoordinatorDies => "coordinator-dies",
            Self::WorkerDies => "worker-dies",
            Self::CoordinatorReplaced => "coordinator-replaced",
            Self::WorkerReplaced => "worker-replaced",
            Self::CoordinatorFrozen => "coordinator-frozen",
            Self::WorkerFrozen => "worker-frozen",
            Self::ConnectionLost => "connection-lost",
            Self::ClockJumps => "clock-jumps",
            Self::QueuesChanged => "queues-changed",
            Self::BrokerRestarted => "broker-restarted",
            Self::BrokerLost => "broker-lost",
            Self::QueueDeleted => "queue-deleted",
            Self::QueuePurged => "queue-purged",
            Self::PublishersBlocked => "publishers-blocked",
            Self::StoreAway => "store-away",
            Self::StoreFull => "store-full",
            Self::StoreRewound => "store-rewound",
            Self::StoreEmptied => "store-emptied",
        }
    }

    /// Whether it strikes at a time, so that it has to have struck in every simulation that has it.
    pub const fn has_a_time(self) -> bool {
        self.calls().is_none()
    }

    /// At one call in about how many it strikes; none for those that strike at a time.
    pub(super) const fn calls(self) -> Option<u64> {
        match self {
            Self::Duplicate | Self::Delay => Some(15),
            Self::Slow => Some(25),
            Self::RequestLost | Self::AnswerLost | Self::RequestTwice => Some(20),
            Self::PublishLost | Self::ConfirmLost => Some(40),
            Self::StoreFails | Self::ReplyLost | Self::Conflict => Some(50),
            Self::AckLost => Some(60),
            Self::CoordinatorDies | Self::WorkerDies => Some(150),
            _ => None,
        }
    }

    /// In how many of a hundred simulations it is to be met.
    pub(super) const fn percent(self) -> u8 {
        match self {
            Self::StoreEmptied => 3,
            Self::BrokerLost | Self::StoreRewound | Self::QueueDeleted | Self::QueuePurged => 12,
            Self::BrokerRestarted | Self::PublishersBlocked | Self::StoreAway | Self::StoreFull => 15,
            Self::QueuesChanged | Self::ClockJumps => 15,
            _ => 30,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        let names = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("there is no fault `{text}`; there are {}", names()))
    }
}

/// The faults that strike at calls: how many calls each lets pass before it does.
#[derive(Debug)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    chance: Rng,
    /// Off while things are made well.
    is_on: bool,
    /// For each: one call in about so many, and how many are left to pass.
    countdowns: BTreeMap<Fault, (u64, u64)>,
    struck: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Those of `faults` that strike at calls, each about as often as it should, or `calm` times less often.
    pub(super) fn new(faults: &BTreeSet<Fault>, calm: u64, mut chance: Rng) -> Self {
        let mut countdowns = BTreeMap::new();
        for &fault in faults {
            if let Some(calls) = fault.calls() {
                let calls = calls * calm;
                // Soon for the first time: a fault that never strikes was not there.
                countdowns.insert(fault, (calls, chance.u64(0..6)));
            }
        }
        Self(Mutex::new(State { chance, is_on: true, countdowns, struck: BTreeMap::new() }))
    }

    /// Whether `fault` strikes at this call.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { chance, is_on: true, countdowns, struck } = &mut *state else { return false };
        let Some((calls, left)) = countdowns.get_mut(&fault) else { return false };
        if *left > 0 {
            *left -= 1;
            return false;
        }
        *left = chance.u64(0..2 * *calls);
        *struck.entry(fault).or_default() += 1;
        true
    }

    /// Notes that a fault struck at its time.
    pub(super) fn note(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).struck.entry(fault).or_default() += 1;
    }

    /// From now on nothing goes wrong.
    pub(super) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_on = false;
    }

    /// How often each has struck.
    pub(super) fn struck(&self) -> BTreeMap<Fault, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).struck.clone()
    }
}
