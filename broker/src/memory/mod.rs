//! The embedded broker: queues in this process's memory, for one machine and for tests. It keeps every promise of
//! [`Broker`] but durability: what it holds ends with the process.
//!
//! In reading order: [`MemoryBroker`] here is one program's connection; `server` finds queues; `queue` decides who gets
//! the next message; `seat` is what one reader holds; `topic` matches routing keys.

mod queue;
mod seat;
mod server;
mod topic;

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::task::coop::consume_budget;

use self::queue::{Queue, SeatId};
use self::server::Server;
use crate::{Address, Broker, BrokerError, Consumer, Delivery, DeliveryTag, Message, PublishError, Subscription};

/// The most a message's body may hold, in bytes, unless said otherwise.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// One program's connection to an embedded broker. The broker lives as long as any connection or consumer does.
pub struct MemoryBroker {
    server: Arc<Server>,
    program: Arc<Program>,
    max_message_bytes: usize,
}

/// What ends when one program closes its connection.
#[derive(Debug, Default)]
struct Program {
    closed: AtomicBool,
    last_reader: AtomicU64,
    /// The places of its consumers, to leave them when it closes.
    readers: Mutex<BTreeMap<u64, (Arc<Queue>, SeatId)>>,
}

impl MemoryBroker {
    /// A new, empty broker, and the first connection to it.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_message_bytes(MAX_MESSAGE_BYTES)
    }

    /// As [`MemoryBroker::new`], with another limit to the size of messages.
    #[must_use]
    pub fn with_max_message_bytes(max_message_bytes: usize) -> Self {
        Self { server: Arc::default(), program: Arc::default(), max_message_bytes }
    }

    /// A further connection to the same broker, as another program would have: closing one leaves the others alone.
    #[must_use]
    pub fn connect(&self) -> Self {
        Self { server: self.server.clone(), program: Arc::default(), max_message_bytes: self.max_message_bytes }
    }

    /// Loses what waits in a queue; what its readers hold they keep. As an operator's purge does.
    pub fn purge(&self, queue: &Address) {
        if let Some(queue) = self.server.find(queue) {
            queue.purge();
        }
    }

    fn check_size(&self, message: &Message) -> Result<(), PublishError> {
        let (size, limit) = (message.body.len(), self.max_message_bytes);
        if size > limit { Err(PublishError::TooLarge { size, limit }) } else { Ok(()) }
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.program.closed.load(Ordering::Acquire) { Err(BrokerError::Closed) } else { Ok(()) }
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("program", &self.program).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        // Nothing here waits, so a loop of publishes would never let its consumers run on the same thread.
        consume_budget().await;
        let mut results = Vec::with_capacity(messages.len());
        if let Err(closed) = self.check_open() {
            results.resize(messages.len(), Err(PublishError::Unconfirmed(closed.to_string())));
            return results;
        }
        let mut messages = messages.into_iter().peekable();
        while let Some(next) = messages.peek() {
            let to = next.to.clone();
            let first = results.len();
            let same_address = iter::from_fn(|| messages.next_if(|message| message.to == to));
            let accepted = same_address.filter(|message| {
                results.push(self.check_size(message));
                results.last().is_some_and(Result::is_ok)
            });
            if let Err(error) = self.server.publish(&to, accepted) {
                results[first..].iter_mut().filter(|result| result.is_ok()).for_each(|result| {
                    *result = Err(error.clone());
                });
            }
        }
        results
    }

    async fn reply(&self, reply_to: &str, mut message: Message) -> Result<(), PublishError> {
        message.to = server::address_of(reply_to);
        self.check_size(&message)?;
        self.check_open().map_err(|closed| PublishError::Unconfirmed(closed.to_string()))?;
        self.server.reply(message)
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        // Under the lock that `close` takes, so that it misses no consumer.
        let mut readers = self.program.readers();
        self.check_open()?;
        let (queue, seat) = self.server.subscribe(&subscription);
        let reader = self.program.last_reader.fetch_add(1, Ordering::Relaxed);
        readers.insert(reader, (queue.clone(), seat));
        Ok(Box::new(MemoryConsumer { server: self.server.clone(), program: self.program.clone(), reader, queue, seat }))
    }

    fn name_of(&self, address: &Address) -> String {
        server::name_of(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.check_open()?;
        Ok(self.server.find(queue).map_or(0, |queue| queue.depth() as u64))
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.check_open()?;
        self.server.delete(queue);
        Ok(())
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.check_open()
    }

    async fn close(&self) {
        let readers = {
            let mut readers = self.program.readers();
            self.program.closed.store(true, Ordering::Release);
            std::mem::take(&mut *readers)
        };
        for (queue, seat) in readers.into_values() {
            self.server.leave(&queue, seat);
        }
    }
}

