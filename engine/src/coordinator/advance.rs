//! Advancing runs: load, decide, answer, commit. Nobody else has anything decided about a run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phasework_store::{Commit, CommitError, RunIndex, StoreError, StoredRun};
use phasework_workflows::Payload;
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Refused, ReplyTo, StartRun};
use phasework_workflows::run::{Delta, Effect, Event, Head, Ignored, Moment, Question, Step, Unreadable, start};
use phasework_workflows::time::Timestamp;

use super::answer::{Answer, answer_for_no_run, answer_of, refused};
use super::hot::{HotRun, HotRuns};
use super::intake::{Happening, What};
use super::{lists, outside};
use crate::engine::Engine;

/// Why a retry is refused.
const NOT_RECORDED: &str = "it halted under an earlier version, which did not record which jobs failed, so that they cannot \
    be tried again: rerun enters the phase anew";

/// How often a run is loaded and applied anew because somebody else changed it in between.
const CONFLICTS: u32 = 8;

/// What came of advancing some runs. Everything in it is committed.
#[derive(Debug, Default)]
pub(super) struct Advanced {
    /// The runs, each with an outbox to be published.
    pub(super) runs: Vec<HotRun>,
    /// Answers to be sent once that is done.
    pub(super) answers: Vec<(ReplyTo, Answer)>,
    /// Deliveries that cannot be carried out, by their place in the batch, and why.
    pub(super) unfit: BTreeMap<usize, String>,
    /// Runs whose stored data is damaged, so that nothing can be done about them.
    pub(super) damaged: BTreeSet<RunId>,
    /// Runs that a later version of this program has written, and in which format.
    pub(super) newer: BTreeMap<RunId, u16>,
    /// Deliveries about such runs, by their place in the batch: another coordinator can carry them out.
    pub(super) for_newer: BTreeSet<usize>,
}

impl Advanced {
    /// Tells the asker why not; when nobody asked, the delivery is set aside.
    fn refuse(&mut self, happening: &Happening, refused: Refused) {
        match (&happening.reply, happening.delivery) {
            (Some(reply), _) => self.answers.push((reply.clone(), Answer::Refused(refused))),
            (None, Some(delivery)) => drop(self.unfit.insert(delivery, refused.message)),
            (None, None) => {}
        }
    }

    /// Leaves what happened to a run that cannot be read to others, or sets it aside, as the reason is; the others go on.
    fn refuse_unreadable(&mut self, run: RunId, happenings: &[Happening], reason: &Unreadable) {
        match reason {
            Unreadable::Newer { format } => self.leave_to_newer(run, happenings, *format),
            Unreadable::Damaged(reason) => self.refuse_damaged(run, happenings, reason),
        }
    }

    /// Leaves what happened to a run that a later version of this program has written to a coordinator that can read it.
    /// Who asks is told to ask again: that one is served by then, or none is there.
    fn leave_to_newer(&mut self, run: RunId, happenings: &[Happening], format: u16) {
        self.newer.insert(run, format);
        for happening in happenings {
            match (&happening.reply, happening.delivery) {
                (Some(reply), _) => {
                    let refused = refused("unavailable", format!("run {run}: {}", Unreadable::Newer { format }));
                    self.answers.push((reply.clone(), Answer::Refused(refused)));
                }
                (None, Some(delivery)) => {
                    self.for_newer.insert(delivery);
                }
                (None, None) => {}
            }
        }
    }

    /// Sets aside what happened to a run whose stored data is damaged; the others go on.
    fn refuse_damaged(&mut self, run: RunId, happenings: &[Happening], reason: &str) {
        tracing::error!(%run, reason, "a run cannot be read");
        self.damaged.insert(run);
        for happening in happenings {
            self.refuse(happening, refused("damaged", format!("run {run}: {reason}")));
        }
    }
}

/// Advances runs. On an error nothing is lost: what was committed is found again by the outbox, and applying the same
/// happenings again changes nothing.
pub(super) async fn advance(
    engine: &Engine,
    hot: &mut HotRuns,
    happenings: &BTreeMap<RunId, Vec<Happening>>,
) -> Result<Advanced, StoreError> {
    let mut advanced = Advanced::default();
    let mut left: BTreeSet<RunId> = happenings.keys().copied().collect();
    for time in 0..CONFLICTS {
        if left.is_empty() {
            return Ok(advanced);
        }
        // That a run is new is believed once: if it is not, its commit is a conflict.
        let is_new = |run: &RunId| time == 0 && happenings[run].first().is_some_and(Happening::makes_run);
        let known = left.iter().copied().filter(|run| hot.contains(*run) || !is_new(run)).collect();
        let mut loaded = load(engine, hot, known, happenings).await?;
        let mut turned = Vec::new();
        for &run in &left {
            let happened = &happenings[&run];
            let turn = match loaded.remove(&run).transpose() {
                Ok(loaded) => unless_unreadable(turn(engine, run, loaded, happened, &mut advanced).await)?,
                Err(reason) => Err(reason),
            };
            match turn {
                Ok(turn) => turned.extend(turn),
                Err(reason) => advanced.refuse_unreadable(run, happened, &reason),
            }
        }
        let Committed { again, damaged } = commit(engine, hot, turned, &mut advanced).await?;
        for (run, reason) in damaged {
            advanced.refuse_damaged(run, &happenings[&run], &reason);
        }
        left = again;
    }
    if left.is_empty() { Ok(advanced) } else { Err(StoreError::Unavailable("runs keep changing underneath".into())) }
}

