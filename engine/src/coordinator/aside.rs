//! Setting aside what an owner cannot read or carry out. Dead letters are published beside everything else, so that a
//! dead-letter queue that takes nothing holds up no events; what they are of is held until they are confirmed, and
//! acknowledged then. The prefetch bounds how much that can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Consumer, Delivery, DeliveryTag, Message, PublishError, SharedBroker};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lanes::{HELD_FOR, Lanes};

/// A delivery that is held, with what is left to be published of its dead letters.
pub(super) struct Aside {
    tag: DeliveryTag,
    letters: Vec<Message>,
    since: Instant,
}

/// Deliveries of a coordinator queue that are held until their dead letters are published.
pub(super) struct Asides {
    queue: u16,
    broker: SharedBroker,
    lanes: Lanes<(), Aside, Vec<Aside>>,
    /// Canceled when whoever serves the queue is to let go of it.
    over: CancellationToken,
}

/// How long whoever lets go of a queue waits for dead letters that are being published: nobody serves it meanwhile.
const LAST: Duration = Duration::from_secs(1);

impl Asides {
    /// None yet. So many go in one publish.
    pub(super) fn new(queue: u16, broker: SharedBroker, together: usize, over: CancellationToken) -> Self {
        Self { queue, broker, lanes: Lanes::new(together), over }
    }

    /// Holds the deliveries, by their places, that there are dead letters of. Those places.
    pub(super) fn hold(&mut self, deliveries: &[Delivery], dead: Vec<(usize, Message)>) -> BTreeSet<usize> {
        // Those that came over a connection that is lost come again.
        if let Some(generation) = deliveries.iter().map(|delivery| delivery.tag.generation).max() {
            self.lanes.retain((), |aside| aside.tag.generation >= generation);
        }
        let mut letters: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
        for (place, letter) in dead {
            letters.entry(place).or_default().push(letter);
        }
        let (places, since) = (letters.keys().copied().collect(), Instant::now());
        for (place, letters) in letters {
            self.lanes.put((), Aside { tag: deliveries[place].tag, letters, since });
        }
        places
    }

    /// Begins to publish what gathered, unless that is under way.
    pub(super) fn begin(&mut self) {
        let (broker, over) = (&self.broker, &self.over);
        self.lanes.begin(|(), asides, wait| publish(Arc::clone(broker), asides, wait, over.clone()));
    }

    /// What was under way, once it is known what came of it; nothing when nothing is. Cancel safe.
    pub(super) async fn done(&mut self) -> Option<Vec<Aside>> {
        self.lanes.done().await.map(|((), asides)| asides)
    }

    /// Acknowledges what was published. The rest is held for a while longer, and tried again, later and later.
    pub(super) async fn settle(&mut self, consumer: &dyn Consumer, asides: Vec<Aside>) {
        let (done, unsent): (Vec<_>, Vec<_>) = asides.into_iter().partition(|aside| aside.letters.is_empty());
        acknowledge(consumer, &done).await;
        if unsent.is_empty() {
            return self.lanes.goes_well(());
        }
        tracing::warn!(queue = self.queue, deliveries = unsent.len(), "dead letters are not confirmed; trying again");
        let (unsent, over): (Vec<_>, Vec<_>) = unsent.into_iter().partition(|it| it.since.elapsed() < HELD_FOR);
        self.lanes.put_back((), unsent);
        let over: Vec<_> = over.iter().map(|aside| aside.tag).collect();
        if let Err(error) = consumer.release(&over).await {
            tracing::debug!(queue = self.queue, %error, "deliveries could not be given back; they come again");
        }
    }

    /// Waits for what is under way, but not for long, so that it does not come again without need. The rest comes again to
    /// whoever is served next.
    pub(super) async fn end(mut self, consumer: &dyn Consumer) {
        self.over.cancel();
        while let Ok(Some(asides)) = tokio::time::timeout(LAST, self.done()).await {
            let done: Vec<_> = asides.into_iter().filter(|aside| aside.letters.is_empty()).collect();
            acknowledge(consumer, &done).await;
        }
    }
}

/// Publishes dead letters, after a wait; not at all when that ends it. What is left of each is not confirmed.
async fn publish(broker: SharedBroker, mut asides: Vec<Aside>, wait: Duration, over: CancellationToken) -> Vec<Aside> {
    tokio::select! {
        biased;
        () = tokio::time::sleep(wait) => {}
        () = over.cancelled() => return asides,
    }
    let letters = asides.iter().flat_map(|aside| aside.letters.iter().cloned()).collect();
    let mut results = broker.publish(letters).await.into_iter();
    for aside in &mut asides {
        aside.letters.retain(|letter| match results.next() {
            Some(Ok(())) => false,
            Some(Err(PublishError::Unconfirmed(_))) | None => true,
            // It will never be, so its delivery is not held for it.
            Some(Err(error)) => {
                tracing::error!(to = ?letter.to, kind = &*letter.kind, %error, "a dead letter cannot be published");
                false
            }
        });
    }
    asides
}

async fn acknowledge(consumer: &dyn Consumer, done: &[Aside]) {
    let tags: Vec<_> = done.iter().map(|aside| aside.tag).collect();
    if let Err(error) = consumer.ack(&tags).await {
        // They come again, and are set aside once more.
        tracing::debug!(%error, "what was set aside could not be acknowledged");
    }
}
