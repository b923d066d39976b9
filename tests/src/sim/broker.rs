//! The broker as a simulated program sees it: a connection that may be lost at any time, over which messages get lost,
//! come twice, and come late.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{
    Address, Broker, BrokerError, Consumer, Delivery, DeliveryTag, Message, PublishError, Subscription,
};
use tokio::time::sleep;

use super::breaks::Break;
use super::fault::Fault;
use super::hub::{Hub, Trouble};
use super::process::Process;

/// How long a message may be on its way when it comes late.
const LATEST: u64 = 20_000;

/// A program's connection.
#[derive(Clone, Debug)]
pub(super) struct SimBroker(Arc<Program>);

#[derive(Debug)]
struct Program {
    hub: Arc<Hub>,
    process: Arc<Process>,
    /// The connection as it is now, how many brokers there were before the one that it is to, and its number.
    connection: Mutex<(Arc<MemoryBroker>, u64, u64)>,
    closed: AtomicBool,
}

impl SimBroker {
    pub(super) fn new(hub: &Arc<Hub>, process: &Arc<Process>) -> Self {
        let (broker, number) = hub.broker();
        let connection = Mutex::new((Arc::new(broker.connect()), number, 0));
        let (hub, process) = (Arc::clone(hub), Arc::clone(process));
        Self(Arc::new(Program { hub, process, connection, closed: <_>::default() }))
    }

    /// Has the program lose its connection: what it holds goes to others, and it connects anew.
    pub(super) async fn lose_connection(&self) {
        let lost = {
            let mut connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let (broker, number) = self.0.hub.broker();
            let next = connection.2 + 1;
            std::mem::replace(&mut *connection, (Arc::new(broker.connect()), number, next)).0
        };
        lost.close().await;
    }

    /// Ends the connection for good, as the end of its program does.
    pub(super) async fn end(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        let (connection, _) = self.0.connected();
        connection.close().await;
    }
}

impl Program {
    /// The connection as it is now, made anew when the broker is another one, and its number.
    fn connected(&self) -> (Arc<MemoryBroker>, u64) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let (broker, number) = self.hub.broker();
        if connection.1 != number && !self.closed.load(Ordering::Relaxed) {
            *connection = (Arc::new(broker.connect()), number, connection.2 + 1);
        }
        (Arc::clone(&connection.0), connection.2)
    }

    /// The connection, unless there is none now.
    fn reach(&self) -> Result<Arc<MemoryBroker>, BrokerError> {
        match self.health() {
            Err(error) => Err(error),
            Ok(()) => Ok(self.connected().0),
        }
    }

    fn health(&self) -> Result<(), BrokerError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(BrokerError::Closed);
        }
        let away = self.hub.has(Trouble::BrokerAway);
        if away { Err(BrokerError::Unavailable("the simulated broker is away".into())) } else { Ok(()) }
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let unconfirmed = || PublishError::Unconfirmed("so the simulation has it".into());
        let connection = self.reach().map_err(|error| PublishError::Unconfirmed(error.to_string()))?;
        let (faults, is_marker) = (&self.hub.faults, matches!(message.to, Address::Marker(_)));
        if faults.strikes(Fault::PublishLost) {
            return Err(unconfirmed());
        }
        // Who finds the marker gone, although it was confirmed, takes the broker for lost. It is never late.
        if !is_marker && faults.strikes(Fault::Delay) {
            let (broker, number) = self.hub.broker();
            let (hub, late) = (Arc::clone(&self.hub), Duration::from_millis(self.hub.below(LATEST)));
            tokio::spawn(async move {
                sleep(late).await;
                if hub.broker().1 == number {
                    // Whoever it was for may be gone by now.
                    let _gone = deliver(&broker, message).await;
                }
            });
            return Ok(());
        }
        if faults.strikes(Fault::Duplicate) {
            deliver(&connection, message.clone()).await?;
        }
        deliver(&connection, message).await?;
        if faults.strikes(Fault::ConfirmLost) { Err(unconfirmed()) } else { Ok(()) }
    }
}

async fn deliver(broker: &MemoryBroker, message: Message) -> Result<(), PublishError> {
    broker.publish(vec![message]).await.remove(0)
}

#[async_trait]
impl Broker for SimBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), PublishError>> {
        let Program { hub, process, .. } = &*self.0;
        hub.before_call(process).await;
        let mut results = Vec::with_capacity(messages.len());
        let are_served = hub.publishers_served().await;
        process.gate().await;
        for message in messages {
            if !are_served {
                results.push(Err(PublishError::Unconfirmed("the simulated broker has an alarm".into())));
                continue;
            }
            hub.witness.sends(&message);
            if hub.rewinds() == 0 {
                hub.witness.is_committed(&*hub.store(), &message).await;
            }
            let result = self.0.publish(message.clone()).await;
            if result.is_ok() {
                hub.witness.sent(&process.name, &message);
            }
            results.push(result);
        }
        hub.after_call(process, results.iter().all(Result::is_ok)).await;
        results
    }

    async fn reply(&self, reply_to: &str, mut message: Message) -> Result<(), PublishError> {
        let Program { hub, process, .. } = &*self.0;
        hub.before_call(process).await;
        message.to = Address::Private(reply_to.into());
        hub.witness.answers(&*hub.store(), &message).await;
        let result = self.0.publish(message).await;
        hub.after_call(process, result.is_ok()).await;
        result
    }

    async fn subscribe(&self, subscription: Subscription) -> Result<Box<dyn Consumer>, BrokerError> {
        let Program { hub, process, .. } = &*self.0;
        hub.before_call(process).await;
        self.0.reach()?;
        Ok(Box::new(SimConsumer {
            program: Arc::clone(&self.0),
            subscription,
            inner: None,
            generation: 0,
            held: Mutex::default(),
            waiting: Vec::new(),
            stopped: false,
        }))
    }

    fn name_of(&self, address: &Address) -> String {
        self.0.connected().0.name_of(address)
    }

    async fn depth(&self, queue: &Address) -> Result<u64, BrokerError> {
        self.0.hub.before_call(&self.0.process).await;
        let depth = self.0.reach()?.depth(queue).await;
        self.0.hub.after_call(&self.0.process, depth.is_ok()).await;
        depth
    }

    async fn delete(&self, queue: &Address) -> Result<(), BrokerError> {
        self.0.hub.before_call(&self.0.process).await;
        let deleted = self.0.reach()?.delete(queue).await;
        self.0.hub.after_call(&self.0.process, deleted.is_ok()).await;
        deleted
    }

    fn health(&self) -> Result<(), BrokerError> {
        self.0.health()
    }

    async fn close(&self) {
        self.end().await;
    }
}

