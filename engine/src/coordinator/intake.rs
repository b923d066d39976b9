//! From messages to events: every delivery is read, what it says is sorted by run, what cannot be read is set aside.

use std::collections::BTreeMap;

use phasework_broker::{Address, Broker, Delivery, Message};
use phasework_workflows::id::{HandlerName, RunId};
use phasework_workflows::message::event::{Controls, PhasesFinished, ReplyTo, StartRun, StartRuns, Tick};
use phasework_workflows::message::lease::{LeaseGroup, Leases};
use phasework_workflows::message::listing::{JobsListed, MAX_PAGE_JOBS};
use phasework_workflows::message::outcome::{JobError, JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::probe::{Probe, ProbesReturned};
use phasework_workflows::message::{BadItem, Batch, Body, DecodeError, decode, decode_batch};
use phasework_workflows::run::Event;

use crate::dead;
use crate::engine::Parts;

/// The longest error message of a job that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// What the queues are called that workers are answered at: those of their own. Coordinators may publish to any queue
/// there is, so whoever could name another one would have them do it.
struct OwnQueues {
    prefix: String,
}

impl OwnQueues {
    fn of(broker: &dyn Broker) -> Self {
        Self { prefix: broker.name_of(&Address::Private("worker.".into())) }
    }

    /// Where a worker is answered, if that is a queue of a worker's own.
    fn only(&self, reply: Option<ReplyTo>) -> Option<ReplyTo> {
        let reply = reply?;
        let is_own = reply.queue.strip_prefix(&*self.prefix).is_some_and(|id| !id.is_empty());
        if !is_own {
            tracing::debug!(queue = &*reply.queue, "not answered: that is no worker's own queue");
        }
        is_own.then_some(reply)
    }
}

/// What a batch of deliveries says.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// What happened, by run, in the order in which it came.
    pub(super) happenings: BTreeMap<RunId, Vec<Happening>>,
    /// Dead letters, each with the place of the delivery that is acknowledged once it is published.
    pub(super) dead: Vec<(usize, Message)>,
    /// What was said about how long jobs take.
    pub(super) services: Vec<Service>,
    /// The ticks of coordinators.
    pub(super) ticks: Vec<Tick>,
}

/// Something that happened to a run.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    /// What.
    pub(super) what: What,
    /// Who wants to know that it is done.
    pub(super) reply: Option<ReplyTo>,
    /// Which delivery said so, by its place in the batch; none for what this owner found out itself.
    pub(super) delivery: Option<usize>,
}

/// What happened to a run.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// It is to be started.
    Start(StartRun),
    /// Anything else.
    Event(Event),
}

/// How long some jobs of a handler took together.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) handler: HandlerName,
    pub(super) jobs: u64,
    pub(super) total_us: u64,
}

impl Happening {
    /// Whether it makes a run that nobody can have made before, but by this very message: its id was drawn for it.
    pub(super) fn makes_run(&self) -> bool {
        matches!(&self.what, What::Start(start) if start.key.is_none())
    }

    /// Whether it is an order to end the run without a look at its jobs.
    pub(super) fn is_forced_cancel(&self) -> bool {
        matches!(&self.what, What::Event(Event::Control(control)) if control.is_forced_cancel())
    }
}

impl Intake {
    /// Reads deliveries that came from the coordinator queue `queue`.
    pub(super) fn read(parts: &Parts, queue: u16, deliveries: &[Delivery]) -> Self {
        let mut intake = Self::default();
        let (max, own) = (parts.config.max_payload_bytes, OwnQueues::of(&*parts.broker));
        for (place, delivery) in deliveries.iter().enumerate() {
            match intake.read_one(place, delivery, max, &own) {
                Ok(bad) => {
                    for BadItem { body, reason } in bad {
                        let item = Delivery { body: body.into(), ..delivery.clone() };
                        let letter = dead::letter(parts, &Address::Coordinator(queue), &item, reason.to_string());
                        intake.dead.push((place, letter));
                    }
                }
                Err(reason) => {
                    let letter = dead::letter(parts, &Address::Coordinator(queue), delivery, reason.to_string());
                    intake.dead.push((place, letter));
                }
            }
        }
        intake
    }

    fn read_one(
        &mut self,
        place: usize,
        delivery: &Delivery,
        max: usize,
        own: &OwnQueues,
    ) -> Result<Vec<BadItem>, DecodeError> {
        let body = &delivery.body;
        match &*delivery.kind {
            JobsFinished::KIND => self.each::<JobsFinished>(body, place, |intake, group| intake.outcomes(group, max)),
            JobsListed::KIND => {
                let (run, what, reply) = listed(decode::<JobsListed>(body)?, max);
                let reply = own.only(reply);
                self.happenings.entry(run).or_default().push(Happening { what, reply, delivery: Some(place) });
                Ok(Vec::new())
            }
            Leases::KIND => self.each::<Leases>(body, place, |_, group| {
                let LeaseGroup { run, entry, nonce, handler, worker: _, reply, leases } = group;
                (run, What::Event(Event::Leases { entry, nonce, handler, leases }), own.only(Some(reply)))
            }),
            ProbesReturned::KIND => self.each::<ProbesReturned>(body, place, |_, probe| {
                let Probe { run, entry, nonce, handler, coordinator: _, sent_at } = probe;
                (run, What::Event(Event::ProbeReturned { entry, nonce, handler, sent_at }), None)
            }),
            PhasesFinished::KIND => self.each::<PhasesFinished>(body, place, |_, finished| {
                let event = Event::PhaseFinished { entry: finished.entry, nonce: finished.nonce };
                (finished.run, What::Event(event), None)
            }),
            StartRuns::KIND => self.each::<StartRuns>(body, place, |_, mut start| {
                let reply = start.reply.take();
                (start.run, What::Start(start), reply)
            }),
            Controls::KIND => self.each::<Controls>(body, place, |_, mut control| {
                let named = || delivery.id.as_ref().map(|id| format!("{id}:{}", control.action.as_str()).into());
                control.id = control.id.clone().or_else(named);
                let reply = control.reply.take();
                (control.run, What::Event(Event::Control(control)), reply)
            }),
            Tick::KIND => {
                self.ticks.push(decode::<Tick>(body)?);
                Ok(Vec::new())
            }
            other => Err(DecodeError::Malformed {
                kind: "coordinator event",
                message: format!(
                    "its type is `{other}`; known are JobsFinished, JobsListed, Leases, ProbeReturned, \
                     PhaseFinished, StartRun, Control and Tick"
                ),
            }),
        }
    }