/// Damaged data is the affair of the run it belongs to; every other failure is that of the whole batch.
fn unless_unreadable<T>(result: Result<T, StoreError>) -> Result<Result<T, Unreadable>, StoreError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(StoreError::Corrupt(reason)) => Ok(Err(Unreadable::Damaged(reason))),
        Err(error) => Err(error),
    }
}

/// The runs that something happened to, from memory or from the store; those that do not exist are left out, and for
/// those that cannot be read it says why.
async fn load(
    engine: &Engine,
    hot: &mut HotRuns,
    runs: Vec<RunId>,
    happenings: &BTreeMap<RunId, Vec<Happening>>,
) -> Result<BTreeMap<RunId, Result<HotRun, Unreadable>>, StoreError> {
    let (mut missing, mut loaded) = (Vec::new(), BTreeMap::new());
    for run in runs {
        match hot.take(run) {
            Some(hot) => drop(loaded.insert(run, Ok(hot))),
            None => missing.push(run),
        }
    }
    if missing.is_empty() {
        return Ok(loaded);
    }
    for (run, stored) in load_each(engine, missing).await? {
        let read = match stored {
            Ok(None) => continue,
            Ok(Some(stored)) => {
                let is_forced = happenings[&run].iter().any(Happening::is_forced_cancel);
                let read = read(engine, stored).await?;
                let adds_up = |run: HotRun| run.adds_up().map_err(Unreadable::Damaged);
                if is_forced { read.map(HotRun::adds_up_or_not) } else { read.and_then(adds_up) }
            }
            Err(reason) => Err(reason),
        };
        let read = read.map(|mut read| {
            read.listening_since = hot.listening_since;
            hot.recall(&mut read);
            read
        });
        loaded.insert(run, read);
    }
    Ok(loaded)
}

/// Runs as they are stored. When one of them is damaged they are read one by one, so that the others are not held up.
pub(super) async fn load_each(
    engine: &Engine,
    runs: Vec<RunId>,
) -> Result<Vec<(RunId, Result<Option<StoredRun>, Unreadable>)>, StoreError> {
    let store = &engine.parts.store;
    if let Ok(stored) = unless_unreadable(store.load(&runs).await)? {
        return Ok(runs.into_iter().zip(stored.into_iter().map(Ok)).collect());
    }
    let mut each = Vec::with_capacity(runs.len());
    for run in runs {
        let stored = unless_unreadable(store.load(&[run]).await)?;
        each.push((run, stored.map(|stored| stored.into_iter().next().flatten())));
    }
    Ok(each)
}

pub(super) async fn read(engine: &Engine, stored: StoredRun) -> Result<Result<HotRun, Unreadable>, StoreError> {
    let head = match Head::from_json(&stored.head) {
        Ok(head) => head,
        Err(unreadable) => return Ok(Err(unreadable)),
    };
    Ok(match unless_unreadable(engine.workflows.revision(&head.revision).await)? {
        Ok(Some(workflow)) => HotRun::from_stored(stored, head, workflow).map_err(Unreadable::Damaged),
        Ok(None) => {
            let reason = format!("revision {} of workflow {} is not stored", head.revision, head.workflow);
            Err(Unreadable::Damaged(reason))
        }
        Err(reason) => Err(reason),
    })
}

/// A run to which something was applied, and is not committed yet.
struct Turned {
    hot: HotRun,
    effects: Vec<Effect>,
    answers: Vec<(ReplyTo, Answer)>,
    /// Data that is to be written: that of a run that is being made, or what an order has put in its place.
    data: Option<Payload>,
    /// Whether something that happened changed nothing.
    ignored: bool,
}

impl Turned {
    const fn new(hot: HotRun, data: Option<Payload>) -> Self {
        Self { hot, effects: Vec::new(), answers: Vec::new(), data, ignored: false }
    }
}

