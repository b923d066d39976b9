//! What consumers want done through a gateway: it is done, and in order, whatever is refused or comes in between.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::gateway::{Exchange, Gateway, GatewayOptions, Method, NoAnswer, Request, Response};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, BrokerError, Consumer, Message, Subscription};
use phasework_engine::api::Policy;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::world::{Direct, jobs, send, until_depth, within};

/// A way to a gateway on which something happens.
#[derive(Debug)]
struct Way<T> {
    inner: Direct,
    told: T,
}

impl<T: Default> Way<T> {
    fn new(broker: &Arc<MemoryBroker>) -> Arc<Self> {
        let inner = Direct::new(Arc::<MemoryBroker>::clone(broker), Policy::Workers);
        Arc::new(Self { inner, told: T::default() })
    }
}

/// Requests to settle are refused, so many times, and if they settle more than so many; of the others it keeps the bodies.
#[derive(Debug, Default)]
struct Refusing {
    times: AtomicUsize,
    most: AtomicUsize,
    settled: Mutex<Vec<u64>>,
}

#[async_trait]
impl Exchange for Way<Refusing> {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        if !request.path.ends_with("/settle") {
            return self.inner.exchange(server, request).await;
        }
        let refused = |status, words: &'static str| Ok(Response { status, body: words.into() });
        if self.told.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return refused(403, "<html>not today</html>");
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let numbers: Vec<_> = body["ack"].as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
        if numbers.len() > self.told.most.load(Ordering::Relaxed) {
            return refused(413, "<html>too much</html>");
        }
        let answer = self.inner.exchange(server, request).await?;
        self.told.settled.lock().unwrap().extend(numbers);
        Ok(answer)
    }
}

async fn subscribe(program: &Gateway, from: &Address, prefetch: u16) -> Box<dyn Consumer> {
    within(program.subscribe(Subscription { from: from.clone(), prefetch })).await.unwrap()
}

/// Takes so many deliveries, and acknowledges them.
async fn take(consumer: &mut dyn Consumer, count: usize) {
    let mut tags = Vec::new();
    while tags.len() < count {
        tags.extend(within(consumer.next(count)).await.unwrap().iter().map(|delivery| delivery.tag));
    }
    consumer.ack(&tags).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_are_refused_are_sent_again() {
    let broker = Arc::new(MemoryBroker::new());
    let way = Way::<Refusing>::new(&broker);
    way.told.most.store(1, Ordering::Relaxed);
    way.told.times.store(3, Ordering::Relaxed);
    let program = Gateway::over(Arc::<Way<Refusing>>::clone(&way), GatewayOptions::new("")).await.unwrap();
    let mut consumer = subscribe(&program, &jobs(), 10).await;
    send(&*broker, &jobs(), &["1", "2", "3"]).await;
    take(&mut *consumer, 3).await;
    // The session goes on meanwhile.
    send(&*broker, &jobs(), &["4"]).await;
    take(&mut *consumer, 1).await;
    within(async {
        while way.told.settled.lock().unwrap().len() < 4 {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(*way.told.settled.lock().unwrap(), [1, 2, 3, 4]);
    program.close().await;
    until_depth(&broker, &jobs(), 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_settled_before_its_subscription_is_dropped() {
    let broker = Arc::new(MemoryBroker::new());
    for (refused, most) in [(0, 5000), (2, 5000), (0, 100)] {
        let way = Way::<Refusing>::new(&broker);
        way.told.most.store(most, Ordering::Relaxed);
        let program = Gateway::over(Arc::<Way<Refusing>>::clone(&way), GatewayOptions::new("")).await.unwrap();
        const COUNT: usize = 1000;
        let queues: Vec<_> = (0..3).map(|number| Address::Jobs(format!("Echo.{number}").into())).collect();
        let mut consumers = Vec::new();
        for queue in &queues {
            let messages = (0..COUNT).map(|_| Message::new(queue.clone(), "Jobs", "{}")).collect();
            for result in broker.publish(messages).await {
                result.unwrap();
            }
            consumers.push(subscribe(&program, queue, COUNT as u16).await);
        }
        way.told.times.store(refused, Ordering::Relaxed);
        let mut tags = Vec::new();
        for consumer in &mut consumers {
            let mut held = Vec::new();
            while held.len() < COUNT {
                held.extend(within(consumer.next(COUNT)).await.unwrap().iter().map(|delivery| delivery.tag));
            }
            tags.push(held);
        }
        // All at once, as when a worker has drained.
        for (consumer, tags) in consumers.iter().zip(&tags) {
            consumer.ack(tags).await.unwrap();
        }
        drop(consumers);
        within(async {
            while way.told.settled.lock().unwrap().len() < queues.len() * COUNT {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        within(program.close()).await;
        for queue in &queues {
            assert_eq!(broker.depth(queue).await.unwrap(), 0, "{queue:?} {refused} {most}");
        }
    }
}

/// The session is lost when that is wanted, and subscribing then takes a while.
#[derive(Debug, Default)]
struct Losing {
    lose: AtomicBool,
    is_slow: AtomicBool,
    subscribing: Notify,
}

#[async_trait]
impl Exchange for Way<Losing> {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        if let Some(session) = request.path.strip_suffix("/next")
            && self.told.lose.swap(false, Ordering::Relaxed)
        {
            let end = Request { method: Method::Delete, path: session.to_owned(), body: request.body.slice(..0) };
            self.inner.exchange(server, end).await?;
        }
        if request.method == Method::Put && self.told.is_slow.load(Ordering::Relaxed) {
            self.told.subscribing.notify_one();
            sleep(Duration::from_secs(1)).await;
        }
        self.inner.exchange(server, request).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_stops_while_it_is_subscribed_anew_takes_nothing() {
    let broker = Arc::new(MemoryBroker::new());
    let way = Way::<Losing>::new(&broker);
    let program = Gateway::over(Arc::<Way<Losing>>::clone(&way), GatewayOptions::new("")).await.unwrap();
    let mut consumer = subscribe(&program, &jobs(), 10).await;
    way.told.is_slow.store(true, Ordering::Relaxed);
    way.told.lose.store(true, Ordering::Relaxed);
    within(way.told.subscribing.notified()).await;
    within(consumer.stop()).await.unwrap();
    // By now it would have been subscribed.
    sleep(Duration::from_secs(5)).await;
    send(&*broker, &jobs(), &["1", "2"]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(broker.depth(&jobs()).await.unwrap(), 2, "others have them");
    assert!(matches!(within(consumer.next(10)).await, Err(BrokerError::Closed)));
    program.close().await;
}
