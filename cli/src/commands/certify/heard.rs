//! What a worker says: everything that it publishes, in the order in which it came, to be waited for and looked at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phasework_broker::{Address, BrokerError, Consumer, Delivery, SharedBroker, Subscription};
use phasework_workflows::id::{EntryNo, HandlerName, JobIndex, Nonce, RunId};
use phasework_workflows::message::lease::{LeaseGroup, Leases};
use phasework_workflows::message::listing::JobsListed;
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::outcome::{JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::presence::{WorkerAnnounced, WorkerGone, WorkersWanted};
use phasework_workflows::message::probe::{Probe, ProbesReturned};
use phasework_workflows::message::{Body, DecodeError, decode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many deliveries are held unacknowledged, and read in one go.
const PREFETCH: u16 = 256;

/// What became of one job, and where that was said.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The coordinator queue.
    pub(super) queue: u16,
    pub(super) run: RunId,
    pub(super) entry: EntryNo,
    pub(super) nonce: Nonce,
    pub(super) handler: HandlerName,
    pub(super) outcome: Outcome,
}

/// Jobs `first..first + count` of which it was said together that they are done, and where that was said.
#[derive(Clone, Debug)]
pub(super) struct DoneRange {
    /// The coordinator queue.
    queue: u16,
    run: RunId,
    entry: EntryNo,
    nonce: Nonce,
    handler: HandlerName,
    first: JobIndex,
    count: u64,
}

impl DoneRange {
    /// What is said here of one job, if it is one of these.
    fn told(&self, run: RunId, index: JobIndex) -> Option<Told> {
        let is_among = self.run == run && index.checked_sub(self.first).is_some_and(|at| at < self.count);
        is_among.then(|| {
            let Self { queue, run, entry, nonce, ref handler, .. } = *self;
            let outcome = Outcome { index, attempt: 1, status: Status::Done, output: None, error: None, details: None };
            Told { queue, run, entry, nonce, handler: handler.clone(), outcome }
        })
    }
}

/// One thing that a worker said.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Finished(Told),
    /// Jobs on attempt 1, without output.
    Done(DoneRange),
    Leases(u16, LeaseGroup),
    Listed(u16, JobsListed),
    ProbeReturned(u16, Probe),
    Announced(WorkerAnnounced),
    Gone,
    Dead(DeadLetter),
    /// What cannot be read, or does not belong where it was said.
    Garbled(String),
}

impl Said {
    /// What this says of one job.
    pub(super) fn told(&self, run: RunId, index: JobIndex) -> Option<Told> {
        match self {
            Self::Finished(told) => (told.run == run && told.outcome.index == index).then(|| told.clone()),
            Self::Done(range) => range.told(run, index),
            _ => None,
        }
    }
}

/// Everything that was said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Log>);

#[derive(Debug, Default)]
struct Log {
    said: Mutex<Vec<Said>>,
    more: Notify,
}

impl Heard {
    /// Hears what is published to `from`, until `end`.
    pub(super) async fn listen(
        &self,
        broker: &SharedBroker,
        from: Address,
        end: CancellationToken,
    ) -> Result<(), BrokerError> {
        let consumer = broker.subscribe(Subscription { from: from.clone(), prefetch: PREFETCH }).await?;
        tokio::spawn(self.clone().hear(consumer, from, end));
        Ok(())
    }

    async fn hear(self, mut consumer: Box<dyn Consumer>, from: Address, end: CancellationToken) {
        loop {
            let deliveries = tokio::select! {
                biased;
                () = end.cancelled() => return,
                deliveries = consumer.next(usize::from(PREFETCH)) => deliveries,
            };
            let Ok(deliveries) = deliveries else { return };
            for delivery in &deliveries {
                self.add(read(&from, delivery));
            }
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            // What is heard twice is no harm.
            consumer.ack(&tags).await.ok();
        }
    }

    fn add(&self, said: Vec<Said>) {
        self.lock().extend(said);
        self.0.more.notify_waiters();
    }

    /// How much was said so far: where to look from for what comes after.
    pub(super) fn so_far(&self) -> usize {
        self.lock().len()
    }

