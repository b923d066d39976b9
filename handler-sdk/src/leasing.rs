//! Takes leases on jobs that run for long, and renews them, so that no message is held for as long as a job may take.
//! Asks the coordinators, and hands their answers to `open`; decides nothing by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phasework_broker::{Address, BrokerError, Consumer, Delivery, Message, SharedBroker};
use phasework_workflows::message::event::ReplyTo;
use phasework_workflows::message::lease::{LeaseGroup, Leases, LeasesAnswered};
use phasework_workflows::message::{self, Body as _};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::lease::PROGRESS_EVERY;
use crate::open::{Open, Wanted};

/// The most deliveries taken in one go.
const AT_ONCE: usize = 64;

/// The most leases asked for in one message.
const MAX_LEASES: usize = 1000;

/// A question that waited for so long need not be answered: it was asked again many times.
const EXPIRES: Duration = Duration::from_secs(300);

pub(crate) struct Leasing {
    pub(crate) worker: Arc<str>,
    /// The full name of the worker's private queue.
    pub(crate) reply: Arc<str>,
    pub(crate) open: Arc<Open>,
    pub(crate) broker: SharedBroker,
    /// Leases that become due within this time are asked for together.
    pub(crate) together: Duration,
}

impl Leasing {
    /// Keeps leases until `end`, or until the broker is closed.
    pub(crate) async fn run(self, mut answers: Box<dyn Consumer>, end: CancellationToken) -> Result<(), BrokerError> {
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return Ok(()),
                deliveries = answers.next(AT_ONCE) => {
                    self.take(deliveries?, &*answers).await;
                    // What was leased may have got on since the question.
                    look_at = look_at.min(Instant::now() + PROGRESS_EVERY);
                }
                () = self.open.progressed() => look_at = look_at.min(Instant::now() + self.together),
                () = sleep_until(look_at) => {
                    let now = Instant::now();
                    let (wanted, next) = self.open.due(now);
                    look_at = next.max(now + self.together);
                    tokio::select! {
                        biased;
                        () = end.cancelled() => return Ok(()),
                        () = self.ask(wanted) => {}
                    }
                }
            }
        }
    }

    async fn take(&self, deliveries: Vec<Delivery>, answers: &dyn Consumer) {
        for delivery in &deliveries {
            if *delivery.kind != *LeasesAnswered::KIND {
                continue; // an answer of a later version
            }
            match message::decode::<LeasesAnswered>(&delivery.body) {
                Ok(answered) => self.open.answered(&answered, Instant::now()),
                Err(error) => tracing::warn!(%error, "an answer that cannot be understood"),
            }
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        if let Err(error) = answers.ack(&tags).await {
            tracing::debug!(%error, "answers not acknowledged; taking them twice changes nothing");
        }
    }

    /// Asks once. What is not published, or not answered, is asked again when it is due.
    async fn ask(&self, wanted: Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        tracing::debug!(leases = wanted.len(), "asking for leases");
        let results = self.broker.publish(self.questions(wanted)).await;
        for error in results.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "leases could not be asked for; trying again");
        }
    }

    fn questions(&self, mut wanted: Vec<Wanted>) -> Vec<Message> {
        wanted.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut messages = Vec::new();
        for of_queue in wanted.chunk_by(|a, b| a.coordinator == b.coordinator) {
            for some in of_queue.chunks(MAX_LEASES) {
                let groups = some.chunk_by(Wanted::goes_with).map(|group| self.group(group)).collect();
                let body = Bytes::from(message::encode(&Leases { groups }));
                let to = Address::Coordinator(some[0].coordinator);
                messages.push(Message { expires: Some(EXPIRES), ..Message::new(to, Leases::KIND, body) });
            }
        }
        messages
    }

    fn group(&self, wanted: &[Wanted]) -> LeaseGroup {
        let key = &wanted[0].key;
        LeaseGroup {
            run: key.run,
            entry: key.entry,
            nonce: key.nonce,
            handler: key.handler.clone(),
            worker: Some(Arc::clone(&self.worker)),
            reply: ReplyTo { queue: Arc::clone(&self.reply), correlation_id: None },
            leases: wanted.iter().map(|wanted| wanted.lease).collect(),
        }
    }
}
