//! A message on its way over one connection, and what becomes of it. It neither waits for the network nor writes to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use lapin::{BasicProperties, Confirmation};
use tokio::sync::Notify;

use super::topology::Route;

/// A message ready to be written.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) route: Route,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What became of a letter.
#[derive(Debug)]
pub(super) enum Outcome {
    Confirmed,
    /// No queue took it.
    Returned,
    /// It was not written: the connection was lost before.
    Unsent,
    /// It was written, and what came of it is unknown.
    Lost(String),
}

/// Letters that were sent together. Those not written when this is dropped never will be.
pub(super) struct Sent(Arc<Batch>);

struct Batch {
    progress: Mutex<Progress>,
    done: Notify,
}

struct Progress {
    outcomes: Vec<Option<Outcome>>,
    open: usize,
    /// Nobody waits any more.
    abandoned: bool,
}

impl Batch {
    fn new(letters: usize) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(letters).collect();
        let progress = Progress { outcomes, open: letters, abandoned: false };
        Self { progress: Mutex::new(progress), done: Notify::new() }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sent {
    /// Packs letters for the way.
    pub(super) fn pack(letters: Vec<Arc<Letter>>) -> (Self, Vec<Parcel>) {
        let batch = Arc::new(Batch::new(letters.len()));
        let parcels = letters.into_iter().enumerate();
        let parcels = parcels.map(|(index, letter)| Parcel { letter, index, batch: batch.clone(), settled: false });
        let parcels = parcels.collect();
        (Self(batch), parcels)
    }

    /// Waits until it is known of every letter what came of it.
    pub(super) async fn done(&self) {
        while self.0.progress().open > 0 {
            self.0.done.notified().await;
        }
    }

    /// What is known of each letter.
    pub(super) fn outcomes(self) -> Vec<Option<Outcome>> {
        std::mem::take(&mut self.0.progress().outcomes)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.progress().abandoned = true;
    }
}

/// A letter on its way. Dropped on the way, it counts as lost, so that nobody waits for it for ever.
pub(super) struct Parcel {
    letter: Arc<Letter>,
    index: usize,
    batch: Arc<Batch>,
    settled: bool,
}

impl Parcel {
    pub(super) fn letter(&self) -> &Letter {
        &self.letter
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.batch.progress().abandoned
    }

    pub(super) fn settle(mut self, outcome: Outcome) {
        self.note(outcome);
    }

    fn note(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut progress = self.batch.progress();
        if let Some(place) = progress.outcomes.get_mut(self.index) {
            *place = Some(outcome);
        }
        progress.open -= 1;
        if progress.open == 0 {
            self.batch.done.notify_one();
        }
    }

