//! Whether broker and store still hold what they confirmed. Both hold a marker, under a random id: when the broker has
//! it no more, the broker has lost what it had. The store names its lineage: another one than before means that the last
//! of it may be lost. Marker and lineage together are the epoch; runs that were not recovered for the current one are
//! recovered by their owners. A store without a marker, and a broker that has been used: then the store was emptied, and
//! nothing is touched.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, Message};
use phasework_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::engine::Parts;
use crate::watch;
use crate::workflows::Workflows;

/// What the marker is called that says that a broker was used at all.
pub const USED_MARKER: &str = "used";

/// The `type` of the message that a marker consists of.
const KIND: &str = "Marker";

/// How often a broker is asked for a marker before it counts as gone: a queue that is just being brought up again may
/// look empty.
const LOOKS: u32 = 3;

/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often the check begins anew because another coordinator was faster.
const RACES: u32 = 5;

/// After how many ticks broker and store are looked at again.
const CHECK_TICKS: u32 = 5;

/// The epoch of a store with this marker and lineage: what the shards of recovered runs note.
pub fn epoch_of(marker: &str, lineage: &str) -> Arc<str> {
    format!("{marker}/{lineage}").into()
}

/// What is known of the timeline. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// The current epoch; none before the first check.
    pub(crate) epoch: watch::Receiver<Option<Arc<str>>>,
    /// The highest number of coordinator queues there ever were.
    pub(crate) queues: watch::Receiver<u16>,
}

/// Finds out. One for each engine.
pub(crate) struct TimelineCheck {
    parts: Parts,
    workflows: Workflows,
    epoch: watch::Sender<Option<Arc<str>>>,
    queues: watch::Sender<u16>,
}

/// Why there is no epoch.
#[derive(Debug, PartialEq, Eq)]
enum NoEpoch {
    /// Broker or store cannot be asked now.
    Later(String),
    /// The store was emptied. The text says what to do.
    Emptied(String),
}

impl From<StoreError> for NoEpoch {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

/// The epoch, as the store alone has it now; none without a marker. Whether the broker has that marker is not asked.
pub(crate) async fn stored(store: &dyn Store) -> Result<Option<Arc<str>>, StoreError> {
    let (marker, lineage) = (store.marker().await?, store.lineage().await?);
    Ok(marker.map(|marker| epoch_of(&marker, &lineage)))
}

impl TimelineCheck {
    pub(crate) fn new(parts: Parts, workflows: Workflows) -> (Self, Timeline) {
        let (epoch, queues) = (watch::Sender::new(None), watch::Sender::new(0));
        let timeline = Timeline { epoch: epoch.subscribe(), queues: queues.subscribe() };
        (Self { parts, workflows, epoch, queues }, timeline)
    }