impl Program {
    fn readers(&self) -> MutexGuard<'_, BTreeMap<u64, (Arc<Queue>, SeatId)>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer of the embedded broker: a seat at a queue.
struct MemoryConsumer {
    server: Arc<Server>,
    program: Arc<Program>,
    reader: u64,
    queue: Arc<Queue>,
    seat: SeatId,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        consume_budget().await;
        poll_fn(|cx| self.queue.poll_take(self.seat, max, cx)).await
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.queue.ack(self.seat, tags)
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        self.queue.release(self.seat, tags)
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.queue.stop(self.seat);
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.program.readers().remove(&self.reader);
        self.server.leave(&self.queue, self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures::future::join_all;

    use super::MemoryBroker;
    use crate::conformance::{Fixture, checks};
    use crate::{Address, Broker, Message, SharedBroker, Subscription};

    #[async_trait]
    impl Fixture for MemoryBroker {
        async fn connect(&self) -> SharedBroker {
            Arc::new(Self::connect(self))
        }

        fn max_message_bytes(&self) -> usize {
            self.max_message_bytes
        }
    }

    #[tokio::test]
    async fn keeps_every_promise() {
        for (name, check) in checks() {
            println!("{name}");
            check(&MemoryBroker::with_max_message_bytes(1000)).await;
        }
    }

    #[tokio::test]
    async fn a_purge_takes_what_nobody_holds() {
        let broker = MemoryBroker::new();
        let message = |body: &'static str| Message::new(Address::Submit, "Test", body);
        let mut consumer =
            broker.subscribe(Subscription { from: Address::Submit, prefetch: 1 }).await.expect("a subscription");
        broker.publish(vec![message("held"), message("waiting")]).await;
        let held = consumer.next(9).await.expect("a delivery");
        broker.purge(&Address::Submit);
        broker.purge(&Address::Dead); // which is not there
        broker.publish(vec![message("later")]).await;
        consumer.release(&[held[0].tag]).await.expect("a release");
        for expected in ["held", "later"] {
            let next = consumer.next(9).await.expect("a delivery");
            assert_eq!(next.iter().map(|it| &*it.body).collect::<Vec<_>>(), [expected.as_bytes()]);
            consumer.ack(&[next[0].tag]).await.expect("an acknowledgement");
        }
    }

    /// Takes deliveries until it has `count`; acknowledges some, releases some, and now and then leaves with the rest.
    async fn read_unsteadily(broker: Arc<MemoryBroker>, queue: Address, seen: Arc<AtomicUsize>, count: usize) -> usize {
        let mut acknowledged = 0;
        let mut round = 0;
        while seen.load(Ordering::Relaxed) < count {
            let subscription = Subscription { from: queue.clone(), prefetch: 7 };
            let mut consumer = broker.subscribe(subscription).await.expect("a subscription");
            for _ in 0..20 {
                round += 1;
                let Ok(taken) = tokio::time::timeout(std::time::Duration::from_millis(20), consumer.next(5)).await
                else {
                    break;
                };
                let tags: Vec<_> = taken.expect("deliveries").iter().map(|delivery| delivery.tag).collect();
                let (done, back) = tags.split_at(tags.len() - usize::from(round % 3 == 0));
                consumer.ack(done).await.expect("an acknowledgement");
                acknowledged += done.len();
                seen.fetch_add(done.len(), Ordering::Relaxed);
                if round % 2 == 0 {
                    consumer.release(back).await.expect("a release");
                }
            }
        }
        acknowledged
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn loses_nothing_when_readers_come_and_go() {
        const MESSAGES: usize = 20_000;
        for queue in [Address::Submit, Address::Coordinator(1)] {
            let broker = Arc::new(MemoryBroker::new());
            let seen = Arc::new(AtomicUsize::new(0));
            let readers: Vec<_> = (0..4)
                .map(|_| tokio::spawn(read_unsteadily(broker.clone(), queue.clone(), seen.clone(), MESSAGES)))
                .collect();
            for _ in 0..MESSAGES / 100 {
                let batch = vec![Message::new(queue.clone(), "Test", "x"); 100];
                assert!(broker.publish(batch).await.iter().all(Result::is_ok));
            }
            let acknowledged: usize = join_all(readers).await.into_iter().map(|count| count.expect("a reader")).sum();
            assert_eq!((acknowledged, broker.depth(&queue).await.expect("a depth")), (MESSAGES, 0));
        }
    }
}