/// Applies what happened to one run, in order. `None` when there is no such run and it was not started.
async fn turn(
    engine: &Engine,
    run: RunId,
    loaded: Option<HotRun>,
    happened: &[Happening],
    advanced: &mut Advanced,
) -> Result<Option<Turned>, StoreError> {
    let mut turned = loaded.map(|hot| Turned::new(hot, None));
    let mut passed_over = 0;
    for happening in happened {
        // Nothing but an order to end by force can be carried out for a run that is damaged.
        let damage = turned.as_ref().and_then(|turned| turned.hot.damage.as_ref());
        if let Some(reason) = damage.filter(|_| !happening.is_forced_cancel()) {
            advanced.refuse(happening, refused("damaged", format!("run {run}: {reason}")));
            continue;
        }
        let changed = match (&happening.what, &mut turned) {
            (What::Start(order), None) => match begin(engine, order).await? {
                Ok(begun) => {
                    turned = Some(begun);
                    true
                }
                Err(refused) => {
                    advanced.refuse(happening, refused);
                    continue;
                }
            },
            (What::Start(_), Some(_)) => false,
            (What::Event(event), Some(turned)) => match step(engine, turned, event.clone()).await? {
                Ok(changed) => {
                    if changed && turned.hot.damage.take().is_some() {
                        tracing::warn!(%run, "a damaged run was ended by force");
                    }
                    changed
                }
                Err(refused) => {
                    // What was only remembered is looked at as the store has it before that is said.
                    turned.ignored = true;
                    match &happening.reply {
                        Some(reply) => turned.answers.push((reply.clone(), Answer::Refused(refused))),
                        None => advanced.refuse(happening, refused),
                    }
                    continue;
                }
            },
            (What::Event(_), None) => {
                // Outcomes of a run that is gone are nobody's fault; only who asks is told.
                metrics::counter!("phasework_events_ignored_total", "reason" => "unknown-run").increment(1);
                passed_over += 1;
                if let Some(reply) = &happening.reply {
                    advanced.answers.push((reply.clone(), answer_for_no_run(&happening.what, run)));
                }
                continue;
            }
        };
        let Some(turned) = &mut turned else { continue };
        turned.ignored |= !changed;
        if let Some(reply) = &happening.reply {
            let run = &turned.hot.run;
            let answer = answer_of(&happening.what, &run.head, &run.jobs, changed, engine.parts.clock.now());
            turned.answers.push((reply.clone(), answer));
        }
    }
    if passed_over > 0 {
        tracing::info!(%run, events = passed_over, "what happened to a run that is not there is passed over");
    }
    Ok(turned)
}

/// Makes a run.
async fn begin(engine: &Engine, order: &StartRun) -> Result<Result<Turned, Refused>, StoreError> {
    let Some(workflow) = engine.workflows.revision(&order.revision).await? else {
        let message = format!("revision {} of workflow {} is not stored", order.revision, order.workflow);
        return Ok(Err(refused("unknown-workflow", message)));
    };
    let limit = engine.parts.config.max_payload_bytes;
    if let Some(Err(words)) = order.data.as_ref().map(|data| data.check(limit)) {
        return Ok(Err(refused("too-large", format!("run data {words}"))));
    }
    let (run, step) = start(&workflow, order, moment(engine, Timestamp::default()));
    let hot = HotRun::new(run, workflow, order.data.clone());
    let mut turned = Turned::new(hot, order.data.clone());
    follow(engine, &mut turned, step).await?;
    Ok(Ok(turned))
}

fn moment(engine: &Engine, listening_since: Timestamp) -> Moment {
    Moment { now: engine.parts.clock.now(), random: engine.parts.ids.random(), listening_since }
}

/// Applies one event, and the answers to what that asks. Whether anything changed.
async fn step(engine: &Engine, turned: &mut Turned, event: Event) -> Result<Result<bool, Refused>, StoreError> {
    let workflow = Arc::clone(&turned.hot.workflow);
    let given = match &event {
        Event::Control(control) if control.action.takes_data() => control.data.clone(),
        _ => None,
    };
    let limit = engine.parts.config.max_payload_bytes;
    if let Some(Err(words)) = given.as_ref().map(|data| data.check(limit)) {
        return Ok(Err(refused("too-large", format!("run data {words}"))));
    }
    let decide = engine.parts.decide;
    let step = decide(&workflow, &mut turned.hot.run, &event, moment(engine, turned.hot.listening_since));
    if let Step::Changed { .. } = &step {
        lists::put_page(engine, &turned.hot.run.head, &event).await?;
    }
    if let (Some(data), Step::Changed { .. }) = (given, &step) {
        turned.hot.data = None;
        turned.hot.keep_data(Some(data.clone()));
        turned.data = Some(data);
    }
    Ok(match follow(engine, turned, step).await? {
        Some(Ignored::NotRecorded) => Err(refused("not-recorded", NOT_RECORDED.to_owned())),
        ignored => Ok(ignored.is_none()),
    })
}

