//! Looks at stored runs with the eyes of a stranger: whether they keep the invariants, as far as that can be seen.
//! Changes nothing.

use phasework_store::{RunFilter, StoreError};
use phasework_workflows::id::RunId;
use phasework_workflows::run::Unreadable;
use phasework_workflows::run::audit::{Broken, audit};
use phasework_workflows::time::Timestamp;

use super::advance::{load_each, read};
use super::hot::HotRun;
use crate::engine::Engine;

/// The longest history that is folded; of longer ones only the state is looked at.
const LONGEST_HISTORY: u64 = 1000;

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The run.
    pub run: RunId,
    /// The invariant that it breaks, and how that shows.
    pub broken: Broken,
}

/// What an audit of some runs came to.
#[derive(Clone, Debug)]
pub struct Audited {
    /// How many runs were looked at.
    pub runs: usize,
    /// What was found.
    pub findings: Vec<Finding>,
    /// After which run to go on; none when that was all.
    pub next: Option<(Timestamp, RunId)>,
}

/// Looks at a page of live runs, the one made last first, those of them that `is_ours` says.
pub(crate) async fn audit_page(
    engine: &Engine,
    before: Option<(Timestamp, RunId)>,
    limit: usize,
    is_ours: impl Fn(RunId) -> bool,
) -> Result<Audited, StoreError> {
    let page = engine.parts.store.runs(&RunFilter { ended: Some(false), before, limit }).await?;
    let last = page.last().filter(|_| page.len() == limit);
    let next = last.map(|listed| (listed.created_at, listed.run));
    let runs: Vec<_> = page.iter().map(|listed| listed.run).filter(|&run| is_ours(run)).collect();
    let findings = audit_runs(engine, &runs).await?;
    Ok(Audited { runs: runs.len(), findings, next })
}

/// Everything that is found wrong with these runs. What is found is looked at twice: a run may be on its way through a
/// loss that is being mended.
async fn audit_runs(engine: &Engine, runs: &[RunId]) -> Result<Vec<Finding>, StoreError> {
    let suspects = look(engine, runs.to_vec()).await?;
    if suspects.is_empty() {
        return Ok(suspects);
    }
    let mut again: Vec<_> = suspects.iter().map(|finding| finding.run).collect();
    again.dedup();
    let confirmed = look(engine, again).await?;
    let is_still_so = |finding: &Finding| {
        let same = |it: &Finding| (it.run, it.broken.invariant) == (finding.run, finding.broken.invariant);
        suspects.iter().any(same)
    };
    Ok(confirmed.into_iter().filter(is_still_so).collect())
}

async fn look(engine: &Engine, runs: Vec<RunId>) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    for (run, stored) in load_each(engine, runs).await? {
        let loaded = match stored {
            Ok(None) => continue, // removed meanwhile
            Ok(Some(stored)) => read(engine, stored).await?,
            Err(reason) => Err(reason),
        };
        let broken = match loaded {
            Ok(hot) => audit_run(engine, &hot).await?,
            Err(Unreadable::Newer { .. }) => continue, // whoever wrote it can say
            Err(Unreadable::Damaged(words)) => {
                vec![Broken { invariant: "no-lost-work", words: format!("it cannot be read: {words}") }]
            }
        };
        findings.extend(broken.into_iter().map(|broken| Finding { run, broken }));
    }
    Ok(findings)
}

async fn audit_run(engine: &Engine, hot: &HotRun) -> Result<Vec<Broken>, StoreError> {
    let head = &hot.run.head;
    // Exactly the events that the head counts: those that came since are those of a later version.
    let history = match usize::try_from(head.events.min(LONGEST_HISTORY + 1)) {
        Ok(events) if head.events <= LONGEST_HISTORY => Some(engine.parts.store.history(head.id, 0, events).await?),
        _ => None,
    };
    Ok(audit(&hot.workflow, &hot.run, history.as_deref(), engine.parts.clock.now()))
}
