//! The task that keeps a session: opens it, polls for deliveries, and opens another one when it is lost, for ever. What
//! consumers want done is in `errands`. It publishes nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::{Desk, MAX_SETTLED, Orders};
use super::exchange::{Door, Failure, Method, Request};
use super::pauses::Pauses;
use super::wire::{Deliveries, Next, Open, Opened, ROOT, Settle};
use crate::BrokerError;

/// How long an answer may take that need not wait for anything but the broker.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How much longer than it was asked to wait a poll may take.
const LATE: Duration = Duration::from_secs(5);

/// A session on which everything has failed for so long is given up for another.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long it is worth telling a server that a session is given up: about as long as that lives by itself.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(30);

/// The most deliveries taken in one answer.
const AT_ONCE: usize = 1000;

pub(super) struct Keeper {
    pub(super) door: Door,
    pub(super) desk: Arc<Desk>,
    /// The server that is asked first. Who finds that nobody is there chooses the next.
    pub(super) server: Arc<AtomicUsize>,
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// A session.
pub(super) struct Live {
    pub(super) server: usize,
    pub(super) path: String,
    /// Its number among all.
    pub(super) number: u64,
    wait: Duration,
    pulse: Mutex<Pulse>,
}

/// When something was heard of a session.
struct Pulse {
    heard: Instant,
    /// When the first request was made that failed since.
    failing: Option<Instant>,
}

/// Why a session is over.
enum End {
    Closed,
    Lost(Failure),
}

impl Live {
    pub(super) fn heard(&self) {
        *self.pulse() = Pulse { heard: Instant::now(), failing: None };
    }

    /// A request failed that was made then. Whether the session is lost: where nothing was asked, silence means nothing.
    fn failed(&self, asked: Instant) -> bool {
        let mut pulse = self.pulse();
        let failing = *pulse.failing.get_or_insert(asked);
        failing.max(pulse.heard).elapsed() > LOST_AFTER
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self, method: Method, path: &str, body: &impl Serialize) -> Request {
        Request { method, path: format!("{}{path}", self.path), body: json(body) }
    }
}

pub(super) fn json(body: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(body).expect("requests are structs of plain data"))
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::Unknown(format!("the answer cannot be read: {error}")))
}

/// Ends a session that was given up for another, as soon as it can be told. Until its server ends it by itself, it would go
/// on taking deliveries, for nobody.
async fn give_up(door: Door, live: Live, seed: u64) {
    let mut pauses = Pauses::new(seed);
    let until = Instant::now() + GIVEN_UP_WITHIN;
    while Instant::now() < until {
        let end = Request { method: Method::Delete, path: live.path.clone(), body: Bytes::new() };
        match door.ask(live.server, end, GOODBYE).await {
            Err(Failure::Unknown(_) | Failure::NotNow(_)) => sleep(pauses.pause()).await,
            _ => return,
        }
    }
}

impl Keeper {
    /// Opens a session at any of the servers.
    async fn open(&self) -> Result<(usize, Opened), Failure> {
        let mut failure = Failure::NobodyThere("there is no server".to_owned());
        for _ in 0..self.door.0.servers() {
            let server = self.server.load(Ordering::Relaxed);
            let body = json(&Open { name: Some(self.name.clone()) });
            let request = Request { method: Method::Post, path: format!("{ROOT}/sessions"), body };
            match self.door.ask(server, request, ANSWER_WITHIN).await.and_then(|body| read(&body)) {
                Ok(opened) => return Ok((server, opened)),
                Err(why) => failure = why,
            }
            self.leave_server(server);
        }
        Err(failure)
    }

