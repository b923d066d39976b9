//! Reports outcomes to the coordinators. Outcomes that gather while the last publish is under way go together; an
//! idle system sends each at once. A job is settled as soon as its outcome is confirmed, and not before. Every
//! coordinator queue has a lane of its own: one that confirms nothing holds up the reports to no other.
//!
//! What waits here is bounded by what the worker may hold: the message of a job is not acknowledged before its outcome
//! is confirmed, and the prefetch of a job queue lets in no more messages than there are slots for it, each of no more
//! jobs than coordinators pack together. Only leased jobs have no message any more; their leases are granted by who
//! reads the coordinator queue, so none are added while it takes nothing. (Once the prefetch is used up by jobs of runs
//! whose coordinator queue takes nothing, the worker takes no more of that job queue either. It has to stop somewhere.)

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use phasework_broker::SharedBroker;
use phasework_workflows::message::outcome::JobError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Report, Verdict, assemble};
use crate::confirm::{self, TooLarge};

/// The most outcomes that are gathered for one publish, which bounds how long a publish takes.
const MAX_GATHERED: usize = 10_000;

pub(crate) struct Reporter {
    pub(crate) worker: Arc<str>,
    pub(crate) broker: SharedBroker,
    pub(crate) reports: UnboundedReceiver<Report>,
    pub(crate) leave: CancellationToken,
}

/// What is to be reported to one coordinator queue.
#[derive(Default)]
struct Lane {
    gathered: Vec<Report>,
    /// Whether a publish is under way.
    is_busy: bool,
}

impl Reporter {
    /// Reports until nobody is left who could have an outcome, or the worker leaves.
    pub(crate) async fn run(self) {
        let Self { worker, broker, mut reports, leave } = self;
        let way = Way { worker, broker, leave };
        let (mut lanes, mut under_way) = (BTreeMap::<u16, Lane>::new(), FuturesUnordered::new());
        let (mut received, mut is_open) = (Vec::new(), true);
        while is_open || !under_way.is_empty() {
            let coordinators: Vec<u16> = tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    let Some(coordinator) = done else { return };
                    lanes.entry(coordinator).or_default().is_busy = false;
                    vec![coordinator]
                }
                count = reports.recv_many(&mut received, MAX_GATHERED), if is_open => {
                    is_open = count > 0;
                    // Handlers that are about to end may do so, and come along.
                    yield_now().await;
                    while received.len() < MAX_GATHERED
                        && let Ok(report) = reports.try_recv()
                    {
                        received.push(report);
                    }
                    for report in received.drain(..) {
                        lanes.entry(report.group.coordinator).or_default().gathered.push(report);
                    }
                    lanes.keys().copied().collect()
                }
            };
            for coordinator in coordinators {
                let lane = lanes.entry(coordinator).or_default();
                if !lane.is_busy && !lane.gathered.is_empty() {
                    lane.is_busy = true;
                    let some = lane.gathered.drain(..lane.gathered.len().min(MAX_GATHERED)).collect();
                    under_way.push(way.report(coordinator, some));
                }
            }
        }
    }
}

/// How reports leave.
struct Way {
    worker: Arc<str>,
    broker: SharedBroker,
    leave: CancellationToken,
}

impl Way {
    /// Reports outcomes to a coordinator queue, and settles each when it is confirmed. The queue; `None` when the worker
    /// leaves first.
    async fn report(&self, coordinator: u16, reports: Vec<Report>) -> Option<u16> {
        let mut batches = assemble(&self.worker, reports);
        while !batches.is_empty() {
            let messages = batches.into_iter().map(|Batch { message, reports }| (message, reports)).collect();
            let mut smaller = Vec::new();
            let settle = |reports: Vec<Report>, known: Result<(), TooLarge>| match known {
                Ok(()) => reports.into_iter().for_each(|report| report.hold.settle()),
                Err(too_large) => smaller.extend(self.split(reports, &too_large)),
            };
            confirm::publish(&self.broker, messages, &self.leave, settle).await?;
            batches = smaller;
        }
        Some(coordinator)
    }

    /// What is to be published in place of a message that was too large.
    fn split(&self, mut reports: Vec<Report>, too_large: &TooLarge) -> Vec<Batch> {
        if let [report] = reports.as_mut_slice() {
            let TooLarge { size, limit } = too_large;
            let message = format!("the outcome makes a message of {size} bytes; the broker takes {limit}");
            tracing::error!(run = %report.group.run, handler = %report.group.handler, job = report.index, "{message}");
            if matches!(&report.verdict, Verdict::Failed(error) if &*error.kind == "output") {
                return Vec::new(); // not even that can be said: the message stays unacknowledged
            }
            report.verdict = Verdict::Failed(JobError::new("output", message).for_good());
            return vec![Batch::of(&self.worker, reports)];
        }
        let rest = reports.split_off(reports.len() / 2);
        vec![Batch::of(&self.worker, reports), Batch::of(&self.worker, rest)]
    }
}
