//! Publishing that outlasts a connection: waits for one, makes queues that are not there, sends again what was not sent.
//! It never sends again what may have arrived: that is the caller's to decide.

use std::sync::Arc;
use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::{Instant, sleep, timeout_at};

use super::errors::broker_error;
use super::line::{Line, Link};
use super::outlet::Outlet;
use super::parcel::{Letter, Outcome};
use super::properties::{properties, short};
use super::topology::{DELETED_IS_HEARD_AFTER, Route, Topology};
use crate::{Address, BrokerError, Message, PublishError};

#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) line: Line<Outlet>,
    pub(super) topology: Topology,
    /// The longest that a call may take.
    pub(super) publish_timeout: Duration,
    pub(super) max_message_bytes: usize,
}

/// A letter whose fate is open.
struct Open {
    /// Its place in the caller's list.
    index: usize,
    letter: Arc<Letter>,
    /// The queue to be made for it. Private queues are made by their consumer only, and an exchange needs none.
    queue: Option<Address>,
    /// It came back once.
    returned: bool,
}

type Results = Vec<Result<(), PublishError>>;

impl Publisher {
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Results {
        let mut results: Results = Vec::with_capacity(messages.len());
        let mut open = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            let route = self.topology.route(&message.to).map_err(|error| PublishError::Unroutable(error.to_string()));
            let queue = self.topology.is_durable(&message.to).then(|| message.to.clone());
            let letter = route.and_then(|route| self.letter(route, message));
            results.push(letter.map(|letter| open.push(Open { index, letter, queue, returned: false })));
        }
        self.deliver(open, &mut results).await;
        results
    }

    pub(super) async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
        let name: ShortString = short(reply_to)?;
        let letter = self.letter(Route::to_queue(name), message)?;
        let mut results = vec![Ok(())];
        self.deliver(vec![Open { index: 0, letter, queue: None, returned: false }], &mut results).await;
        results.remove(0)
    }

    fn letter(&self, route: Route, message: Message) -> Result<Arc<Letter>, PublishError> {
        let (size, limit) = (message.body.len(), self.max_message_bytes);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        Ok(Arc::new(Letter { route, properties: properties(&message)?, body: message.body }))
    }

    /// Sends until the fate of all is known, or the time is up.
    async fn deliver(&self, mut open: Vec<Open>, results: &mut Results) {
        let deadline = Instant::now() + self.publish_timeout;
        while !open.is_empty() {
            let link = match self.link(deadline).await {
                Ok(link) => link,
                Err(error) => return fail(&open, results, &error),
            };
            if open.iter().any(|open| open.returned) {
                sleep(DELETED_IS_HEARD_AFTER).await;
            }
            self.make_queues(&link, &mut open, results, deadline).await;
            let sent = link.equipment.send(open.iter().map(|open| open.letter.clone()).collect());
            // What is not known by then is not known.
            let _late = timeout_at(deadline, sent.done()).await;
            let outcomes = sent.outcomes();
            open = open
                .into_iter()
                .zip(outcomes)
                .filter_map(|(open, outcome)| judge(open, outcome, &link, results))
                .collect();
        }
    }

    /// A connection on which messages are taken.
    async fn link(&self, deadline: Instant) -> Result<Arc<Link<Outlet>>, BrokerError> {
        loop {
            let link = self.line.link(deadline).await?;
            if timeout_at(deadline, link.wire.unblocked()).await.is_err() {
                self.line.health()?;
            }
            if !link.wire.is_broken() {
                return Ok(link);
            }
        }
    }

    /// Makes the queues of those letters that need one. Letters whose queue cannot be made fail.
    async fn make_queues(&self, link: &Link<Outlet>, open: &mut Vec<Open>, results: &mut Results, deadline: Instant) {
        let mut failed: Vec<(Address, BrokerError)> = Vec::new();
        let mut made: Option<Address> = None;
        for Open { queue, .. } in open.iter() {
            let Some(queue) = queue else { continue };
            if made.as_ref() == Some(queue) || failed.iter().any(|(other, _)| other == queue) {
                continue;
            }
            let making = link.equipment.make_sure_of(queue, &link.wire, &self.topology);
            match timeout_at(deadline, making).await {
                Ok(Ok(())) => made = Some(queue.clone()),
                // On a lost connection nothing can be made; then nothing is sent either, and both are tried again.
                Ok(Err(_)) if link.wire.is_broken() => return,
                Ok(Err(error)) => failed.push((queue.clone(), broker_error(&error))),
                Err(_) => {
                    failed.push((queue.clone(), BrokerError::Unavailable("the queue was not made in time".into())));
                }
            }
        }
        open.retain(|open| {
            let error = failed.iter().find(|(queue, _)| open.queue.as_ref() == Some(queue));
            if let Some((_, error)) = error {
                results[open.index] = Err(PublishError::Unconfirmed(error.to_string()));
            }
            error.is_none()
        });
    }
}

/// Notes what came of a letter, or gives it back to be sent again.
fn judge(mut open: Open, outcome: Option<Outcome>, link: &Link<Outlet>, results: &mut Results) -> Option<Open> {
    let result = match outcome {
        Some(Outcome::Confirmed) => Ok(()),
        Some(Outcome::Unsent) => return Some(open),
        Some(Outcome::Returned) => match &open.queue {
            Some(queue) if !open.returned => {
                link.equipment.forget(queue);
                open.returned = true;
                return Some(open);
            }
            Some(queue) => Err(PublishError::Unconfirmed(format!("{queue:?} vanishes as soon as it is made"))),
            None => Err(PublishError::Unroutable(open.letter.route.routing_key.to_string())),
        },
        Some(Outcome::Lost(why)) => Err(PublishError::Unconfirmed(why)),
        None => Err(PublishError::Unconfirmed("no confirm in time".to_owned())),
    };
    results[open.index] = result;
    None
}

fn fail(open: &[Open], results: &mut Results, error: &BrokerError) {
    for open in open {
        results[open.index] = Err(PublishError::Unconfirmed(error.to_string()));
    }
}