/// A consumer that subscribes anew whenever its connection was lost.
struct SimConsumer {
    program: Arc<Program>,
    subscription: Subscription,
    /// The subscription, and the number of the connection that it is on.
    inner: Option<(Box<dyn Consumer>, u64)>,
    /// How many subscriptions there have been: tags of earlier ones acknowledge nothing.
    generation: u64,
    /// What was handed out and is not settled, and how often the store had gone back by then.
    held: Mutex<BTreeMap<DeliveryTag, (Delivery, u64)>>,
    /// What arrived while the program stood still.
    waiting: Vec<Delivery>,
    stopped: bool,
}

impl SimConsumer {
    fn held(&self) -> MutexGuard<'_, BTreeMap<DeliveryTag, (Delivery, u64)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_connected(&self) -> bool {
        self.inner.as_ref().is_some_and(|(_, number)| *number == self.program.connected().1)
    }

    /// Subscribes, if that is to be done. Nothing is awaited between subscribing and keeping the subscription.
    async fn connect(&mut self) -> Result<(), BrokerError> {
        loop {
            self.program.process.gate().await;
            if self.is_connected() {
                return Ok(());
            }
            self.inner = None;
            self.held().clear();
            self.waiting.clear();
            if self.stopped {
                return Err(BrokerError::Closed);
            }
            match self.program.health() {
                Err(BrokerError::Closed) => return Err(BrokerError::Closed),
                Err(_) => sleep(Duration::from_millis(500)).await,
                Ok(()) => {
                    let (connection, number) = self.program.connected();
                    self.inner = Some((connection.subscribe(self.subscription.clone()).await?, number));
                    self.generation += 1;
                }
            }
        }
    }

    /// Waits until something has arrived.
    async fn receive(&mut self, max: usize) -> Result<(), BrokerError> {
        let Some((inner, _)) = &mut self.inner else { return Ok(()) };
        match inner.next(max).await {
            Ok(mut deliveries) => {
                deliveries.iter_mut().for_each(|delivery| delivery.tag.generation |= self.generation << 32);
                self.waiting = deliveries;
                Ok(())
            }
            Err(BrokerError::Closed) if !self.is_connected() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Settles deliveries with the connection they came over; those of an earlier one come again.
    fn settle(&self, tags: &[DeliveryTag]) -> (Vec<DeliveryTag>, Vec<(Delivery, u64)>) {
        let mut held = self.held();
        let is_current = |tag: &&DeliveryTag| tag.generation >> 32 == self.generation && self.is_connected();
        let current: Vec<_> = tags.iter().filter(is_current).collect();
        let deliveries = current.iter().filter_map(|tag| held.remove(tag)).collect();
        let inner = |tag: &DeliveryTag| DeliveryTag { generation: tag.generation & 0xffff_ffff, ..*tag };
        (current.into_iter().map(inner).collect(), deliveries)
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            self.connect().await?;
            if self.waiting.is_empty() {
                self.receive(max).await?;
            }
            if self.waiting.is_empty() || !self.program.process.runs() || !self.is_connected() {
                continue; // it stands still, or what arrived goes to others
            }
            let deliveries = std::mem::take(&mut self.waiting);
            let Program { hub, process, .. } = &*self.program;
            hub.witness.delivered(process, &deliveries);
            let rewinds = hub.rewinds();
            self.held().extend(deliveries.iter().map(|delivery| (delivery.tag, (delivery.clone(), rewinds))));
            if hub.broken == Some(Break::AckEarly) {
                let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
                self.ack(&tags).await?;
            }
            return Ok(deliveries);
        }
    }

    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        let Program { hub, process, .. } = &*self.program;
        hub.before_call(process).await;
        if hub.faults.strikes(Fault::AckLost) {
            SimBroker(Arc::clone(&self.program)).lose_connection().await;
        }
        let (tags, deliveries) = self.settle(tags);
        for (delivery, rewinds) in &deliveries {
            if *rewinds == hub.rewinds() {
                hub.witness.acknowledges(&*hub.store(), process.role, delivery, *rewinds).await;
            }
        }
        if let (Some((inner, _)), false) = (&self.inner, tags.is_empty()) {
            inner.ack(&tags).await?;
        }
        hub.after_call(process, true).await;
        Ok(())
    }

    async fn release(&self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        let Program { hub, process, .. } = &*self.program;
        hub.before_call(process).await;
        let (tags, _) = self.settle(tags);
        if let (Some((inner, _)), false) = (&self.inner, tags.is_empty()) {
            inner.release(&tags).await?;
        }
        hub.after_call(process, true).await;
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), BrokerError> {
        self.program.process.gate().await;
        self.stopped = true;
        match &mut self.inner {
            Some((inner, _)) => inner.stop().await,
            None => Ok(()),
        }
    }
}
