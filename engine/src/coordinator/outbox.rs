//! From effects to messages. What is published here is committed; publishing it again does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use phasework_broker::{Address, Message};
use phasework_store::{PAGE_JOBS, StoreError};
use phasework_workflows::definition::Workflow;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, PhaseName, RunId};
use phasework_workflows::message::event::{PhaseFinished, PhasesFinished};
use phasework_workflows::message::job::{CancelJobs, CanceledEntry, InputSource, Job, JobGroup, Jobs};
use phasework_workflows::message::notice::{Lifecycle, LifecycleEvent, Lifecycles};
use phasework_workflows::message::probe::{Probe, Probes};
use phasework_workflows::message::{Body, encode};
use phasework_workflows::run::{Dispatch, Effect, HandlerEntry, JobTicket, RunState};
use phasework_workflows::time::Timestamp;
use phasework_workflows::{Payload, Version};

use super::hot::HotRun;
use super::packing::MAX_PACK_BYTES;
use super::{lists, outside};
use crate::engine::Engine;

/// How many ends of phases, or lifecycle events, go in one message.
const ANNOUNCEMENTS: usize = 64;

/// How many pages of inputs are kept in memory.
const PAGES_KEPT: usize = 32;

/// Where a page of inputs is.
type PageKey = (RunId, EntryNo, Nonce, u16, u64);

/// Pages of inputs that were read lately, the latest last.
#[derive(Debug, Default)]
pub(super) struct Pages(Vec<(PageKey, Arc<Vec<Payload>>)>);

/// The messages that the outboxes of some runs come to, and the runs whose effects cannot be carried out because what
/// they refer to is damaged.
pub(super) async fn messages(
    engine: &Engine,
    pages: &mut Pages,
    runs: &mut [HotRun],
) -> Result<(Vec<Message>, Vec<RunId>), StoreError> {
    let mut letters = Letters { queues: engine.parts.config.coordinator_queues, ..Letters::default() };
    let mut unreadable = Vec::new();
    for hot in runs {
        let effects: Vec<_> = hot.outbox.iter().flat_map(|(_, effects)| effects.iter().cloned()).collect();
        for effect in effects {
            metrics::counter!("phasework_effects_total", "kind" => effect.kind()).increment(1);
            match effect {
                Effect::Dispatch(dispatch) => match letters.dispatch(engine, pages, hot, &dispatch).await {
                    Ok(()) => {}
                    Err(StoreError::Corrupt(reason)) => {
                        tracing::error!(run = %hot.run.head.id, reason, "jobs cannot be dispatched");
                        unreadable.push(hot.run.head.id);
                    }
                    Err(error) => return Err(error),
                },
                Effect::Probe { entry, nonce, phase, handler, version, sent_at } => {
                    let probe = Probed { entry, nonce, phase, handler, version, sent_at };
                    letters.probe(hot, probe);
                }
                Effect::Announce(finished) => {
                    if let (Some(tracer), Some(traceparent)) = (&engine.parts.config.tracer, &hot.run.head.traceparent)
                    {
                        tracer.phase_finished(traceparent, &hot.run.head.workflow, &finished);
                    }
                    letters.announcements.push(finished);
                }
                Effect::Tell(event) => {
                    log(&event);
                    letters.tell(event);
                }
                Effect::CancelJobs { entry } => letters.canceled.push(CanceledEntry { run: hot.run.head.id, entry }),
            }
        }
    }
    Ok((letters.seal(), unreadable))
}

/// Takes out of a run's outbox what was sent: all of it, but for what goes to addresses that take nothing now, and jobs
/// of a run that is paused. What stays is sent with whatever happens to the run next, or by a sweep.
pub(super) fn keep_unsent(hot: &mut HotRun, queue: u16, clogged: &[Address]) {
    let HotRun { run, workflow, outbox, published, .. } = hot;
    let is_paused = run.head.state == RunState::Paused;
    let is_unsent = |effect: &Effect| {
        let dispatches = matches!(effect, Effect::Dispatch(_));
        (is_paused && dispatches) || address_of(effect, workflow, queue).is_some_and(|to| clogged.contains(&to))
    };
    for (_, effects) in outbox.iter_mut() {
        effects.retain(is_unsent);
    }
    published.extend(outbox.iter().filter(|(_, effects)| effects.is_empty()).map(|(version, _)| *version));
    outbox.retain(|(_, effects)| !effects.is_empty());
}