    fn is(&self, returned: &BasicReturnMessage) -> bool {
        let Letter { route, properties, body } = &*self.letter;
        returned.routing_key == route.routing_key
            && returned.exchange == route.exchange
            && returned.data == *body
            && returned.properties == *properties
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.note(Outcome::Lost("the connection was lost".to_owned()));
    }
}

/// A parcel, and what lapin made of the answer to it.
pub(super) type Confirmed = (Parcel, lapin::Result<Confirmation>);

/// The channel failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChannelFailed;

/// Says what came of parcels; `returned` holds what came back and whose it is not yet known.
///
/// RabbitMQ returns an unroutable message before it confirms it, but lapin gives what was returned to whichever confirm
/// comes next, be it of another message. So first everything returned is gathered, and then it is looked up whose it is.
/// Two equal messages may be taken for one another; they are equal.
pub(super) fn settle(confirmed: Vec<Confirmed>, returned: &mut Vec<BasicReturnMessage>) -> Result<(), ChannelFailed> {
    let mut settled = Vec::with_capacity(confirmed.len());
    for (parcel, confirmation) in confirmed {
        let refused = confirmation.as_ref().map(Confirmation::is_nack);
        settled.push((parcel, refused.map_err(ToString::to_string)));
        returned.extend(confirmation.ok().and_then(Confirmation::take_message));
    }
    let mut result = Ok(());
    for (parcel, refused) in settled {
        let outcome = match refused {
            Ok(false) => match returned.iter().position(|message| parcel.is(message)) {
                Some(at) => {
                    returned.swap_remove(at);
                    Outcome::Returned
                }
                None => Outcome::Confirmed,
            },
            Ok(true) => Outcome::Lost("RabbitMQ could not take it".to_owned()),
            Err(error) => {
                result = Err(ChannelFailed);
                Outcome::Lost(error)
            }
        };
        parcel.settle(outcome);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lapin::message::{BasicReturnMessage, Delivery};
    use lapin::{BasicProperties, Confirmation, ErrorKind};

    use super::{ChannelFailed, Letter, Outcome, Parcel, Sent, settle};
    use crate::rabbitmq::topology::Route;

    fn pack(bodies: &[&'static str]) -> (Sent, Vec<Parcel>) {
        let letter = |body: &&'static str| {
            Arc::new(Letter {
                route: Route::to_queue("queue".into()),
                properties: BasicProperties::default().with_type("Test".into()),
                body: (*body).into(),
            })
        };
        Sent::pack(bodies.iter().map(letter).collect())
    }

    /// RabbitMQ's return of what `parcel` holds.
    fn back(parcel: &Parcel) -> BasicReturnMessage {
        let Letter { route, properties, body } = parcel.letter();
        let (exchange, key) = (route.exchange.clone(), route.routing_key.clone());
        let mut delivery = Delivery::mock(0, exchange, key, false, body.to_vec());
        delivery.properties = properties.clone();
        BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }
    }

    fn outcomes(sent: Sent) -> Vec<&'static str> {
        let name = |outcome: Option<Outcome>| match outcome {
            Some(Outcome::Confirmed) => "confirmed",
            Some(Outcome::Returned) => "returned",
            Some(Outcome::Unsent) => "unsent",
            Some(Outcome::Lost(_)) => "lost",
            None => "open",
        };
        sent.outcomes().into_iter().map(name).collect()
    }

    #[test]
    fn what_was_returned_is_whose_it_is() {
        // Each row: the letters; which of them comes back; with whose confirm; and the rounds in which confirms come.
        let check = |bodies: &[&'static str], comes_back: usize, with: usize, rounds: &[&[usize]]| {
            let (sent, parcels) = pack(bodies);
            let message = back(&parcels[comes_back]);
            let mut parcels: Vec<_> = parcels.into_iter().map(Some).collect();
            let (mut message, mut returned) = (Some(message), Vec::new());
            for round in rounds {
                let confirmed = round.iter().map(|&n| {
                    let tied = if n == with { message.take() } else { None };
                    (parcels[n].take().unwrap(), Ok(Confirmation::Ack(tied)))
                });
                let confirmed = confirmed.collect();
                assert_eq!(settle(confirmed, &mut returned), Ok(()));
            }
            let expected = (0..bodies.len()).map(|n| if n == comes_back { "returned" } else { "confirmed" });
            assert_eq!(outcomes(sent), expected.collect::<Vec<_>>(), "{bodies:?} {comes_back} {with} {rounds:?}");
            assert!(returned.is_empty());
        };
        check(&["a", "b", "c"], 1, 1, &[&[0, 1, 2]]);
        check(&["a", "b", "c"], 1, 0, &[&[0, 1, 2]]);
        check(&["a", "b", "c"], 1, 2, &[&[0, 1, 2]]);
        check(&["a", "b", "c"], 1, 2, &[&[2, 1], &[0]]);
        check(&["a", "b", "c"], 2, 0, &[&[0], &[1], &[2]]);
        // Of two equal ones, one came back: it does not matter which is told.
        check(&["a", "a"], 0, 1, &[&[0, 1]]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (sent, parcels) = pack(&["a", "b", "c", "d"]);
        let mut parcels = parcels.into_iter();
        let mut next = || parcels.next().unwrap();
        let error = ErrorKind::ChannelsLimitReached.into();
        let confirmed = vec![(next(), Ok(Confirmation::Nack(None))), (next(), Err(error))];
        assert_eq!(settle(confirmed, &mut Vec::new()), Err(ChannelFailed));
        next().settle(Outcome::Unsent);
        drop(next());
        assert!(futures::FutureExt::now_or_never(sent.done()).is_some());
        assert_eq!(outcomes(sent), ["lost", "lost", "unsent", "lost"]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_written() {
        let (sent, parcels) = pack(&["a"]);
        assert!(!parcels[0].is_abandoned());
        drop(sent);
        assert!(parcels[0].is_abandoned());
    }
}
