//! Reports outcomes to the coordinators. Outcomes that gather while the last publish is under way go together; an
//! idle system sends each at once. A job is settled only after its outcome is confirmed.

use std::sync::Arc;

use phasework_broker::SharedBroker;
use phasework_workflows::message::outcome::JobError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Report, Verdict, assemble};
use crate::confirm::{self, TooLarge};

/// The most outcomes that are gathered for one publish. What is reported is bounded by what the worker holds; this
/// bounds how long a publish takes.
const MAX_GATHERED: usize = 10_000;

pub(crate) struct Reporter {
    pub(crate) worker: Arc<str>,
    pub(crate) broker: SharedBroker,
    pub(crate) reports: UnboundedReceiver<Report>,
    pub(crate) leave: CancellationToken,
}

impl Reporter {
    /// Reports until nobody is left who could have an outcome, or the worker leaves.
    pub(crate) async fn run(mut self) {
        let mut gathered = Vec::new();
        while self.reports.recv_many(&mut gathered, MAX_GATHERED).await > 0 {
            // Handlers that are about to end may do so, and come along.
            yield_now().await;
            while gathered.len() < MAX_GATHERED
                && let Ok(report) = self.reports.try_recv()
            {
                gathered.push(report);
            }
            let mut batches = assemble(&self.worker, std::mem::take(&mut gathered));
            while !batches.is_empty() {
                let messages = batches.iter().map(|batch| batch.message.clone()).collect();
                let Some(results) = confirm::publish(&self.broker, messages, &self.leave).await else { return };
                batches = self.settle(batches, results);
            }
        }
    }

    /// Settles what was confirmed. Gives what is to be published in place of messages that were too large.
    fn settle(&self, batches: Vec<Batch>, results: Vec<Result<(), TooLarge>>) -> Vec<Batch> {
        let mut smaller = Vec::new();
        for (batch, result) in batches.into_iter().zip(results) {
            match result {
                Ok(()) => batch.reports.into_iter().for_each(|report| report.hold.settle()),
                Err(too_large) => smaller.extend(self.split(batch.reports, &too_large)),
            }
        }
        smaller
    }

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
