//! Reads a message of a job queue: what it asks for, and what of it cannot be understood. It does none of it.

use std::sync::Arc;

use bytes::Bytes;
use phasework_broker::Delivery;
use phasework_workflows::message::job::{Job, JobGroup, Jobs};
use phasework_workflows::message::probe::{Probe, Probes};
use phasework_workflows::message::{self, Batch, Body as _};

/// The most jobs in one message; more is no message that a coordinator sends.
const MAX_JOBS: u64 = 100_000;

/// What a message asks for, and what of it cannot be understood.
pub(crate) struct Understood {
    pub(crate) asked: Asked,
    pub(crate) bad: Vec<Bad>,
}

/// What one is asked to do.
pub(crate) enum Asked {
    Jobs(Vec<JobGroup>),
    Probes(Vec<Probe>),
}

/// A message, or an item of one, that cannot be understood, and why.
pub(crate) struct Bad {
    pub(crate) body: Bytes,
    pub(crate) reason: String,
}

/// Reads a message of a job queue. A bad item does not keep the others from being done.
pub(crate) fn understand(delivery: &Delivery) -> Understood {
    let kind = &*delivery.kind;
    let read = if kind == Jobs::KIND {
        understand_jobs(&delivery.body)
    } else if kind == Probes::KIND {
        decode_items::<Probes>(&delivery.body).map(|(probes, bad)| Understood { asked: Asked::Probes(probes), bad })
    } else {
        let (jobs, probe) = (Jobs::KIND, Probes::KIND);
        Err(format!("a message of type `{kind}` on a job queue; only `{jobs}` and `{probe}` belong there"))
    };
    read.unwrap_or_else(|reason| {
        let bad = vec![Bad { body: delivery.body.clone(), reason }];
        Understood { asked: Asked::Jobs(Vec::new()), bad }
    })
}

fn understand_jobs(body: &[u8]) -> Result<Understood, String> {
    let (read, mut bad) = decode_items::<Jobs>(body)?;
    let mut groups = Vec::new();
    let mut jobs = 0;
    for group in read {
        match check(&group, jobs) {
            Ok(count) => {
                jobs += count;
                groups.push(group);
            }
            Err(reason) => {
                let body = message::encode(&Jobs { groups: vec![group] }).into();
                bad.push(Bad { body, reason });
            }
        }
    }
    Ok(Understood { asked: Asked::Jobs(groups), bad })
}

fn decode_items<T: Batch>(body: &[u8]) -> Result<(Vec<T::Item>, Vec<Bad>), String> {
    let (read, unread) = message::decode_batch::<T>(body).map_err(|error| error.to_string())?;
    let unread = unread.into_iter().map(|item| Bad { body: item.body.into(), reason: item.reason.to_string() });
    Ok((read, unread.collect()))
}

/// How many jobs a group has, when it makes sense after so many others of its message.
fn check(group: &JobGroup, before: u64) -> Result<u64, String> {
    let (first, ranged) = group.range.unwrap_or((0, 0));
    if first.checked_add(ranged).is_none() {
        return Err(format!("a range of jobs that ends nowhere: {ranged} from {first}"));
    }
    if let Some(job) = group.jobs.iter().find(|job| job.attempt == 0 || job.tried == 0) {
        return Err(format!("job {} without an attempt or a try: both are numbered from 1", job.index));
    }
    let count = ranged.saturating_add(group.jobs.len() as u64);
    let all = before.saturating_add(count);
    if all > MAX_JOBS { Err(format!("{all} jobs in one message; at most {MAX_JOBS} are taken")) } else { Ok(count) }
}

/// What the jobs share, and the jobs.
pub(crate) fn take_apart(mut group: JobGroup) -> (Arc<JobGroup>, Vec<Job>) {
    let jobs = group.each().collect();
    group.range = None;
    group.jobs = Vec::new();
    (Arc::new(group), jobs)
}