/// Where an effect is sent; nowhere when its phase is not one of the workflow's.
fn address_of(effect: &Effect, workflow: &Workflow, queue: u16) -> Option<Address> {
    let jobs = |phase: &PhaseName, handler: u16, version: &Version| {
        let spec = workflow.phase(phase)?.handlers.get(usize::from(handler))?;
        Some(Address::Jobs(workflow.queue_of(phase, spec, version).into()))
    };
    match effect {
        Effect::Dispatch(Dispatch { phase, handler, version, .. }) | Effect::Probe { phase, handler, version, .. } => {
            jobs(phase, *handler, version)
        }
        Effect::Announce(_) => Some(Address::Coordinator(queue)),
        Effect::Tell(event) => Some(Address::Events(event.routing_key().into())),
        Effect::CancelJobs { .. } => Some(Address::Control),
    }
}

fn message<T: Body>(to: Address, body: &T) -> Message {
    Message::new(to, T::KIND, encode(body))
}

/// Each step of a run is a line in the log: one run's id finds its whole story.
fn log(event: &Lifecycle) {
    let Lifecycle { event, run, workflow, phase, entry, state, .. } = event;
    let what = match event {
        LifecycleEvent::RunStarted => "run started",
        LifecycleEvent::PhaseFinished => "phase finished",
        LifecycleEvent::RunHalted => "run halted",
        LifecycleEvent::RunFinished => "run finished",
    };
    tracing::info!(%run, %workflow, %phase, entry, state = &**state, "{what}");
}

/// What a probe asks after.
struct Probed {
    entry: EntryNo,
    nonce: Nonce,
    phase: PhaseName,
    handler: u16,
    version: Version,
    sent_at: Timestamp,
}

/// Messages in the making.
#[derive(Default)]
struct Letters {
    /// How many coordinator queues runs are mapped onto.
    queues: u16,
    packs: BTreeMap<Arc<str>, Pack>,
    announcements: Vec<PhaseFinished>,
    canceled: Vec<CanceledEntry>,
    /// By routing key, in the order in which the keys came up: what happens to a run first has its key first.
    told: Vec<(String, Vec<Lifecycle>)>,
    probes: Vec<Message>,
    others: Vec<Message>,
}

/// A pack of jobs that is not full yet.
#[derive(Default)]
struct Pack {
    groups: Vec<JobGroup>,
    jobs: usize,
    bytes: usize,
}

impl Letters {
    /// Puts the jobs of a dispatch into packs. A dispatch of an entry that the run has left is passed over: it was
    /// published before the run moved on, or its jobs were abandoned.
    async fn dispatch(
        &mut self,
        engine: &Engine,
        pages: &mut Pages,
        hot: &mut HotRun,
        dispatch: &Dispatch,
    ) -> Result<(), StoreError> {
        let entry = &hot.run.head.entry;
        // What was left in the outbox of a run that has been stopped since is not sent after all.
        let goes_on = match hot.run.head.state {
            RunState::Running | RunState::Halted => true,
            RunState::Paused | RunState::Canceling => false,
            RunState::Succeeded | RunState::Failed | RunState::Canceled => false,
        };
        if (entry.number, entry.nonce) != (dispatch.entry, dispatch.nonce) || !goes_on {
            return Ok(());
        }
        let workflow = Arc::clone(&hot.workflow);
        let phase = workflow.phase(&dispatch.phase);
        let Some(spec) = phase.and_then(|phase| phase.handlers.get(usize::from(dispatch.handler))) else {
            return Ok(());
        };
        let queue: Arc<str> = workflow.queue_of(&dispatch.phase, spec, &dispatch.version).into();
        let group = JobGroup {
            run: hot.run.head.id,
            workflow: hot.run.head.workflow.clone(),
            phase: dispatch.phase.clone(),
            entry: dispatch.entry,
            nonce: if dispatch.enumerate { dispatch.nonce.of_lists() } else { dispatch.nonce },
            handler: dispatch.name.clone(),
            version: dispatch.version.clone(),
            coordinator: hot.run.head.id.shard().queue(self.queues),
            timeout: spec.timeout,
            max_attempts: spec.retry.max_attempts,
            input: if spec.has_list() && !dispatch.enumerate { InputSource::Index } else { InputSource::Data },
            enumerate: dispatch.enumerate,
            traceparent: hot.run.head.traceparent.clone(),
            data: outside::data(engine, hot).await?,
            range: None,
            jobs: Vec::new(),
        };
        let listing = hot.run.head.entry.handlers.get(usize::from(dispatch.handler));
        // A list that was sealed meanwhile is not asked for again.
        if dispatch.enumerate && !listing.is_some_and(HandlerEntry::is_listing) {
            return Ok(());
        }
        let inputs = listing.map_or(dispatch.nonce, |handler| handler.inputs_under(dispatch.nonce));
        let size = engine.packing.size(&dispatch.name);
        tracing::debug!(
            run = %group.run, phase = %group.phase, handler = %group.handler, jobs = dispatch.len(), pack = size,
            "jobs dispatched"
        );
        let (first, count) = dispatch.fresh.unwrap_or((0, 0));
        if dispatch.stored_inputs {
            for index in first..first + count {
                let ticket = JobTicket { index, attempt: 1, tried: 1, alone: false };
                self.ticket(engine, pages, &queue, &group, (dispatch, inputs), (ticket, None), size).await?;
            }
        } else {
            self.ranges(&queue, &group, first, count, size);
        }
        for &ticket in &dispatch.again {
            let jobs = hot.run.jobs.get(usize::from(dispatch.handler));
            let details = jobs.and_then(|jobs| jobs.exception(ticket.index)?.details.clone());
            self.ticket(engine, pages, &queue, &group, (dispatch, inputs), (ticket, details), size).await?;
        }
        Ok(())
    }

