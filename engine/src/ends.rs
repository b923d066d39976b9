//! Who waits for the end of a run hears of it at once: this listens to the lifecycle events of all coordinators.
//! An announcement may be missed; whoever waits looks at the run besides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use phasework_broker::{Address, SharedBroker, Subscription};
use phasework_workflows::id::RunId;
use phasework_workflows::message::decode_batch;
use phasework_workflows::message::notice::Lifecycles;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

type Waiting = Arc<Mutex<BTreeMap<RunId, Vec<Arc<Notify>>>>>;

/// Tells of runs that ended or halted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndWatch {
    waiting: Waiting,
}

/// A wait for one run; ends with being dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    run: RunId,
    notify: Arc<Notify>,
    waiting: Waiting,
}

impl EndWatch {
    /// Begins to listen for the end of `run`; an end from now on is not missed.
    pub(crate) fn watch(&self, run: RunId) -> Watched {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(run).or_default().push(Arc::clone(&notify));
        Watched { run, notify, waiting: Arc::clone(&self.waiting) }
    }

    fn ended(&self, run: RunId) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(&run).into_iter().flatten().for_each(|notify| notify.notify_one());
    }

    /// Listens until `shutdown`.
    pub(crate) async fn run(self, broker: SharedBroker, shutdown: CancellationToken) {
        let patterns = ["run.finished.*", "run.halted.*"];
        let listen = patterns.map(|pattern| self.listen(&broker, pattern, &shutdown));
        futures::future::join_all(listen).await;
    }

    async fn listen(&self, broker: &SharedBroker, pattern: &str, shutdown: &CancellationToken) {
        let subscription = Subscription { from: Address::Events(pattern.into()), prefetch: 1000 };
        let Some(mut consumer) = crate::supervisor::subscribe(broker, &subscription, shutdown).await else { return };
        loop {
            let deliveries = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                deliveries = consumer.next(1000) => deliveries,
            };
            let Ok(deliveries) = deliveries else { return };
            for delivery in &deliveries {
                match decode_batch::<Lifecycles>(&delivery.body) {
                    Ok((events, _)) => events.iter().for_each(|event| self.ended(event.run)),
                    Err(error) => tracing::debug!(%error, "lifecycle events could not be read"),
                }
            }
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            if let Err(error) = consumer.ack(&tags).await {
                tracing::debug!(%error, "lifecycle events could not be acknowledged");
            }
        }
    }
}

impl Watched {
    /// Returns when the run is told to have ended or halted.
    pub(crate) async fn ended(&mut self) {
        self.notify.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = waiting.get_mut(&self.run) {
            others.retain(|other| !Arc::ptr_eq(other, &self.notify));
            if others.is_empty() {
                waiting.remove(&self.run);
            }
        }
    }
}
