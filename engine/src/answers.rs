//! Asking the owner of a run for something, and waiting until it answers that it is done and durable. What is asked
//! for gathers while the last message to its queue is under way, so many askers cost few messages, and a queue that takes
//! nothing holds up no other. A question that is not answered in time is asked again: it names its run and key, so doing
//! it twice does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phasework_broker::{Address, Message, SharedBroker, Subscription};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Accepted, Control, Controls, Refused, ReplyTo, StartRun, StartRuns};
use phasework_workflows::message::{Body, decode, encode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::engine::EngineError;
use crate::lanes::Lanes;

/// How long to wait for an answer before asking again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How often to ask before giving up.
const TIMES: u32 = 6;

/// How many requests go in one message, and in one publish.
const PER_MESSAGE: usize = 64;
const PER_PUBLISH: usize = 16 * PER_MESSAGE;

/// How many bytes of run data go in one message of several requests.
const BYTES_PER_MESSAGE: usize = 256 * 1024;

/// What can be asked of the owner of a run.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Start(StartRun),
    Control(Control),
}

impl Ask {
    fn set_reply(&mut self, reply: ReplyTo) {
        match self {
            Self::Start(start) => start.reply = Some(reply),
            Self::Control(control) => control.reply = Some(reply),
        }
    }
}

type Pending = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Accepted, Refused>>>>>;

/// Somebody who waits for an answer. A question nobody waits for any more is not pending.
struct Waiting<'a> {
    pending: &'a Pending,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A question on its way, with its number.
struct Asked {
    id: u64,
    ask: Ask,
}

/// Asks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    outgoing: mpsc::Sender<(u16, Asked)>,
    pending: Pending,
    next: Arc<std::sync::atomic::AtomicU64>,
    reply_queue: Arc<str>,
    queues: u16,
}

/// The two ends that have to be kept running for an [`Asker`] to work.
pub(crate) struct AskerLoops {
    broker: SharedBroker,
    address: Address,
    outgoing: mpsc::Receiver<(u16, Asked)>,
    pending: Pending,
}

impl Asker {
    /// An asker whose answers come to the private queue `name`.
    pub(crate) fn new(broker: SharedBroker, name: &str, queues: u16) -> (Self, AskerLoops) {
        let address = Address::Private(format!("engine.{name}").into());
        let (sender, receiver) = mpsc::channel(1024);
        let pending = Pending::default();
        let asker = Self {
            outgoing: sender,
            pending: Arc::clone(&pending),
            next: Arc::default(),
            reply_queue: broker.name_of(&address).into(),
            queues,
        };
        (asker, AskerLoops { broker, address, outgoing: receiver, pending })
    }

    /// Asks the owner of `run`, and again until it answers.
    pub(crate) async fn ask(&self, run: RunId, mut ask: Ask) -> Result<Accepted, EngineError> {
        let queue = run.shard().queue(self.queues);
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let reply = ReplyTo { queue: Arc::clone(&self.reply_queue), correlation_id: Some(id.to_string().into()) };
        ask.set_reply(reply);
        let _waiting = Waiting { pending: &self.pending, id };
        for _ in 0..TIMES {
            let (sender, answer) = oneshot::channel();
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
            if self.outgoing.send((queue, Asked { id, ask: ask.clone() })).await.is_err() {
                break;
            }
            if let Ok(Ok(answer)) = tokio::time::timeout(ASK_AGAIN, answer).await {
                return answer.map_err(refusal);
            }
        }
        Err(EngineError::Unavailable(format!(
            "no coordinator answered for run {run}; it may be carried out later (with a key it is safe to ask again)"
        )))
    }
}

fn refusal(refused: Refused) -> EngineError {
    match &*refused.code {
        "unknown-run" | "unknown-workflow" => EngineError::NotFound(refused.message),
        "damaged" => EngineError::Damaged(refused.message),
        "unavailable" => EngineError::Unavailable(refused.message),
        _ => EngineError::Invalid(refused.message),
    }
}

impl AskerLoops {
    /// Sends what is asked and receives what is answered, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { broker, address, outgoing, pending } = self;
        let answers = receive(Arc::clone(&broker), address, Arc::clone(&pending), shutdown.clone());
        // Either ends with the shutdown, or when the broker has no more to do with us: then whoever started us is told.
        tokio::select! {
            biased;
            () = send(broker, outgoing, pending, shutdown) => {}
            () = answers => {}
        }
    }
}

