//! Stands between the worker and the broker in a drill, and does to the worker's messages what the round wants.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use phasework_broker::{Address, Delivery, DeliveryTag, Message, PublishError, SharedBroker};
use phasework_workflows::message::listing::{JobsListed, ListAnswered};
use phasework_workflows::message::outcome::JobsFinished;
use phasework_workflows::message::{Body as _, decode};

use super::fault::Fault;
use super::round::{Given, Round, Told};
use crate::commands::between::Between;
use crate::commands::mortal::{Life, Witness};

/// How long the acknowledgement of a job's message is waited for.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

#[async_trait]
impl Between for Round {
    async fn publish(&self, within: &SharedBroker, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        join_all(messages.into_iter().map(|message| self.publish_one(within, message))).await
    }

    fn life(&self) -> &Life {
        &self.life
    }

    fn witness(&self, from: &Address) -> Box<dyn Witness> {
        Box::new(Looker { from: from.clone(), round: self.clone(), held: Mutex::default() })
    }
}

impl Round {
    async fn publish_one(&self, within: &SharedBroker, message: Message) -> Result<(), PublishError> {
        let life = self.life.current();
        if self.is_dying() {
            life.cancelled().await;
            return Err(PublishError::Unconfirmed("the worker was killed".into()));
        }
        if let (JobsListed::KIND, Ok(page)) = (&*message.kind, decode::<JobsListed>(&message.body)) {
            self.note_page(page);
        }
        let report = (*message.kind == *JobsFinished::KIND).then(|| decode::<JobsFinished>(&message.body));
        let Some(Ok(report)) = report else { return pass(within, message).await };
        let told = self.note_report(&report);
        let passed = match self.fault {
            Fault::None => pass(within, message).await,
            Fault::Twice => {
                // Before it is passed on: whoever waits for the end of the run is to wait for these, too.
                let again = self.again(&told);
                let passed = pass(within, message).await;
                if !again.is_empty() {
                    tokio::spawn(self.clone().repeat(within.clone(), told.clone(), again));
                }
                passed
            }
            Fault::Killed => {
                if self.kills_over(&told) {
                    // Told before it is dead, it would only report again.
                    life.cancelled().await;
                    return Err(PublishError::Unconfirmed("the worker was killed".into()));
                }
                pass(within, message).await
            }
            Fault::Late => {
                let delay = told.iter().map(|told| self.fate.delay(&told.job)).max().unwrap_or_default();
                self.note_delay();
                // The fault itself: what is reported comes late.
                tokio::time::sleep(delay).await;
                pass(within, message).await
            }
        };
        if passed.is_ok() {
            self.settle(&told);
        }
        passed
    }
}

impl Round {
    /// Delivers jobs again once the worker is done with their messages: until then, it may take what comes twice for one.
    async fn repeat(self, within: SharedBroker, told: Vec<Told>, again: Vec<Message>) {
        // A worker that acknowledges nothing is for `certify` to find.
        tokio::time::timeout(ACKNOWLEDGED, self.acknowledged(&told)).await.ok();
        // What could not be repeated is missed when it is waited for.
        within.publish(again).await;
    }
}

async fn pass(within: &SharedBroker, message: Message) -> Result<(), PublishError> {
    within.publish(vec![message]).await.remove(0)
}

/// Remembers the jobs that are delivered and acknowledged, and what is said to lists.
struct Looker {
    from: Address,
    round: Round,
    held: Mutex<BTreeMap<DeliveryTag, Vec<Given>>>,
}

impl Witness for Looker {
    fn delivered(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            match (&self.from, &*delivery.kind) {
                (Address::Jobs(_), _) => {
                    let given = self.round.note_jobs(&self.from, delivery);
                    self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.tag, given);
                }
                (Address::Private(_), ListAnswered::KIND) => self.round.note_list_answer(delivery),
                _ => {}
            }
        }
    }

    fn acknowledged(&self, tags: &[DeliveryTag]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let done: Vec<_> = tags.iter().filter_map(|tag| held.remove(tag)).flatten().collect();
        self.round.note_acknowledged(done);
    }
}