    fn tell(&mut self, event: Lifecycle) {
        let key = event.routing_key();
        match self.told.iter_mut().find(|(other, _)| *other == key) {
            Some((_, events)) => events.push(event),
            None => self.told.push((key, vec![event])),
        }
    }

    /// A probe for the queue of a handler. One of an entry that the run has left asks nothing any more.
    fn probe(&mut self, hot: &HotRun, probed: Probed) {
        let Probed { entry, nonce, phase, handler, version, sent_at } = probed;
        let current = &hot.run.head.entry;
        let spec = hot.workflow.phase(&phase).and_then(|phase| phase.handlers.get(usize::from(handler)));
        let Some(spec) = spec.filter(|_| (current.number, current.nonce) == (entry, nonce)) else { return };
        let queue = hot.workflow.queue_of(&phase, spec, &version).into();
        let (run, handler, coordinator) =
            (hot.run.head.id, spec.name.clone(), hot.run.head.id.shard().queue(self.queues));
        let probe = Probe { run, entry, nonce, handler, coordinator, sent_at };
        self.probes.push(message(Address::Jobs(queue), &Probes { items: vec![probe] }));
    }

    /// Fresh jobs that carry no input of their own, in ranges.
    fn ranges(&mut self, queue: &Arc<str>, group: &JobGroup, first: u64, count: u64, size: usize) {
        let (mut first, end) = (first, first + count);
        while first < end {
            let room = size.saturating_sub(self.packs.get(queue).map_or(0, |pack| pack.jobs));
            let take = (end - first).min(room.max(1) as u64);
            let bytes = group_bytes(group);
            self.add(queue, JobGroup { range: Some((first, take)), ..group.clone() }, take as usize, bytes, size);
            first += take;
        }
    }

    /// One job with its input.
    #[expect(clippy::too_many_arguments, reason = "one job is described by where it goes and what it is")]
    async fn ticket(
        &mut self,
        engine: &Engine,
        pages: &mut Pages,
        queue: &Arc<str>,
        group: &JobGroup,
        (dispatch, inputs): (&Dispatch, Nonce),
        (ticket, details): (JobTicket, Option<Payload>),
        size: usize,
    ) -> Result<(), StoreError> {
        let input = if dispatch.stored_inputs {
            match pages.input(engine, group.run, (dispatch, inputs), ticket.index).await? {
                Some(input) => Some(input),
                None => return Ok(()), // forgotten: the entry is over
            }
        } else {
            None
        };
        let bytes = [&input, &details].into_iter().flatten().map(Payload::len).sum::<usize>() + 64;
        let job = Job { index: ticket.index, attempt: ticket.attempt, tried: ticket.tried, input, details };
        if ticket.alone {
            let alone = Jobs { groups: vec![JobGroup { jobs: vec![job], ..group.clone() }] };
            self.others.push(message(Address::Jobs(Arc::clone(queue)), &alone));
            return Ok(());
        }
        // Jobs of one group that follow each other share its header.
        if let Some(pack) = self.packs.get_mut(queue)
            && pack.jobs < size
            && pack.bytes + bytes <= MAX_PACK_BYTES
            && let Some(last) = pack.groups.last_mut()
            && (last.run, last.nonce, &last.handler) == (group.run, group.nonce, &group.handler)
            && last.range.is_none()
        {
            last.jobs.push(job);
            pack.jobs += 1;
            pack.bytes += bytes;
            return Ok(());
        }
        let bytes = bytes + group_bytes(group);
        self.add(queue, JobGroup { jobs: vec![job], ..group.clone() }, 1, bytes, size);
        Ok(())
    }

