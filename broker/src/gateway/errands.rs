//! What consumers want done, carried out on a session: subscribing, settling, stopping, leaving. Whatever may be done
//! twice is asked for until it is done.

use std::collections::BTreeSet;
use std::future::pending;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::address;
use super::desk::{Change, MAX_SETTLED, Orders, Place};
use super::exchange::{Failure, Method, Request};
use super::keeper::{ANSWER_WITHIN, Keeper, Live, read};
use super::pauses::Pauses;
use super::wire::{Settle, Stopped, Subscribe};

/// What came of something that was insisted on.
enum Insisted {
    Done(Bytes),
    Refused(Failure),
}

/// How settling goes on one session.
struct Settling {
    /// How many of a kind in one request.
    most: usize,
    pauses: Pauses,
    /// When to try again what was refused.
    again: Option<Instant>,
}

impl Settling {
    fn new(seed: u64) -> Self {
        Self { most: MAX_SETTLED, pauses: Pauses::new(seed), again: None }
    }

    fn is_done(&mut self) {
        self.pauses.reset();
        self.again = None;
    }

    fn is_refused(&mut self, why: &Failure) {
        if let Failure::TooLarge(_) = why {
            self.most = (self.most / 2).max(1);
        }
        self.again = Some(Instant::now() + self.pauses.pause());
    }

    fn is_refused_for_now(&self) -> bool {
        self.again.is_some_and(|again| Instant::now() < again)
    }

    /// Waits until what was refused is to be tried again, for ever if nothing was.
    async fn refused_for_now(&self) {
        match self.again {
            Some(again) => sleep_until(again).await,
            None => pending().await,
        }
    }
}

impl Keeper {
    /// Does what consumers want done, until the session is lost.
    pub(super) async fn carry_out(&self, live: &Live) -> Failure {
        let (mut subscribing, mut under_way) = (FuturesUnordered::new(), BTreeSet::new());
        let mut settling = Settling::new(self.seed ^ live.number);
        loop {
            tokio::select! {
                biased;
                Some((place, outcome)) = subscribing.next() => {
                    under_way.remove(&place);
                    if let Err(lost) = outcome {
                        return lost;
                    }
                    self.desk.catch_up(place);
                }
                () = self.desk.ordered() => {}
                () = settling.refused_for_now() => {}
            }
            let Orders { acks, releases, changes } = self.desk.take_orders(settling.most);
            let settled = match self.settle(live, &mut settling, acks, releases).await {
                Ok(settled) => settled,
                Err(lost) => return lost,
            };
            for change in changes {
                let changed = match change {
                    Change::Subscribe(place) => {
                        under_way.insert(place);
                        subscribing.push(async move { (place, self.subscribe(live, place).await) });
                        Ok(())
                    }
                    // Whether there is something to stop or to drop is known only then.
                    Change::Stop(place) | Change::Drop(place) if under_way.contains(&place) => Ok(()),
                    Change::Stop(place) => self.stop(live, place).await,
                    // What it held is to be settled first.
                    Change::Drop(_) if !settled => {
                        self.desk.put_back(live.number, change);
                        Ok(())
                    }
                    Change::Drop(place) => self.unsubscribe(live, place).await,
                };
                if let Err(lost) = changed {
                    return lost;
                }
            }
        }
    }

    /// Settles, and says whether that is done. What is refused is kept, and sent again after a while: whoever refuses may
    /// be a proxy in between, or take less at once.
    async fn settle(
        &self,
        live: &Live,
        settling: &mut Settling,
        acks: Vec<u64>,
        releases: Vec<u64>,
    ) -> Result<bool, Failure> {
        let (acked, released) = (acks.len(), releases.len());
        if acked + released == 0 {
            settling.is_done();
            return Ok(true);
        }
        if settling.is_refused_for_now() {
            return Ok(false);
        }
        let settle = live.request(Method::Post, "/settle", &Settle { ack: acks, release: releases });
        match self.insist(live, settle).await? {
            Insisted::Done(_) => {
                settling.is_done();
                self.desk.settled(live.number, acked, released);
                Ok(true)
            }
            Insisted::Refused(why) => {
                settling.is_refused(&why);
                Ok(false)
            }
        }
    }

    /// Subscribes, however long the broker is away, unless that is refused.
    async fn subscribe(&self, live: &Live, place: Place) -> Result<(), Failure> {
        let mut pauses = Pauses::new(self.seed ^ live.number ^ place);
        while let Some(subscription) = self.desk.wanted(place) {
            let body = Subscribe { from: address::text(&subscription.from), prefetch: subscription.prefetch.max(1) };
            let request = live.request(Method::Put, &subscription_path(place), &body);
            let asked = Instant::now();
            match self.door.ask(live.server, request, ANSWER_WITHIN).await {
                Ok(_) => {
                    live.heard();
                    self.desk.subscribed(place);
                    return Ok(());
                }
                Err(failure @ (Failure::Refused(_) | Failure::TooLarge(_))) => {
                    self.desk.refused(place, failure.broker_error());
                    return Ok(());
                }
                Err(failure) => {
                    let failure = self.may_go_on(live, asked, failure)?;
                    tracing::debug!(why = failure.words(), from = ?subscription.from, "subscribing");
                    sleep(pauses.pause()).await;
                }
            }
        }
        Ok(())
    }

    async fn stop(&self, live: &Live, place: Place) -> Result<(), Failure> {
        let path = format!("{}/stop", subscription_path(place));
        let body = self
            .insist(live, Request { method: Method::Post, path: format!("{}{path}", live.path), body: Bytes::new() });
        let last = match body.await? {
            Insisted::Done(body) => read::<Stopped>(&body)?.last,
            Insisted::Refused(_) => 0, // there is nothing to stop
        };
        self.desk.stopped(place, last);
        Ok(())
    }

    async fn unsubscribe(&self, live: &Live, place: Place) -> Result<(), Failure> {
        let path = format!("{}{}", live.path, subscription_path(place));
        self.insist(live, Request { method: Method::Delete, path, body: Bytes::new() }).await.map(drop)
    }

    /// Asks for something that may be done twice, until it is done, refused, or the session is lost.
    async fn insist(&self, live: &Live, request: Request) -> Result<Insisted, Failure> {
        let mut pauses = Pauses::new(self.seed ^ live.number);
        loop {
            let asked = Instant::now();
            match self.door.ask(live.server, request.clone(), ANSWER_WITHIN).await {
                Ok(body) => {
                    live.heard();
                    return Ok(Insisted::Done(body));
                }
                Err(failure @ (Failure::Refused(_) | Failure::TooLarge(_))) => {
                    tracing::warn!(path = request.path, why = failure.words(), "the gateway refuses");
                    return Ok(Insisted::Refused(failure));
                }
                Err(failure) => {
                    let failure = self.may_go_on(live, asked, failure)?;
                    tracing::debug!(path = request.path, why = failure.words(), "asking again");
                    sleep(pauses.pause()).await;
                }
            }
        }
    }
}

fn subscription_path(place: Place) -> String {
    format!("/subscriptions/{place}")
}