    /// Checks until `shutdown`. Ends before that, with the reason, only when the store turns out to be emptied.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Option<String> {
        let mut adopt = self.parts.config.adopt;
        let tick: Duration = self.parts.config.tick.into();
        let mut wait = LOOK_AGAIN;
        loop {
            let pause = match self.run_once(adopt).await {
                Ok(()) => {
                    (adopt, wait) = (false, LOOK_AGAIN);
                    tick * CHECK_TICKS
                }
                Err(NoEpoch::Emptied(reason)) => {
                    tracing::error!("{reason}");
                    return Some(reason);
                }
                Err(NoEpoch::Later(error)) => {
                    tracing::debug!(error, "broker and store cannot be compared now");
                    wait = (wait * 2).min(tick);
                    wait
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn run_once(&self, adopt: bool) -> Result<(), NoEpoch> {
        let store = &self.parts.store;
        let lineage = store.lineage().await?;
        let marker = self.marker(adopt).await?;
        let queues = store.raise_queues(self.parts.config.coordinator_queues).await?;
        self.queues.change(|known| std::mem::replace(known, queues) != queues);
        let epoch = epoch_of(&marker, &lineage);
        let known = self.epoch.subscribe().get();
        if known.as_ref() == Some(&epoch) {
            return Ok(());
        }
        if known.is_some() {
            self.workflows.store_again().await?;
            tracing::warn!("the broker or the store may have lost something: live runs are recovered");
        }
        self.epoch.change(|known| {
            *known = Some(epoch);
            true
        });
        Ok(())
    }

    /// The marker that both hold; a new one when the broker has lost it, or nothing was ever done here.
    async fn marker(&self, adopt: bool) -> Result<Arc<str>, NoEpoch> {
        for _ in 0..RACES {
            let stored = self.parts.store.marker().await?;
            if let Some(marker) = &stored
                && self.has(marker).await?
            {
                self.note_use().await?;
                return Ok(Arc::clone(marker));
            }
            if stored.is_none() && !adopt && self.has(USED_MARKER).await? {
                // Who is first notes the use when the store has a marker: that may have come since we looked.
                if self.parts.store.marker().await?.is_none() {
                    return Err(NoEpoch::Emptied(self.emptied()));
                }
                continue;
            }
            if let Some(marker) = self.replace(stored.as_deref()).await? {
                self.note_use().await?;
                return Ok(marker);
            }
        }
        Err(NoEpoch::Later("the marker keeps changing".into()))
    }

    /// Gives both a new marker; `None` when somebody else was faster.
    async fn replace(&self, old: Option<&str>) -> Result<Option<Arc<str>>, NoEpoch> {
        let marker: Arc<str> = self.parts.ids.uuid().simple().to_string().into();
        // The broker first: a marker in the store alone would look like a loss.
        self.put(&marker).await?;
        let is_ours = self.parts.store.replace_marker(old, &marker).await?;
        let gone = if is_ours { old } else { Some(&*marker) };
        if let Some(gone) = gone
            && let Err(error) = self.parts.broker.delete(&Address::Marker(gone.into())).await
        {
            tracing::debug!(%error, "a marker that means nothing any more stays on the broker");
        }
        Ok(is_ours.then_some(marker))
    }

    async fn note_use(&self) -> Result<(), NoEpoch> {
        if self.has(USED_MARKER).await? { Ok(()) } else { self.put(USED_MARKER).await }
    }

    async fn put(&self, marker: &str) -> Result<(), NoEpoch> {
        let message = Message::new(Address::Marker(marker.into()), KIND, r#"{"v":1}"#);
        let published = self.parts.broker.publish(vec![message]).await;
        published.into_iter().try_for_each(|result| result.map_err(|error| NoEpoch::Later(error.to_string())))
    }

    async fn has(&self, marker: &str) -> Result<bool, NoEpoch> {
        let address = Address::Marker(marker.into());
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let depth = self.parts.broker.depth(&address).await;
            if depth.map_err(|error| NoEpoch::Later(error.to_string()))? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn emptied(&self) -> String {
        format!(
            "the store is empty, but its broker was used before (it has the queue {}): the store was emptied, or this is \
             another one. Nothing was touched. Restore the store from a backup and start again; or start one coordinator \
             with --adopt: it goes on with the store as it is, and what is left on the queues about runs that are gone is \
             passed over",
            self.parts.broker.name_of(&Address::Marker(USED_MARKER.into()))
        )
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use phasework_broker::memory::MemoryBroker;
    use phasework_broker::{Broker, BrokerError, Consumer, PublishError, Subscription};
    use phasework_store::memory::MemoryStore;
    use phasework_workflows::id::SystemIds;
    use phasework_workflows::run::apply;
    use phasework_workflows::time::SystemClock;

    use super::*;
    use crate::config::EngineConfig;

    /// A broker that takes a while to say how much waits in a queue.
    #[derive(Debug)]
    struct Slow(MemoryBroker, Duration);

    #[async_trait]
    impl Broker for Slow {
        async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
            self.0.publish(messages).await
        }

        async fn reply(&self, reply_to: &str, message: Message) -> Result<(), PublishError> {
            self.0.reply(reply_to, message).await
        }

        async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
            self.0.subscribe(subscription).await
        }

        fn name_of(&self, address: &Address) -> String {
            self.0.name_of(address)
        }

        async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
            tokio::time::sleep(self.1).await;
            self.0.depth(queue).await
        }

        async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
            self.0.delete(queue).await
        }

        fn health(&self) -> Result<(), BrokerError> {
            self.0.health()
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    fn check(name: &str, store: &Arc<MemoryStore>, broker: Slow) -> TimelineCheck {
        let parts = Parts {
            store: Arc::<MemoryStore>::clone(store),
            broker: Arc::new(broker),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            decide: apply,
            config: Arc::new(EngineConfig::new(name)),
        };
        let workflows = Workflows::new(Arc::clone(&parts.store), Arc::clone(&parts.clock));
        TimelineCheck::new(parts, workflows).0
    }

    #[tokio::test(start_paused = true)]
    async fn coordinators_that_start_together_agree() {
        for (gap, slow) in (0..300).step_by(20).flat_map(|gap| [0, 70, 130].map(|slow| (gap, slow))) {
            let (store, broker) = (Arc::new(MemoryStore::new()), MemoryBroker::new());
            let first = check("first", &store, Slow(broker.connect(), Duration::ZERO));
            let second = check("second", &store, Slow(broker.connect(), Duration::from_millis(slow)));
            let late = async {
                tokio::time::sleep(Duration::from_millis(gap)).await;
                second.run_once(false).await
            };
            let found = tokio::join!(first.run_once(false), late);
            assert_eq!(found, (Ok(()), Ok(())), "{gap} ms apart, the second {slow} ms slower");
        }
    }
}