/// Collects the effects of a step, answers its questions, and applies the answers, until nothing is asked any more. Why
/// nothing changed, if so.
async fn follow(engine: &Engine, turned: &mut Turned, first: Step) -> Result<Option<Ignored>, StoreError> {
    let workflow = Arc::clone(&turned.hot.workflow);
    let mut asked: VecDeque<Question> = VecDeque::new();
    let ignored = if let Step::Ignored(reason) = &first { Some(*reason) } else { None };
    let mut step = Some(first);
    loop {
        match step.take() {
            Some(Step::Changed { effects, questions }) => {
                turned.effects.extend(effects);
                asked.extend(questions);
            }
            Some(Step::Ignored(reason)) => {
                metrics::counter!("phasework_events_ignored_total", "reason" => reason.as_str()).increment(1);
            }
            None => {}
        }
        let Some(question) = asked.pop_front() else { return Ok(ignored) };
        let answer = outside::answer(engine, &mut turned.hot, question, turned.data.as_ref()).await?;
        let decide = engine.parts.decide;
        step = Some(decide(&workflow, &mut turned.hot.run, &answer, moment(engine, turned.hot.listening_since)));
    }
}

/// What came of a commit.
#[derive(Default)]
struct Committed {
    /// Runs that have to be loaded from the store and applied to once more.
    again: BTreeSet<RunId>,
    /// Runs whose stored data is damaged, and how.
    damaged: Vec<(RunId, String)>,
}

/// Commits the runs that changed, all in one call. A run that was only remembered, and about which something was
/// ignored, is looked at again as the store has it: memory is a guess, and nothing was committed that would confirm it.
async fn commit(
    engine: &Engine,
    hot: &mut HotRuns,
    turned: Vec<Turned>,
    advanced: &mut Advanced,
) -> Result<Committed, StoreError> {
    let (mut commits, mut committing, mut committed) = (Vec::new(), Vec::new(), Committed::default());
    for mut turned in turned {
        let delta = turned.hot.run.take_delta();
        let head = turned.hot.run.head.to_json();
        let is_unchanged = turned.effects.is_empty() && delta == Delta::default() && head == turned.hot.head;
        if is_unchanged && turned.ignored && turned.hot.is_guess {
            committed.again.insert(turned.hot.run.head.id);
            hot.let_go(turned.hot);
        } else if is_unchanged {
            advanced.answers.append(&mut turned.answers);
            advanced.runs.push(turned.hot);
        } else {
            let effects = if turned.effects.is_empty() { Vec::new() } else { to_json(&turned.effects) };
            commits.push(commit_of(&mut turned, head, delta, effects));
            committing.push(turned);
        }
    }
    if commits.is_empty() {
        return Ok(committed);
    }
    let heads: Vec<_> = commits.iter().map(|commit| commit.head.clone()).collect();
    let results = engine.parts.store.commit(commits).await;
    let mut failed = None;
    for ((mut turned, head), result) in committing.into_iter().zip(heads).zip(results) {
        match result {
            Ok(()) => {
                metrics::counter!("phasework_commits_total").increment(1);
                let run = &mut turned.hot;
                run.version += 1;
                run.head = head;
                run.published.clear();
                if !turned.effects.is_empty() {
                    run.outbox.push((run.version, turned.effects));
                }
                advanced.answers.append(&mut turned.answers);
                advanced.runs.push(turned.hot);
            }
            Err(CommitError::Conflict) => {
                metrics::counter!("phasework_commit_conflicts_total").increment(1);
                committed.again.insert(turned.hot.run.head.id);
                hot.let_go(turned.hot);
            }
            Err(CommitError::Store(StoreError::Corrupt(reason))) => {
                committed.damaged.push((turned.hot.run.head.id, reason));
            }
            Err(CommitError::Store(error)) => {
                hot.let_go(turned.hot);
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(committed), Err)
}

fn to_json(effects: &[Effect]) -> Vec<u8> {
    serde_json::to_vec(effects).expect("effects are plain data")
}

fn commit_of(turned: &mut Turned, head: Vec<u8>, delta: Delta, effects: Vec<u8>) -> Commit {
    let hot = &turned.hot;
    let state = &hot.run.head;
    Commit {
        run: state.id,
        expect: hot.version,
        head,
        entry: state.entry.number,
        handlers: state.entry.handlers.len() as u16,
        delta,
        data: turned.data.take(),
        effects,
        published: hot.published.clone(),
        index: RunIndex {
            state: state.state,
            created_at: state.created_at,
            ended_at: state.ended_at,
            wake_at: state.wake_at,
            awaits_worker: state.awaits_worker,
        },
    }
}
