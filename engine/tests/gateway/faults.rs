//! Requests and answers that get lost or are made twice, and gateways that die: a program that uses one notices nothing
//! but that some of it comes again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::gateway::{Exchange, Gateway, GatewayOptions, NoAnswer, Request, Response};
use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, Message, Subscription};
use phasework_engine::api::Policy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::world::{Direct, Server, jobs, send, until_depth, within};

/// An exchange of which every third answer is lost, every seventh request, and every fifth is made twice.
#[derive(Debug)]
struct Faulty {
    inner: Direct,
    calls: AtomicU64,
}

#[async_trait]
impl Exchange for Faulty {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call % 7 == 6 {
            return Err(NoAnswer::Lost("the request was lost".into()));
        }
        if call % 5 == 4 {
            self.inner.exchange(server, request.clone()).await?;
        }
        let answer = self.inner.exchange(server, request).await?;
        if call % 3 == 2 { Err(NoAnswer::Lost("the answer was lost".into())) } else { Ok(answer) }
    }
}

fn faulty(broker: &Arc<MemoryBroker>) -> Arc<Faulty> {
    let inner = Direct::new(Arc::<MemoryBroker>::clone(broker), Policy::Everything);
    Arc::new(Faulty { inner, calls: AtomicU64::default() })
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_neither_lost_nor_doubled_within_a_session() {
    let broker = Arc::new(MemoryBroker::new());
    let program = Gateway::over(faulty(&broker), GatewayOptions::new("")).await.unwrap();
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 20 }).await.unwrap();
    let bodies: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let sending = async {
        for some in bodies.chunks(7) {
            send(&*broker, &jobs(), &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut found = Vec::new();
        while found.len() < bodies.len() {
            let deliveries = consumer.next(9).await.unwrap();
            assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
            found.extend(deliveries.iter().map(|delivery| String::from_utf8(delivery.body.to_vec()).unwrap()));
            consumer.ack(&deliveries.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await.unwrap();
        }
        found
    };
    let ((), found) = tokio::join!(sending, reading);
    assert_eq!(found, bodies);
    program.close().await;
    until_depth(&broker, &jobs(), 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_published_until_it_is_confirmed_arrives() {
    let broker = Arc::new(MemoryBroker::new());
    let program = Arc::new(Gateway::over(faulty(&broker), GatewayOptions::new("")).await.unwrap());
    let publishing = (0..200).map(|number| {
        let program = Arc::clone(&program);
        async move {
            let message = Message::new(Address::Submit, "Submit", number.to_string());
            while program.publish(vec![message.clone()]).await.remove(0).is_err() {}
        }
    });
    futures::future::join_all(publishing).await;
    let mut consumer = broker.subscribe(Subscription { from: Address::Submit, prefetch: 10_000 }).await.unwrap();
    let arrived = consumer.next(10_000).await.unwrap();
    let bodies: BTreeSet<_> = arrived.iter().map(|delivery| delivery.body.clone()).collect();
    assert_eq!(bodies.len(), 200);
    assert!(arrived.len() > 200, "what was done and not answered is done again");
}

#[tokio::test]
async fn a_gateway_that_dies_and_comes_back_is_found_again() {
    let broker = Arc::new(MemoryBroker::new());
    let server = Server::start(Arc::new(broker.connect()), Policy::Workers).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let program = server.connect().await;
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 2 }).await.unwrap();
    send(&*broker, &jobs(), &["1", "2", "3"]).await;
    let before = within(consumer.next(9)).await.unwrap();
    server.stop().await;
    // What it held has gone back, as the connection is lost.
    until_depth(&broker, &jobs(), 3).await;
    let server = Server::start_at(&address, Arc::new(broker.connect()), Policy::Workers).await;
    let mut again = within(consumer.next(9)).await.unwrap();
    while again.len() < 2 {
        again.extend(within(consumer.next(9)).await.unwrap());
    }
    let shown: Vec<_> = again.iter().map(|delivery| (delivery.body.as_ref(), delivery.redelivered)).collect();
    assert_eq!(shown, [(b"1".as_slice(), true), (b"2", true)]);
    assert!(again[0].tag.generation > before[0].tag.generation);
    // Tags of the session before settle nothing; those of this one do.
    consumer.ack(&before.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await.unwrap();
    consumer.ack(&[again[0].tag, again[1].tag]).await.unwrap();
    assert_eq!(within(consumer.next(9)).await.unwrap()[0].body.as_ref(), b"3");
    program.health().unwrap();
    within(program.close()).await;
    server.stop().await;
    until_depth(&broker, &jobs(), 1).await;
}

#[tokio::test]
async fn of_several_gateways_one_that_is_there_is_used() {
    let broker = Arc::new(MemoryBroker::new());
    let (one, two) = (
        Server::start(Arc::new(broker.connect()), Policy::Everything).await,
        Server::start(Arc::new(broker.connect()), Policy::Everything).await,
    );
    let urls = format!("http://127.0.0.1:1,{},{}", one.url, two.url);
    let program = within(Gateway::connect(GatewayOptions::new(&urls))).await.unwrap();
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 2 }).await.unwrap();
    one.stop().await;
    send(&program, &jobs(), &["1"]).await;
    assert_eq!(within(consumer.next(9)).await.unwrap()[0].body.as_ref(), b"1");
    within(program.close()).await;
    two.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_lets_its_workers_go_on_elsewhere_at_once() {
    let broker = Arc::new(MemoryBroker::new());
    let (one, two) = (
        Server::start(Arc::new(broker.connect()), Policy::Workers).await,
        Server::start(Arc::new(broker.connect()), Policy::Workers).await,
    );
    let urls = format!("{},{}", one.url, two.url);
    let program = within(Gateway::connect(GatewayOptions::new(&urls))).await.unwrap();
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 2 }).await.unwrap();
    send(&*broker, &jobs(), &["1", "2", "3"]).await;
    let mut before = within(consumer.next(9)).await.unwrap();
    while before.len() < 2 {
        before.extend(within(consumer.next(9)).await.unwrap());
    }
    consumer.ack(&[before[0].tag]).await.unwrap();
    before.push(within(consumer.next(9)).await.unwrap().remove(0));
    // Somebody else is in the midst of a request that will not end: stopping has to wait for that one for a while.
    let mut other = TcpStream::connect(one.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /v1/gateway/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    other.write_all(head.as_bytes()).await.unwrap();
    let mut goes_on = [0; 25];
    within(other.read_exact(&mut goes_on)).await.unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let begun = tokio::time::Instant::now();
    one.shutdown.cancel();
    let mut again = within(consumer.next(9)).await.unwrap();
    while again.len() < 2 {
        again.extend(within(consumer.next(9)).await.unwrap());
    }
    // Long before the server is done, and before a session of which nothing is heard would end.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(!one.served.is_finished(), "it waits for that request");
    let mut shown: Vec<_> = again.iter().map(|delivery| (delivery.body.as_ref(), delivery.redelivered)).collect();
    shown.sort_unstable();
    assert_eq!(shown, [(b"2".as_slice(), true), (b"3", true)], "what was settled does not come again");
    consumer.ack(&again.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await.unwrap();
    within(program.close()).await;
    until_depth(&broker, &jobs(), 0).await;
    drop(other);
    one.stop().await;
    two.stop().await;
}

/// A way on which answers can be cut off. It counts the sessions that are opened.
#[derive(Debug)]
struct Cut {
    inner: Direct,
    /// What the path of a request has in it whose answer is lost.
    of: Mutex<Option<&'static str>>,
    opened: AtomicU64,
}

impl Cut {
    fn cut(&self, of: Option<&'static str>) {
        *self.of.lock().unwrap() = of;
    }
}

#[async_trait]
impl Exchange for Cut {
    fn servers(&self) -> usize {
        1
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        if request.path.ends_with("/sessions") {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        let path = request.path.clone();
        let answer = self.inner.exchange(server, request).await;
        if self.of.lock().unwrap().is_some_and(|of| path.contains(of)) {
            return Err(NoAnswer::Lost("the way back is cut".into()));
        }
        answer
    }
}

/// A program, and the way that it has.
async fn cuttable(broker: &Arc<MemoryBroker>) -> (Gateway, Arc<Cut>) {
    let inner = Direct::new(Arc::<MemoryBroker>::clone(broker), Policy::Workers);
    let way = Arc::new(Cut { inner, of: Mutex::default(), opened: AtomicU64::default() });
    (Gateway::over(Arc::<Cut>::clone(&way), GatewayOptions::new("")).await.unwrap(), way)
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_long_silence_costs_no_session() {
    let broker = Arc::new(MemoryBroker::new());
    let (program, way) = cuttable(&broker).await;
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 2 }).await.unwrap();
    send(&*broker, &jobs(), &["1"]).await;
    let held = within(consumer.next(9)).await.unwrap();
    // The poll after that waits, and there is nothing to be heard.
    sleep(Duration::from_secs(15)).await;
    way.cut(Some("/settle"));
    consumer.ack(&[held[0].tag]).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    way.cut(None);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(way.opened.load(Ordering::Relaxed), 1, "it is as good as before");
    program.close().await;
    until_depth(&broker, &jobs(), 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_given_up_takes_nothing_more() {
    let broker = Arc::new(MemoryBroker::new());
    let (program, way) = cuttable(&broker).await;
    let mut consumer = program.subscribe(Subscription { from: jobs(), prefetch: 2 }).await.unwrap();
    // What is delivered does not arrive, until the program looks for another session.
    way.cut(Some(""));
    send(&*broker, &jobs(), &["1"]).await;
    sleep(Duration::from_secs(15)).await;
    way.cut(None);
    let begun = tokio::time::Instant::now();
    send(&*broker, &jobs(), &["2", "3", "4"]).await;
    let mut found = Vec::new();
    while found.len() < 4 {
        let deliveries = within(consumer.next(9)).await.unwrap();
        consumer.ack(&deliveries.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await.unwrap();
        found.extend(deliveries.iter().map(|delivery| delivery.body.clone()));
    }
    found.sort();
    assert_eq!(found, ["1", "2", "3", "4"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    program.close().await;
}
