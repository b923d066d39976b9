//! Outcomes that go together: one `JobsFinished` for each coordinator queue, one group for each entry and handler.
//! Publishes nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phasework_broker::{Address, Message};
use phasework_workflows::Payload;
use phasework_workflows::id::{Attempt, HandlerName, JobIndex, RunId};
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::outcome::{JobError, JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::{self, Body as _};

use crate::open::Hold;

/// About how large a message may become, in bytes. A single outcome may be larger.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What a group costs besides its outcomes, and an outcome besides its output or error, in bytes, at most.
const GROUP_BYTES: usize = 256;
const OUTCOME_BYTES: usize = 160;

/// What became of one attempt.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) group: Arc<JobGroup>,
    pub(crate) index: JobIndex,
    pub(crate) attempt: Attempt,
    pub(crate) verdict: Verdict,
    /// What it leaves for the next attempt.
    pub(crate) left: Option<Payload>,
    /// How long the handler worked on it; `None` when it was not asked.
    pub(crate) service: Option<Duration>,
    pub(crate) hold: Hold,
}

/// What a handler, or a worker in its place, made of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The handler did the job, and this is its output.
    Done(Payload),
    /// It tried, and failed.
    Failed(JobError),
    /// It is not known to have tried to the end; `canceled`, say.
    Returned(JobError),
}

/// A message, and what it reports.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) message: Message,
    pub(crate) reports: Vec<Report>,
}

/// Makes as few messages of these reports as their size allows.
pub(crate) fn assemble(worker: &Arc<str>, mut reports: Vec<Report>) -> Vec<Batch> {
    reports.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut batches = Vec::new();
    let mut together: Vec<Report> = Vec::new();
    let mut size = 0;
    for report in reports {
        let last = together.last();
        let cost = report.size() + if last.is_some_and(|last| last.goes_with(&report)) { 0 } else { GROUP_BYTES };
        let elsewhere = last.is_some_and(|last| last.group.coordinator != report.group.coordinator);
        if elsewhere || (size + cost > MAX_MESSAGE_BYTES && last.is_some()) {
            batches.push(Batch::of(worker, std::mem::take(&mut together)));
            size = 0;
        }
        size += cost;
        together.push(report);
    }
    if !together.is_empty() {
        batches.push(Batch::of(worker, together));
    }
    batches
}

impl Batch {
    /// A message of these reports, which are sorted and have one coordinator queue.
    pub(crate) fn of(worker: &Arc<str>, reports: Vec<Report>) -> Self {
        let coordinator = reports.first().map_or(0, |report| report.group.coordinator);
        let groups = reports.chunk_by(Report::goes_with).map(outcome_group).collect();
        let body = message::encode(&JobsFinished { worker: Some(Arc::clone(worker)), groups });
        let message = Message::new(Address::Coordinator(coordinator), JobsFinished::KIND, Bytes::from(body));
        Self { message, reports }
    }
}

impl Report {
    fn order(&self) -> (u16, RunId, u32, u64, &HandlerName, JobIndex, Attempt) {
        let group = &*self.group;
        (group.coordinator, group.run, group.entry, group.nonce.0, &group.handler, self.index, self.attempt)
    }

    fn goes_with(&self, other: &Self) -> bool {
        let key = |report: &Self| (report.group.coordinator, report.group.run, report.group.entry, report.group.nonce);
        key(self) == key(other) && self.group.handler == other.group.handler
    }

    /// Whether a range says it all.
    fn is_plain(&self) -> bool {
        self.attempt == 1 && matches!(&self.verdict, Verdict::Done(output) if output.is_null())
    }

    fn size(&self) -> usize {
        let left = self.left.as_ref().map_or(0, Payload::len);
        left + match &self.verdict {
            Verdict::Done(output) => OUTCOME_BYTES + output.len(),
            // Every character of a message can need six bytes in JSON.
            Verdict::Failed(error) | Verdict::Returned(error) => OUTCOME_BYTES + 6 * error.message.len(),
        }
    }

