//! Stands between the worker and the broker when a worker is tried over HTTP: can be told to confirm nothing for once, and
//! remembers what is acknowledged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use phasework_broker::{Address, Delivery, DeliveryTag, Message, PublishError, SharedBroker};
use phasework_workflows::message::Body as _;
use phasework_workflows::message::outcome::JobsFinished;

use crate::commands::between::Between;
use crate::commands::mortal::{Life, Witness};

/// What was seen of a worker's care, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A report was not confirmed.
    Refused,
    /// A report was confirmed.
    Confirmed,
    /// A message from a job queue was acknowledged.
    Acknowledged,
}

/// What is told, and seen, of a worker's care. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Care {
    state: Arc<Mutex<State>>,
    /// That of the worker.
    pub(super) life: Life,
}

#[derive(Debug, Default)]
struct State {
    /// How many more reports are not confirmed.
    refusing: u32,
    /// How many messages of job queues the worker holds.
    held: usize,
    seen: Vec<Seen>,
}

impl Care {
    /// From now on the next `reports` reports are not confirmed. Forgets what was seen before.
    pub(super) fn refuse(&self, reports: u32) {
        let mut state = self.lock();
        *state = State { refusing: reports, held: state.held, seen: Vec::new() };
    }

    /// Whether the worker holds no message of a job queue.
    pub(super) fn holds_nothing(&self) -> bool {
        self.lock().held == 0
    }

    /// What was seen since.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Whether this report is confirmed.
    fn confirms(&self) -> bool {
        let mut state = self.lock();
        let confirms = state.refusing == 0;
        state.refusing = state.refusing.saturating_sub(1);
        state.seen.push(if confirms { Seen::Confirmed } else { Seen::Refused });
        confirms
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees deliveries of jobs, and their acknowledgements, of one subscription.
struct Looker {
    care: Care,
    held: Mutex<BTreeSet<DeliveryTag>>,
}

impl Looker {
    fn change(&self, change: impl FnOnce(&mut BTreeSet<DeliveryTag>)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.len();
        change(&mut held);
        let mut state = self.care.lock();
        state.held = (state.held + held.len()).saturating_sub(before);
    }
}

impl Witness for Looker {
    fn delivered(&self, deliveries: &[Delivery]) {
        self.change(|held| held.extend(deliveries.iter().map(|delivery| delivery.tag)));
    }

    fn acknowledged(&self, tags: &[DeliveryTag]) {
        self.change(|held| held.retain(|tag| !tags.contains(tag)));
        self.care.lock().seen.push(Seen::Acknowledged);
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.change(BTreeSet::clear);
    }
}

/// Looks at nothing.
struct Blind;

impl Witness for Blind {
    fn delivered(&self, _: &[Delivery]) {}

    fn acknowledged(&self, _: &[DeliveryTag]) {}
}

#[async_trait]
impl Between for Care {
    async fn publish(&self, within: &SharedBroker, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let is_report = matches!(message.to, Address::Coordinator(_)) && *message.kind == *JobsFinished::KIND;
            if is_report && !self.confirms() {
                results.push(Err(PublishError::Unconfirmed("for once, to see what happens".to_owned())));
            } else {
                results.append(&mut within.publish(vec![message]).await);
            }
        }
        results
    }

    fn life(&self) -> &Life {
        &self.life
    }

    fn witness(&self, from: &Address) -> Box<dyn Witness> {
        match from {
            Address::Jobs(_) => Box::new(Looker { care: self.clone(), held: Mutex::default() }),
            _ => Box::new(Blind),
        }
    }
}
