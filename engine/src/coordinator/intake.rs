//! From messages to events: every delivery is read, what it says is sorted by run, what cannot be read is set aside.

use std::collections::BTreeMap;

use phasework_broker::{Address, Delivery, Message};
use phasework_workflows::id::{HandlerName, RunId};
use phasework_workflows::message::event::{Controls, PhasesFinished, ReplyTo, StartRun, StartRuns, Tick};
use phasework_workflows::message::lease::{LeaseGroup, Leases};
use phasework_workflows::message::outcome::{JobError, JobsFinished, Outcome, OutcomeGroup, Status};
use phasework_workflows::message::probe::{Probe, ProbesReturned};
use phasework_workflows::message::{BadItem, Batch, Body, DecodeError, decode, decode_batch};
use phasework_workflows::run::Event;

use crate::dead;
use crate::engine::Parts;

/// The longest error message of a job that is kept, in bytes.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// What a batch of deliveries says.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// What happened, by run, in the order in which it came.
    pub(super) happenings: BTreeMap<RunId, Vec<Happening>>,
    /// Dead letters to be published before the deliveries are acknowledged.
    pub(super) dead: Vec<Message>,
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

impl Intake {
    /// Reads deliveries that came from the coordinator queue `queue`.
    pub(super) fn read(parts: &Parts, queue: u16, deliveries: &[Delivery]) -> Self {
        let mut intake = Self::default();
        for (place, delivery) in deliveries.iter().enumerate() {
            match intake.read_one(place, delivery, parts.config.max_payload_bytes) {
                Ok(bad) => {
                    for BadItem { body, reason } in bad {
                        let item = Delivery { body: body.into(), ..delivery.clone() };
                        intake.dead.push(dead::letter(parts, &Address::Coordinator(queue), &item, reason.to_string()));
                    }
                }
                Err(reason) => {
                    intake.dead.push(dead::letter(parts, &Address::Coordinator(queue), delivery, reason.to_string()));
                }
            }
        }
        intake
    }

    fn read_one(&mut self, place: usize, delivery: &Delivery, max: usize) -> Result<Vec<BadItem>, DecodeError> {
        let body = &delivery.body;
        match &*delivery.kind {
            JobsFinished::KIND => self.each::<JobsFinished>(body, place, |intake, group| intake.outcomes(group, max)),
            Leases::KIND => self.each::<Leases>(body, place, |_, group| {
                let LeaseGroup { run, entry, nonce, handler, worker: _, reply, leases } = group;
                (run, What::Event(Event::Leases { entry, nonce, handler, leases }), Some(reply))
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
                    "its type is `{other}`; known are JobsFinished, Leases, ProbeReturned, PhaseFinished, StartRun, \
                     Control and Tick"
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
