//! Takes leases on jobs that run for long, and renews them, so that no message is held for as long as a job may take.
//! Asks the coordinators, and hands their answers to `open`, those to pages of lists among them; decides nothing by
//! itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use phasework_broker::{Address, BrokerError, Consumer, Delivery, Message, SharedBroker};
use phasework_workflows::Payload;
use phasework_workflows::message::event::ReplyTo;
use phasework_workflows::message::lease::{LeaseGroup, Leases, LeasesAnswered};
use phasework_workflows::message::listing::ListAnswered;
use phasework_workflows::message::{self, Body as _};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::lease::PROGRESS_EVERY;
use crate::open::{Open, Wanted};

/// The most deliveries taken in one go.
const AT_ONCE: usize = 64;

/// The most leases asked for in one message.
const MAX_LEASES: usize = 1000;

/// About the most bytes that jobs leave for their next attempts in one message.
const MAX_LEFT_BYTES: usize = 1024 * 1024;

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
        // Each coordinator queue is asked for itself: one that takes nothing holds up no other, nor the answers.
        let mut asking = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return Ok(()),
                Some(()) = asking.next() => {}
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
                    asking.extend(self.questions(wanted).into_iter().map(|question| self.ask(question)));
                }
            }
        }
    }

    async fn take(&self, deliveries: Vec<Delivery>, answers: &dyn Consumer) {
        for delivery in &deliveries {
            let read = match &*delivery.kind {
                LeasesAnswered::KIND => message::decode::<LeasesAnswered>(&delivery.body)
                    .map(|answered| self.open.answered(&answered, Instant::now())),
                ListAnswered::KIND => {
                    message::decode::<ListAnswered>(&delivery.body).map(|answered| self.open.listed(&answered))
                }
                _ => continue, // an answer of a later version
            };
            if let Err(error) = read {
                tracing::warn!(%error, "an answer that cannot be understood");
            }
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        if let Err(error) = answers.ack(&tags).await {
            tracing::debug!(%error, "answers not acknowledged; taking them twice changes nothing");
        }
    }

    /// Asks once. What is not published, or not answered, is asked again when it is due.
    async fn ask(&self, question: Message) {
        let to = question.to.clone();
        tracing::debug!(?to, "asking for leases");
        for error in self.broker.publish(vec![question]).await.into_iter().filter_map(Result::err) {
            tracing::warn!(?to, %error, "leases could not be asked for; trying again");
        }
    }

    fn questions(&self, mut wanted: Vec<Wanted>) -> Vec<Message> {
        wanted.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut messages = Vec::new();
        for of_queue in wanted.chunk_by(|a, b| a.coordinator == b.coordinator) {
            for some in together(of_queue) {
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
            leases: wanted.iter().map(|wanted| wanted.lease.clone()).collect(),
        }
    }
}

/// In parts of which each makes a message that is not too large.
fn together(wanted: &[Wanted]) -> Vec<&[Wanted]> {
    let (mut parts, mut rest) = (Vec::new(), wanted);
    while !rest.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len().min(MAX_LEASES) && (count == 0 || bytes < MAX_LEFT_BYTES) {
            bytes += rest[count].lease.details.as_ref().map_or(0, Payload::len);
            count += 1;
        }
        let (part, left) = rest.split_at(count);
        parts.push(part);
        rest = left;
    }
    parts
}