    /// Adds a group to the pack for `queue`, which is sent on first if it would become too full.
    fn add(&mut self, queue: &Arc<str>, group: JobGroup, jobs: usize, bytes: usize, size: usize) {
        let pack = self.packs.entry(Arc::clone(queue)).or_default();
        if pack.jobs > 0 && (pack.jobs + jobs > size || pack.bytes + bytes > MAX_PACK_BYTES) {
            let full = std::mem::take(pack);
            self.others.push(message(Address::Jobs(Arc::clone(queue)), &Jobs { groups: full.groups }));
        }
        let pack = self.packs.entry(Arc::clone(queue)).or_default();
        pack.groups.push(group);
        pack.jobs += jobs;
        pack.bytes += bytes;
    }

    fn seal(self) -> Vec<Message> {
        let mut messages = self.others;
        for (queue, pack) in self.packs {
            messages.push(message(Address::Jobs(queue), &Jobs { groups: pack.groups }));
        }
        // Behind all jobs that are sent along: what was there before a probe is what it asks after.
        messages.extend(self.probes);
        let mut announcements: BTreeMap<u16, Vec<PhaseFinished>> = BTreeMap::new();
        for finished in self.announcements {
            announcements.entry(finished.run.shard().queue(self.queues)).or_default().push(finished);
        }
        for (queue, announcements) in announcements {
            for items in announcements.chunks(ANNOUNCEMENTS) {
                messages.push(message(Address::Coordinator(queue), &PhasesFinished { items: items.to_vec() }));
            }
        }
        for (key, events) in self.told {
            let to = Address::Events(key.into());
            for items in events.chunks(ANNOUNCEMENTS) {
                messages.push(message(to.clone(), &Lifecycles { items: items.to_vec() }));
            }
        }
        if !self.canceled.is_empty() {
            messages.push(message(Address::Control, &CancelJobs { items: self.canceled }));
        }
        messages
    }
}

/// About how many bytes a group's header takes.
fn group_bytes(group: &JobGroup) -> usize {
    group.data.as_ref().map_or(0, Payload::len) + 400
}

impl Pages {
    /// The input of a job; `None` when its page is gone.
    async fn input(
        &mut self,
        engine: &Engine,
        run: RunId,
        (dispatch, nonce): (&Dispatch, Nonce),
        index: JobIndex,
    ) -> Result<Option<Payload>, StoreError> {
        let key = |page| (run, dispatch.entry, nonce, dispatch.handler, page);
        let at = |page: &[Payload], place: u64| usize::try_from(place).ok().and_then(|at| page.get(at)).cloned();
        if nonce == dispatch.nonce {
            let page = self.page(engine, key(index / PAGE_JOBS)).await?;
            return Ok(page.and_then(|page| at(&page, index % PAGE_JOBS)));
        }
        for first in lists::places_of(index) {
            let Some(block) = self.page(engine, key(first)).await? else { return Ok(None) };
            if let Some(input) = at(&block, index - first) {
                return Ok(Some(input));
            }
        }
        Ok(None)
    }

    /// A page of inputs; `None` when it is gone.
    async fn page(&mut self, engine: &Engine, key: PageKey) -> Result<Option<Arc<Vec<Payload>>>, StoreError> {
        let kept = self.0.iter().rev().find(|(kept, _)| *kept == key).map(|(_, page)| Arc::clone(page));
        if kept.is_some() {
            return Ok(kept);
        }
        let (run, entry, nonce, handler, page) = key;
        let Some(inputs) = engine.parts.store.inputs(run, entry, nonce, handler, page).await? else { return Ok(None) };
        if self.0.len() >= PAGES_KEPT {
            self.0.remove(0);
        }
        let inputs = Arc::new(inputs);
        self.0.push((key, Arc::clone(&inputs)));
        Ok(Some(inputs))
    }
}
