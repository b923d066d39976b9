//! Builders for this crate's own tests.

use phasework_workflows::Version;
use phasework_workflows::id::{HandlerName, Nonce, PhaseName, RunId, WorkflowName};
use phasework_workflows::message::job::{InputSource, Job, JobGroup};
use phasework_workflows::time::Millis;

/// A group without jobs.
pub(crate) fn group(handler: &str, version: &str) -> JobGroup {
    JobGroup {
        run: RunId::new(uuid::Uuid::from_u128(7)),
        workflow: WorkflowName::new("search").unwrap(),
        phase: PhaseName::new("fetching-pages").unwrap(),
        entry: 1,
        nonce: Nonce(11),
        handler: HandlerName::new(handler).unwrap(),
        version: Version::parse(version).unwrap(),
        coordinator: 0,
        timeout: Millis::from_secs(30),
        max_attempts: 3,
        input: InputSource::Index,
        data: None,
        range: None,
        jobs: Vec::<Job>::new(),
    }
}
