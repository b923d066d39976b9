//! Publishing through the gateway. What is published at once travels together: while requests are under way, others
//! gather. It asks again what was surely not done; what may have been done is the caller's to decide.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::{Door, Failure, Method, Request};
use super::keeper::json;
use super::pauses::Pauses;
use super::wire::{Publish, Published, ROOT, Results};
use crate::{Message, PublishError};

/// How many requests may be under way.
const REQUESTS: usize = 4;

/// The most messages, and about the most bytes, that are gathered for one request.
const MAX_MESSAGES: usize = 1000;
const MAX_BYTES: usize = 2 << 20;

/// How long the gateway's broker may take to confirm.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);

/// What became of one message.
type Fate = Result<(), PublishError>;

pub(super) struct Publisher {
    pub(super) door: Door,
    pub(super) server: Arc<AtomicUsize>,
    /// How long nobody may be there.
    pub(super) patience: Duration,
    pub(super) seed: u64,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Parcel>,
    under_way: usize,
}

/// What one call publishes, or a part of it.
struct Parcel {
    messages: Vec<Message>,
    /// Of an answer, the queue that it goes to.
    queue: Option<Arc<str>>,
    bytes: usize,
    results: oneshot::Sender<Vec<Fate>>,
}

impl Publisher {
    pub(super) fn new(
        door: Door,
        server: Arc<AtomicUsize>,
        patience: Duration,
        seed: u64,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { door, server, patience, seed, closing, tasks, line: Mutex::default() })
    }

    /// Publishes; one result for each message, in order.
    pub(super) async fn publish(self: &Arc<Self>, messages: Vec<Message>, queue: Option<&str>) -> Vec<Fate> {
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        // One part after the other, so that what is for one address arrives in order.
        while messages.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(message) = messages.next_if(|next| fits(part.len(), bytes, next)) {
                bytes += message.body.len();
                part.push(message);
            }
            results.extend(self.send(part, bytes, queue.map(Arc::from)).await);
        }
        results
    }

    async fn send(self: &Arc<Self>, messages: Vec<Message>, bytes: usize, queue: Option<Arc<str>>) -> Vec<Fate> {
        let count = messages.len();
        let (results, done) = oneshot::channel();
        self.line_up(Parcel { messages, queue, bytes, results });
        done.await.unwrap_or_else(|_| vec![Err(PublishError::Unconfirmed("closed".to_owned())); count])
    }

    /// Has a parcel sent: at once, or with the next request.
    fn line_up(self: &Arc<Self>, parcel: Parcel) {
        let mut line = self.lock();
        line.waiting.push_back(parcel);
        if line.under_way < REQUESTS {
            line.under_way += 1;
            self.tasks.spawn(Arc::clone(self).work());
        }
    }

    /// Sends what waits, until nothing does.
    async fn work(self: Arc<Self>) {
        while let Some(parcels) = self.gather() {
            let fates = tokio::select! {
                biased;
                fates = self.ask_all(&parcels) => fates,
                () = self.closing.cancelled() => {
                    let closed = PublishError::Unconfirmed("closed".to_owned());
                    vec![Err(closed); parcels.iter().map(|parcel| parcel.messages.len()).sum()]
                }
            };
            tell(parcels, fates);
        }
    }

    /// What goes with the next request. None when nothing waits; the request is then no longer under way.
    fn gather(&self) -> Option<Vec<Parcel>> {
        let mut line = self.lock();
        let (mut parcels, mut count, mut bytes) = (Vec::<Parcel>::new(), 0, 0);
        while let Some(next) = line.waiting.front()
            && (parcels.is_empty() || count + next.messages.len() <= MAX_MESSAGES && bytes + next.bytes <= MAX_BYTES)
        {
            count += next.messages.len();
            bytes += next.bytes;
            parcels.extend(line.waiting.pop_front());
        }
        if parcels.is_empty() {
            line.under_way -= 1;
            return None;
        }
        Some(parcels)
    }

    /// What became of each message. What is too much for one request goes in two, one after the other.
    async fn ask_all(&self, parcels: &[Parcel]) -> Vec<Fate> {
        let deadline = Instant::now() + self.patience;
        let mut all = Vec::new();
        for Parcel { messages, queue, .. } in parcels {
            all.extend(messages.iter().map(|message| Published::of(message, queue.as_deref())));
        }
        let (mut fates, mut parts) = (Vec::with_capacity(all.len()), vec![all]);
        while let Some(mut part) = parts.pop() {
            let count = part.len();
            let publish = Publish { messages: part };
            let sent = self.ask(json(&publish), deadline).await.and_then(|Results { results }| match results.len() {
                some if some == count => Ok(results),
                some => Err(Failure::Unknown(format!("{some} results for {count} messages"))),
            });
            part = publish.messages;
            match sent {
                Ok(results) => fates.extend(results.into_iter().map(Fate::from)),
                Err(Failure::TooLarge(_)) if count > 1 => {
                    let rest = part.split_off(count / 2);
                    parts.extend([rest, part]);
                }
                Err(failure) => fates.extend(part.iter().map(|message| Err(judge(&failure, message)))),
            }
        }
        fates
    }

    async fn ask(&self, body: Bytes, deadline: Instant) -> Result<Results, Failure> {
        let request = Request { method: Method::Post, path: format!("{ROOT}/publish"), body };
        let mut pauses = Pauses::new(self.seed);
        loop {
            let server = self.server.load(Ordering::Relaxed);
            let failure = match self.door.ask(server, request.clone(), CONFIRMED_WITHIN).await {
                Ok(body) => {
                    return serde_json::from_slice(&body)
                        .map_err(|error| Failure::Unknown(format!("the answer cannot be read: {error}")));
                }
                Err(failure @ (Failure::NobodyThere(_) | Failure::NotNow(_))) => failure,
                Err(failure) => return Err(failure),
            };
            let pause = pauses.pause();
            if Instant::now() + pause > deadline {
                return Err(failure);
            }
            // Somebody else may be there. (The session is kept where it is until that is lost.)
            let next = (server + 1) % self.door.0.servers().max(1);
            let _elsewhere = self.server.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
            sleep(pause).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(count: usize, bytes: usize, next: &Message) -> bool {
    count == 0 || count < MAX_MESSAGES && bytes + next.body.len() <= MAX_BYTES
}

/// Tells everybody what became of theirs.
fn tell(parcels: Vec<Parcel>, fates: Vec<Fate>) {
    let mut fates = fates.into_iter();
    for Parcel { messages, results, .. } in parcels {
        // Whoever asked may not wait any more.
        drop(results.send(fates.by_ref().take(messages.len()).collect()));
    }
}

/// What a failed request means for a message of it.
fn judge(failure: &Failure, message: &Published<'_>) -> PublishError {
    match failure {
        Failure::TooLarge(_) => {
            let (body, base64) = (message.body.map_or(0, |body| body.get().len()), message.body_base64.as_ref());
            let size = base64.map_or(body, String::len);
            PublishError::TooLarge { size, limit: super::MAX_MESSAGE_BYTES }
        }
        _ => PublishError::Unconfirmed(failure.words().to_owned()),
    }
}
