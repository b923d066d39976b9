//! The auditor: looks at some live runs every so often, round and round, and reports what breaks an invariant, by log
//! and metric. It repairs nothing: whatever can be mended by a rule is mended where the rule is known (sweeps, timers,
//! probes); what is left is a defect, or damage, and wants a person.

use phasework_store::StoreError;
use phasework_workflows::id::RunId;
use phasework_workflows::time::{Millis, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Finding, audit_page};
use crate::engine::Engine;

/// How often it looks.
const PERIOD: Millis = Millis::from_secs(10);

/// How many runs it looks at each time.
const PASS: usize = 100;

pub(crate) struct Auditor {
    engine: Engine,
    /// The last run it has looked at; none at the beginning of a round.
    last: Option<(Timestamp, RunId)>,
}

impl Auditor {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone(), last: None }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD.into()) => {}
            }
            if let Err(error) = self.run_once().await {
                tracing::debug!(%error, "runs could not be audited; trying again");
            }
        }
    }

    /// One bounded pass over the runs of queues that this engine owns; others look after theirs.
    async fn run_once(&mut self) -> Result<(), StoreError> {
        let (share, queues) = (&self.engine.share, self.engine.parts.config.coordinator_queues);
        let now = self.engine.parts.clock.now();
        let is_ours = |run: RunId| share.owns(run.shard().queue(queues), now);
        let audited = audit_page(&self.engine, self.last, PASS, is_ours).await?;
        metrics::counter!("phasework_audited_runs_total").increment(audited.runs as u64);
        report(&audited.findings);
        self.last = audited.next;
        Ok(())
    }
}

fn report(findings: &[Finding]) {
    for Finding { run, broken } in findings {
        metrics::counter!("phasework_audit_findings_total", "invariant" => broken.invariant).increment(1);
        tracing::error!(%run, invariant = broken.invariant, "the auditor found: {}", broken.words);
    }
}