    fn each<T: Batch>(
        &mut self,
        body: &[u8],
        place: usize,
        read: impl Fn(&mut Self, T::Item) -> (RunId, What, Option<ReplyTo>),
    ) -> Result<Vec<BadItem>, DecodeError> {
        let (good, bad) = decode_batch::<T>(body)?;
        for item in good {
            let (run, what, reply) = read(self, item);
            self.happenings.entry(run).or_default().push(Happening { what, reply, delivery: Some(place) });
        }
        Ok(bad)
    }

    fn outcomes(&mut self, group: OutcomeGroup, max: usize) -> (RunId, What, Option<ReplyTo>) {
        let OutcomeGroup { run, entry, nonce, handler, done, mut outcomes, service_us } = group;
        if let Some(total_us) = service_us {
            let jobs = done.iter().fold(outcomes.len() as u64, |jobs, (_, count)| jobs.saturating_add(*count));
            self.services.push(Service { handler: handler.clone(), jobs, total_us });
        }
        outcomes.iter_mut().for_each(|outcome| limit(outcome, max));
        (run, What::Event(Event::JobsFinished { entry, nonce, handler, done, outcomes }), None)
    }
}

/// A page of a list, held to the limits, whatever worker it came from: one that is too long, or has a job that is too
/// large or nested too deep, fails the making of its list for good, if it is of the list that is taken.
fn listed(page: JobsListed, max: usize) -> (RunId, What, Option<ReplyTo>) {
    let JobsListed { run, entry, nonce, handler, attempt, list, first, items, worker: _, reply } = page;
    let unfit = if !list.is_whole() {
        Some(format!("{} is no number for a list: it has to be below 2^53", list.0))
    } else if items.len() > MAX_PAGE_JOBS {
        Some(format!("a page of its list has more than {MAX_PAGE_JOBS} jobs"))
    } else {
        let unfit = items.iter().enumerate().find_map(|(at, item)| item.check(max).err().map(|words| (at, words)));
        unfit.map(|(at, words)| format!("job {} of its list {words}", first.saturating_add(at as u64)))
    };
    let items = unfit.map_or(Ok(items), |words| Err(JobError::new("output", words).for_good()));
    (run, What::Event(Event::JobsListed { entry, nonce, handler, attempt, list, first, items }), reply)
}

/// Holds an outcome to the limits, whatever worker it came from: an output that is too large or nested too
/// deep is a failure for good.
fn limit(outcome: &mut Outcome, max: usize) {
    if let Some(Err(words)) = outcome.output.as_ref().map(|output| output.check(max)) {
        outcome.status = Status::Failed;
        outcome.output = None;
        outcome.error = Some(JobError::new("output", format!("its output {words}")).for_good());
    }
    if let Some(error) = &mut outcome.error
        && error.message.len() > MAX_ERROR_BYTES
    {
        let end = (0..=MAX_ERROR_BYTES).rev().find(|&end| error.message.is_char_boundary(end)).unwrap_or(0);
        error.message.truncate(end);
        error.message.push('…');
    }
}

#[cfg(test)]
mod tests {
    use phasework_workflows::Payload;
    use phasework_workflows::id::Nonce;

    use super::*;

    /// What is said of a page with these items, and whether its maker is answered.
    fn taken(list: u64, items: Vec<Payload>) -> (String, bool) {
        let page = JobsListed {
            run: "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b".parse().unwrap(),
            entry: 1,
            nonce: Nonce(5),
            handler: HandlerName::new("a").unwrap(),
            attempt: 2,
            list: Nonce(list),
            first: 10,
            items,
            worker: None,
            reply: Some(ReplyTo { queue: "phasework.worker.7".into(), correlation_id: None }),
        };
        let (_, what, reply) = listed(page, 100);
        let What::Event(Event::JobsListed { attempt: 2, first: 10, items, .. }) = what else { panic!("{what:?}") };
        (
            items.map_or_else(|unfit| format!("{} {}", unfit.retry, unfit.message), |items| items.len().to_string()),
            reply.is_some(),
        )
    }

    #[test]
    fn a_page_beyond_the_limits_stays_a_page_of_its_list() {
        let small = || Payload::from_json("0".into()).unwrap();
        let large = Payload::of(&"x".repeat(200)).unwrap();
        for (list, items, expected) in [
            (7, vec![small(); 3], "3"),
            (7, vec![small(); MAX_PAGE_JOBS], "65536"),
            (7, vec![small(); MAX_PAGE_JOBS + 1], "false a page of its list has more than 65536 jobs"),
            (7, vec![small(), large], "false job 11 of its list is 202 bytes long"),
            (1 << 53, vec![small()], "false 9007199254740992 is no number for a list"),
        ] {
            let (words, is_answered) = taken(list, items);
            assert!(words.starts_with(expected) && is_answered, "{words}");
        }
    }
}