    /// What `pick` finds in what was said from `from` on.
    pub(super) fn all<T>(&self, from: usize, pick: impl FnMut(&Said) -> Option<T>) -> Vec<T> {
        self.lock().iter().skip(from).filter_map(pick).collect()
    }

    /// Waits until `pick` finds something in what was said from `from` on; `None` after `within`.
    pub(super) async fn wait<T>(
        &self,
        from: usize,
        within: Duration,
        mut pick: impl FnMut(&[Said]) -> Option<T>,
    ) -> Option<T> {
        let found = async {
            loop {
                let more = self.0.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if let Some(found) = pick(self.lock().get(from..).unwrap_or_default()) {
                    return found;
                }
                more.await;
            }
        };
        tokio::time::timeout(within, found).await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Said>> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(from: &Address, delivery: &Delivery) -> Vec<Said> {
    let said = match from {
        Address::Coordinator(queue) => read_report(*queue, delivery),
        Address::Presence => read_presence(delivery),
        Address::Dead => decode::<DeadLetter>(&delivery.body).map(|letter| vec![Said::Dead(letter)]),
        _ => Ok(Vec::new()),
    };
    said.unwrap_or_else(|error| vec![Said::Garbled(format!("a message of type `{}`: {error}", delivery.kind))])
}

fn read_report(queue: u16, delivery: &Delivery) -> Result<Vec<Said>, DecodeError> {
    let said = match &*delivery.kind {
        JobsFinished::KIND => {
            let groups = decode::<JobsFinished>(&delivery.body)?.groups;
            groups.into_iter().flat_map(|group| finished(queue, group)).collect()
        }
        Leases::KIND => {
            decode::<Leases>(&delivery.body)?.groups.into_iter().map(|group| Said::Leases(queue, group)).collect()
        }
        JobsListed::KIND => vec![Said::Listed(queue, decode(&delivery.body)?)],
        ProbesReturned::KIND => {
            let items = decode::<ProbesReturned>(&delivery.body)?.items;
            items.into_iter().map(|probe| Said::ProbeReturned(queue, probe)).collect()
        }
        other => vec![Said::Garbled(format!("a message of type `{other}` on a coordinator queue"))],
    };
    Ok(said)
}

fn finished(queue: u16, group: OutcomeGroup) -> Vec<Said> {
    let done = group.done.iter().map(|&(first, count)| {
        let OutcomeGroup { run, entry, nonce, ref handler, .. } = group;
        Said::Done(DoneRange { queue, run, entry, nonce, handler: handler.clone(), first, count })
    });
    let mut said: Vec<_> = done.collect();
    for outcome in group.outcomes {
        if let Some(why) = unsound(&outcome) {
            said.push(Said::Garbled(format!("an outcome of job {}: {why}", outcome.index)));
        }
        said.push(Said::Finished(Told {
            queue,
            run: group.run,
            entry: group.entry,
            nonce: group.nonce,
            handler: group.handler.clone(),
            outcome,
        }));
    }
    said
}

/// What is wrong with an outcome by itself.
fn unsound(outcome: &Outcome) -> Option<&'static str> {
    match (outcome.status, &outcome.output, &outcome.error) {
        (Status::Failed, _, None) => Some("`failed` without an `error`"),
        (Status::Failed | Status::Returned, Some(_), _) => Some("an `output` of what is not `done`"),
        (Status::Done, _, Some(_)) => Some("`done` with an `error`"),
        (Status::Done | Status::Failed | Status::Returned, ..) => None,
    }
}

fn read_presence(delivery: &Delivery) -> Result<Vec<Said>, DecodeError> {
    Ok(match &*delivery.kind {
        WorkerAnnounced::KIND => vec![Said::Announced(decode(&delivery.body)?)],
        WorkerGone::KIND => decode::<WorkerGone>(&delivery.body).map(|_| vec![Said::Gone])?,
        WorkersWanted::KIND => Vec::new(), // our own
        other => vec![Said::Garbled(format!("a message of type `{other}` on the presence exchange"))],
    })
}
