//! Carrying out what happened to runs: they are advanced, what that asks for is published, who asked is answered; again
//! and again, until it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phasework_broker::Address;
use phasework_store::StoreError;
use phasework_workflows::id::RunId;
use phasework_workflows::time::Millis;
use tokio_util::sync::CancellationToken;

use super::advance::{Advanced, advance};
use super::hot::HotRun;
use super::intake::Happening;
use super::owner::{Owner, Stopped};
use super::{outbox, unsent};

/// How long the store may be away before the owner lets go of its deliveries.
const STORE_AWAY: Duration = Duration::from_secs(60);

/// How long a run that cannot be read is left alone.
const SHUN: Millis = Millis::from_secs(60);

/// Of how many runs that are not in memory published versions may stand in the stored outbox before they are cleared.
const CLEAR_AT: usize = 512;

/// What of a batch was not carried out.
#[derive(Default)]
pub(super) struct Left {
    /// What cannot be, by delivery, and why.
    pub(super) unfit: BTreeMap<usize, String>,
    /// What only a newer coordinator can.
    pub(super) for_newer: BTreeSet<usize>,
}

/// What came of a batch that is committed and published.
struct Finished {
    left: Left,
    /// What happened to runs by their effects being refused.
    failures: BTreeMap<RunId, Vec<Happening>>,
}

impl Owner {
    /// Advances runs and publishes what that asks for, however long the store and the broker take. Returns what was not
    /// carried out.
    pub(super) async fn carry_out(
        &mut self,
        happenings: BTreeMap<RunId, Vec<Happening>>,
        shutdown: &CancellationToken,
    ) -> Result<Left, Stopped> {
        let (mut happenings, mut left) = (happenings, Left::default());
        if happenings.is_empty() {
            return Ok(left);
        }
        let mut patience = Patience::new(STORE_AWAY);
        loop {
            let failure = match advance(&self.engine, &mut self.hot, &happenings).await {
                Ok(advanced) => match self.finish(advanced, shutdown).await? {
                    Ok(mut finished) => {
                        left.unfit.append(&mut finished.left.unfit);
                        left.for_newer.append(&mut finished.left.for_newer);
                        if finished.failures.is_empty() {
                            return Ok(left);
                        }
                        happenings = finished.failures;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(queue = self.queue, error = %failure, "the store did not carry out a batch; trying again");
            if let StoreError::Full(_) = failure {
                // Removing what has had its time is allowed then, and may be all that helps.
                self.remove_ended(self.engine.parts.clock.now()).await;
            }
            patience.wait(shutdown).await?;
        }
    }

    /// Publishes the outboxes of runs that were advanced, answers who asked, and keeps the runs in memory.
    async fn finish(
        &mut self,
        advanced: Advanced,
        shutdown: &CancellationToken,
    ) -> Result<Result<Finished, StoreError>, Stopped> {
        let Advanced { mut runs, answers, unfit, damaged, newer, for_newer } = advanced;
        let until = self.engine.parts.clock.now().plus(SHUN);
        // One that was damaged may have been ended by force.
        for hot in &runs {
            self.shunned.remove(&hot.run.head.id);
        }
        self.shunned.extend(damaged.into_iter().chain(newer.keys().copied()).map(|run| (run, until)));
        self.meet_newer(&newer);
        let made = outbox::messages(&self.engine, &mut self.pages, &mut runs).await;
        let (messages, unreadable) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        self.shunned.extend(unreadable.into_iter().map(|run| (run, until)));
        let unsent = self.publish(messages, shutdown).await?;
        let stuck: BTreeSet<RunId> = unsent.stuck.iter().flat_map(unsent::runs_of).collect();
        let clogged: Vec<Address> = unsent.stuck.iter().map(|message| message.to.clone()).collect();
        self.answer(answers).await;
        for mut hot in runs {
            let run = hot.run.head.id;
            if self.shunned.contains_key(&run) {
                continue; // its effects stay in its outbox
            }
            let clogged = if stuck.contains(&run) { &clogged[..] } else { &[] };
            outbox::keep_unsent(&mut hot, self.queue, clogged);
            self.keep(hot);
        }
        if self.hot.published_elsewhere() >= CLEAR_AT {
            self.clear_published().await;
        }
        let left = Left { unfit, for_newer };
        Ok(Ok(Finished { left, failures: unsent::failures(&unsent.refused) }))
    }

    /// Keeps a run in memory, unless it has ended; notes when it is due.
    fn keep(&mut self, hot: HotRun) {
        self.note_due(&hot);
        if hot.run.head.state.is_ended() { self.hot.let_go(hot) } else { self.hot.put(hot) }
    }

    fn note_due(&mut self, hot: &HotRun) {
        if let Some(due) = hot.run.head.wake_at {
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
    }
}

/// Waits longer each time, and not for ever.
struct Patience {
    wait: Duration,
    left: Duration,
}

impl Patience {
    const fn new(left: Duration) -> Self {
        Self { wait: Duration::from_millis(50), left }
    }

    async fn wait(&mut self, shutdown: &CancellationToken) -> Result<(), Stopped> {
        if self.left.is_zero() {
            return Err(Stopped::Lost);
        }
        let wait = self.wait.min(self.left);
        self.left -= wait;
        self.wait = (self.wait * 2).min(Duration::from_secs(5));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Stopped::Asked),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