async fn send(
    broker: SharedBroker,
    mut outgoing: mpsc::Receiver<(u16, Asked)>,
    pending: Pending,
    shutdown: CancellationToken,
) {
    let (mut lanes, mut batch) = (Lanes::<u16, Asked, ()>::new(PER_PUBLISH), Vec::new());
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some((queue, ())) = lanes.done() => {
                let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
                lanes.retain(queue, |asked| pending.contains_key(&asked.id));
            }
            count = outgoing.recv_many(&mut batch, PER_PUBLISH) => if count == 0 { return },
        }
        for (queue, asked) in batch.drain(..) {
            lanes.put(queue, asked);
        }
        lanes.begin(|queue, asked, _| publish(Arc::clone(&broker), messages(queue, still_asked(asked, &pending))));
    }
}

/// What somebody still waits for an answer to, once each: behind a queue that takes nothing, questions are repeated and
/// given up.
fn still_asked(asked: Vec<Asked>, pending: &Pending) -> Vec<Ask> {
    let pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seen = BTreeSet::new();
    asked.into_iter().filter(|it| pending.contains_key(&it.id) && seen.insert(it.id)).map(|it| it.ask).collect()
}

async fn publish(broker: SharedBroker, messages: Vec<Message>) {
    if messages.is_empty() {
        return;
    }
    for error in broker.publish(messages).await.into_iter().filter_map(Result::err) {
        // Whoever asked hears nothing and asks again.
        tracing::warn!(%error, "a request could not be sent to its coordinator queue");
    }
}

/// As few messages as the size of what is asked allows.
fn messages(queue: u16, asks: Vec<Ask>) -> Vec<Message> {
    let (mut starts, mut controls) = (Vec::new(), Vec::new());
    for ask in asks {
        match ask {
            Ask::Start(start) => starts.push(start),
            Ask::Control(control) => controls.push(control),
        }
    }
    let starts = packs(starts).into_iter().filter(|items| !items.is_empty());
    let starts = starts.map(|items| message(queue, &StartRuns { items }));
    let controls = controls.chunks(PER_MESSAGE).map(|items| message(queue, &Controls { items: items.to_vec() }));
    starts.chain(controls).collect()
}

/// Orders in the order given, so many to a message as keep its size moderate; a large one travels alone.
fn packs(orders: Vec<StartRun>) -> Vec<Vec<StartRun>> {
    let (mut packs, mut bytes) = (vec![Vec::new()], 0);
    for order in orders {
        let size = order.data.as_ref().map_or(0, phasework_workflows::Payload::len);
        let last = packs.last().map_or(0, Vec::len);
        if last == PER_MESSAGE || (last > 0 && bytes + size > BYTES_PER_MESSAGE) {
            packs.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(pack) = packs.last_mut() {
            pack.push(order);
        }
    }
    packs
}

fn message<T: Body>(queue: u16, body: &T) -> Message {
    Message::new(Address::Coordinator(queue), T::KIND, encode(body))
}

async fn receive(broker: SharedBroker, address: Address, pending: Pending, shutdown: CancellationToken) {
    let subscription = Subscription { from: address, prefetch: 1000 };
    let Some(mut consumer) = crate::supervisor::subscribe(&broker, &subscription, &shutdown).await else { return };
    loop {
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            deliveries = consumer.next(1000) => deliveries,
        };
        let Ok(deliveries) = deliveries else { return };
        for delivery in &deliveries {
            let id = delivery.correlation_id.as_deref().and_then(|id| id.parse::<u64>().ok());
            let asked = id.and_then(|id| pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
            let Some(asked) = asked else { continue }; // answered before, or given up
            let answer = match &*delivery.kind {
                Refused::KIND => decode::<Refused>(&delivery.body).map(Err),
                _ => decode::<Accepted>(&delivery.body).map(Ok),
            };
            match answer {
                Ok(answer) => drop(asked.send(answer)), // the asker may have given up in this very moment
                Err(error) => tracing::warn!(%error, "an answer could not be read"),
            }
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
        if let Err(error) = consumer.ack(&tags).await {
            tracing::debug!(%error, "answers could not be acknowledged");
        }
    }
}

#[cfg(test)]
mod tests {
    use phasework_broker::memory::MemoryBroker;
    use phasework_workflows::message::event::ControlAction;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_pending_only_while_somebody_waits() {
        let (asker, _loops) = Asker::new(Arc::new(MemoryBroker::new()), "test", 1);
        let run: RunId = serde_json::from_str("\"0198c0de-0000-7000-8000-000000000001\"").unwrap();
        let control = Control {
            run,
            action: ControlAction::Pause,
            id: None,
            deadline: None,
            force: false,
            phase: None,
            data: None,
            reason: None,
            actor: None,
            reply: None,
        };
        let pending = || asker.pending.lock().unwrap().len();
        let mut asking = Box::pin(asker.ask(run, Ask::Control(control)));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut asking).await.is_err());
        assert_eq!(pending(), 1);
        drop(asking);
        assert_eq!(pending(), 0);
    }
}