    /// As it is reported.
    pub(crate) fn outcome(&self) -> Outcome {
        let (status, output, error) = match &self.verdict {
            Verdict::Done(output) => (Status::Done, Some(output.clone()).filter(|output| !output.is_null()), None),
            Verdict::Failed(error) => (Status::Failed, None, Some(error.clone())),
            Verdict::Returned(error) => (Status::Returned, None, Some(error.clone())),
        };
        Outcome { index: self.index, attempt: self.attempt, status, output, error, details: self.left.clone() }
    }
}

fn outcome_group(reports: &[Report]) -> OutcomeGroup {
    let group = &reports[0].group;
    let mut done: Vec<(JobIndex, u64)> = Vec::new();
    let mut outcomes = Vec::new();
    for report in reports {
        match done.last_mut() {
            _ if !report.is_plain() => outcomes.push(report.outcome()),
            Some((first, count)) if *first + *count == report.index => *count += 1,
            Some((first, count)) if report.index < *first + *count => {} // the same job twice
            _ => done.push((report.index, 1)),
        }
    }
    let worked: Vec<Duration> = reports.iter().filter_map(|report| report.service).collect();
    let service = worked.iter().sum::<Duration>().as_micros();
    OutcomeGroup {
        run: group.run,
        entry: group.entry,
        nonce: group.nonce,
        handler: group.handler.clone(),
        done,
        outcomes,
        service_us: (!worked.is_empty()).then(|| u64::try_from(service).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::ticket::Ticket;
    use phasework_broker::DeliveryTag;

    fn report(coordinator: u16, entry: u32, index: u64, attempt: u32, verdict: Verdict) -> Report {
        let (settled, _) = tokio::sync::mpsc::unbounded_channel();
        let hold = Hold::on(&Ticket::new(DeliveryTag { generation: 0, number: 0 }, settled));
        let group = Arc::new(JobGroup { coordinator, entry, ..testing::group("Noop") });
        Report { group, index, attempt, verdict, left: None, service: Some(Duration::from_micros(7)), hold }
    }

    fn done(index: u64) -> Report {
        report(0, 1, index, 1, Verdict::Done(Payload::null()))
    }

    fn read(batch: &Batch) -> JobsFinished {
        message::decode(&batch.message.body).unwrap()
    }

    #[test]
    fn plain_outcomes_become_ranges() {
        let reports =
            vec![done(3), done(1), report(0, 1, 2, 2, Verdict::Done(Payload::null())), done(4), done(4), done(0)];
        let batches = assemble(&"w".into(), reports);
        let [batch] = batches.as_slice() else { panic!("{batches:?}") };
        let [group] = &read(batch).groups[..] else { panic!("one group") };
        assert_eq!(group.done, [(0, 2), (3, 2)]);
        assert_eq!(
            group.outcomes.iter().map(|o| (o.index, o.attempt, o.status)).collect::<Vec<_>>(),
            [(2, 2, Status::Done)]
        );
        assert_eq!(group.service_us, Some(42));
    }

    #[test]
    fn one_message_for_each_queue_and_one_group_for_each_entry() {
        let null = || Verdict::Done(Payload::null());
        let reports = vec![report(2, 1, 0, 1, null()), report(1, 2, 0, 1, null()), report(1, 1, 0, 1, null())];
        let batches = assemble(&"w".into(), reports);
        let shape: Vec<_> = batches
            .iter()
            .map(|batch| {
                (batch.message.to.clone(), read(batch).groups.iter().map(|group| group.entry).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(shape, [(Address::Coordinator(1), vec![1, 2]), (Address::Coordinator(2), vec![1])]);
    }

    #[test]
    fn large_outputs_are_spread_over_messages() {
        let output = Payload::of(&"x".repeat(1_000_000)).unwrap();
        let reports = (0..10).map(|index| report(0, 1, index, 1, Verdict::Done(output.clone()))).collect();
        let batches = assemble(&"w".into(), reports);
        assert_eq!(batches.iter().map(|batch| batch.reports.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert!(batches.iter().all(|batch| batch.message.body.len() <= MAX_MESSAGE_BYTES));
        assert_eq!(batches.iter().flat_map(|batch| read(batch).groups[0].outcomes.clone()).count(), 10);
    }
}