    /// Lets the next server have its turn, unless somebody else has seen to that.
    fn leave_server(&self, server: usize) {
        let next = (server + 1) % self.door.0.servers().max(1);
        let _elsewhere = self.server.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Keeps a session until the broker is closed; says through `ready` what came of the first attempt to open one. The
    /// second is for who waits for all of it to be over.
    pub(super) async fn run(self, ready: oneshot::Sender<Result<Opened, BrokerError>>) {
        let opened = tokio::select! {
            biased;
            () = self.closing.cancelled() => return self.desk.close(),
            opened = self.open() => opened,
        };
        let first = opened.as_ref().map(|(_, opened)| opened.clone()).map_err(Failure::broker_error);
        // Whoever asked may have given up by now; that ends on `closing`.
        drop(ready.send(first));
        let Ok(mut opened) = opened else { return self.desk.close() };
        let mut pauses = Pauses::new(self.seed);
        loop {
            let live = self.begin(opened);
            let began = Instant::now();
            match self.live(&live).await {
                End::Closed => {
                    self.say_goodbye(&live).await;
                    break;
                }
                End::Lost(why) => {
                    tracing::warn!(gateway = ?self.door.0, why = why.words(), "the session is lost; opening another");
                    self.desk.interrupt(why.broker_error());
                    if !matches!(why, Failure::NoSession(_)) {
                        self.leave_server(live.server);
                    }
                }
            }
            if began.elapsed() > LOST_AFTER {
                pauses.reset();
            }
            match self.open_again(&mut pauses).await {
                Some(next) => opened = next,
                None => break,
            }
            let (door, closing) = (self.door.clone(), self.closing.clone());
            let seed = self.seed ^ live.number;
            self.tasks.spawn(async move { closing.run_until_cancelled(give_up(door, live, seed)).await });
            tracing::info!(gateway = ?self.door.0, "a session is open again");
        }
        self.desk.close();
    }

    /// Tries until it works; gives up only when closing.
    async fn open_again(&self, pauses: &mut Pauses) -> Option<(usize, Opened)> {
        loop {
            // Before the first attempt too: a session that is lost as soon as it is opened is no reason to hurry.
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                () = sleep(pauses.pause()) => (),
            }
            let opened = tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                opened = self.open() => opened,
            };
            match opened {
                Ok(opened) => return Some(opened),
                Err(why) => {
                    tracing::debug!(gateway = ?self.door.0, why = why.words(), "opening a session");
                    self.desk.interrupt(why.broker_error());
                }
            }
        }
    }

    fn begin(&self, (server, opened): (usize, Opened)) -> Live {
        Live {
            server,
            path: format!("{ROOT}/sessions/{}", opened.session),
            number: self.desk.begin(),
            wait: Duration::from_millis(opened.max_wait_ms),
            pulse: Mutex::new(Pulse { heard: Instant::now(), failing: None }),
        }
    }

    async fn live(&self, live: &Live) -> End {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => End::Closed,
            lost = self.carry_out(live) => End::Lost(lost),
            lost = self.poll(live) => End::Lost(lost),
        }
    }

    /// Gives back what is held, once what was settled is known.
    async fn say_goodbye(&self, live: &Live) {
        let settling = async {
            let mut pauses = Pauses::new(self.seed ^ live.number);
            loop {
                let Orders { acks, releases, .. } = self.desk.take_orders(MAX_SETTLED);
                let (acked, released) = (acks.len(), releases.len());
                if acked + released == 0 {
                    return Ok(());
                }
                let settle = live.request(Method::Post, "/settle", &Settle { ack: acks, release: releases });
                match self.door.ask(live.server, settle, GOODBYE).await {
                    Ok(_) => self.desk.settled(live.number, acked, released),
                    Err(Failure::NotNow(_) | Failure::Unknown(_)) => sleep(pauses.pause()).await,
                    Err(failure) => return Err(failure),
                }
            }
        };
        let settled = timeout(GOODBYE, settling).await.unwrap_or_else(|_| Err(Failure::Unknown("too late".to_owned())));
        let end = Request { method: Method::Delete, path: live.path.clone(), body: Bytes::new() };
        if let Err(why) = settled.and(self.door.ask(live.server, end, GOODBYE).await) {
            tracing::debug!(why = why.words(), "no goodbye; the session will end by itself");
        }
    }

    /// Brings deliveries in, until the session is lost.
    async fn poll(&self, live: &Live) -> Failure {
        let mut pauses = Pauses::new(self.seed ^ live.number);
        loop {
            let next = Next {
                after: self.desk.after(),
                wait_ms: Some(live.wait.as_millis() as u64),
                max: Some(AT_ONCE),
                broker_away: Some(self.desk.is_away()),
                ..Next::default()
            };
            let request = live.request(Method::Post, "/next", &next);
            let asked = Instant::now();
            let answer = self.door.ask(live.server, request, live.wait + LATE).await;
            match answer.and_then(|body| self.arrived(live, &body)) {
                Ok(()) => {
                    live.heard();
                    pauses.reset();
                }
                Err(failure) => match self.may_go_on(live, asked, failure) {
                    Ok(failure) => {
                        tracing::debug!(why = failure.words(), "polling again");
                        sleep(pauses.pause()).await;
                    }
                    Err(lost) => return lost,
                },
            }
        }
    }

    fn arrived(&self, live: &Live, body: &[u8]) -> Result<(), Failure> {
        let unreadable = |why: &dyn std::fmt::Display| Failure::Unknown(format!("deliveries cannot be read: {why}"));
        let read: Deliveries<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let mut deliveries = Vec::with_capacity(read.deliveries.len());
        for delivered in read.deliveries {
            let place = delivered.subscription.parse().map_err(|_| unreadable(&"an unknown subscription"))?;
            let delivery = delivered.into_delivery(live.number).ok_or_else(|| unreadable(&"no base64"))?;
            deliveries.push((place, delivery));
        }
        self.desk.arrive(live.number, deliveries, read.broker.map(Cow::into_owned));
        Ok(())
    }

    /// Whether a session may still be there after a request failed that was made then: the failure, as something to try
    /// again after, or as the end.
    pub(super) fn may_go_on(&self, live: &Live, asked: Instant, failure: Failure) -> Result<Failure, Failure> {
        match failure {
            Failure::NotNow(_) | Failure::Unknown(_) if !live.failed(asked) => Ok(failure),
            failure => Err(failure),
        }
    }
}
