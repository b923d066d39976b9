//! Advancing runs: load, apply, answer, commit. The only caller of `apply`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phasework_store::{Commit, CommitError, RunIndex, RunVersion, StoreError};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Accepted, Refused, ReplyTo, StartRun};
use phasework_workflows::run::{Delta, Effect, Event, Head, Moment, Question, Step, apply, start};

use super::hot::{HotRun, HotRuns};
use super::intake::{Happening, What};
use super::outside;
use crate::engine::Engine;

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

    fn refuse_all(&mut self, happenings: &[Happening], reason: &str) {
        for happening in happenings {
            self.refuse(happening, refused("damaged", reason.to_owned()));
        }
    }
}

fn refused(code: &str, message: String) -> Refused {
    Refused { code: code.into(), message, problems: Vec::new() }
}

/// What an asker is told.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted(Accepted),
    Refused(Refused),
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
    for _ in 0..CONFLICTS {
        if left.is_empty() {
            return Ok(advanced);
        }
        let mut loaded = load(engine, hot, &left).await?;
        let mut turned = Vec::new();
        for run in &left {
            let loaded = match loaded.remove(run).transpose() {
                Ok(loaded) => loaded,
                Err(reason) => {
                    advanced.refuse_all(&happenings[run], &format!("run {run}: {reason}"));
                    continue;
                }
            };
            turned.extend(turn(engine, loaded, &happenings[run], &mut advanced).await?);
        }
        left = commit(engine, turned, &mut advanced).await?;
    }
    if left.is_empty() { Ok(advanced) } else { Err(StoreError::Unavailable("runs keep changing underneath".into())) }
}

/// The runs that something happened to, from memory or from the store; those that do not exist are left out, and for
/// those that cannot be read it says why.
async fn load(
    engine: &Engine,
    hot: &mut HotRuns,
    runs: &BTreeSet<RunId>,
) -> Result<BTreeMap<RunId, Result<HotRun, String>>, StoreError> {
    let missing: Vec<_> = runs.iter().copied().filter(|&run| !hot.contains(run)).collect();
    let mut loaded: BTreeMap<_, _> = runs.iter().filter_map(|&run| hot.take(run).map(|hot| (run, Ok(hot)))).collect();
    if missing.is_empty() {
        return Ok(loaded);
    }
    let stored = engine.parts.store.load(&missing).await?;
    for (run, stored) in missing.into_iter().zip(stored) {
        let Some(stored) = stored else { continue };
        let read = match Head::from_json(&stored.head) {
            Ok(head) => match engine.workflows.revision(&head.revision).await? {
                Some(workflow) => HotRun::from_stored(stored, head, workflow),
                None => Err(format!("revision {} of workflow {} is not stored", head.revision, head.workflow)),
            },
            Err(reason) => Err(reason),
        };
        if let Err(reason) = &read {
            tracing::error!(%run, reason, "a run cannot be read");
        }
        loaded.insert(run, read);
    }
    Ok(loaded)
}

/// A run to which something was applied, and is not committed yet.
struct Turned {
    hot: HotRun,
    effects: Vec<Effect>,
    answers: Vec<(ReplyTo, Answer)>,
    data: Option<phasework_workflows::Payload>,
}

/// Applies what happened to one run, in order. `None` when there is no such run and it was not started.
async fn turn(
    engine: &Engine,
    loaded: Option<HotRun>,
    happened: &[Happening],
    advanced: &mut Advanced,
) -> Result<Option<Turned>, StoreError> {
    let mut turned = loaded.map(|hot| Turned { hot, effects: Vec::new(), answers: Vec::new(), data: None });
    for happening in happened {
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
            (What::Event(event), Some(turned)) => step(engine, turned, event.clone()).await?,
            (What::Event(_), None) => {
                // Outcomes of a run that is gone are nobody's fault; only who asks is told.
                metrics::counter!("phasework_events_ignored_total", "reason" => "unknown-run").increment(1);
                if happening.reply.is_some() {
                    advanced.refuse(happening, refused("unknown-run", "there is no such run".into()));
                }
                continue;
            }
        };
        if let (Some(reply), Some(turned)) = (&happening.reply, &mut turned) {
            let head = &turned.hot.run.head;
            let accepted = Accepted { run: head.id, changed, state: head.state.as_str().into() };
            turned.answers.push((reply.clone(), Answer::Accepted(accepted)));
        }
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
    let (run, step) = start(&workflow, order, moment(engine));
    let hot = HotRun::new(run, workflow, order.data.clone());
    let mut turned = Turned { hot, effects: Vec::new(), answers: Vec::new(), data: order.data.clone() };
    follow(engine, &mut turned, step).await?;
    Ok(Ok(turned))
}

fn moment(engine: &Engine) -> Moment {
    Moment { now: engine.parts.clock.now(), random: engine.parts.ids.random() }
}

/// Applies one event, and the answers to what that asks. Whether anything changed.
async fn step(engine: &Engine, turned: &mut Turned, event: Event) -> Result<bool, StoreError> {
    let workflow = Arc::clone(&turned.hot.workflow);
    let step = apply(&workflow, &mut turned.hot.run, &event, moment(engine));
    follow(engine, turned, step).await
}

/// Collects the effects of a step, answers its questions, and applies the answers, until nothing is asked any more.
async fn follow(engine: &Engine, turned: &mut Turned, first: Step) -> Result<bool, StoreError> {
    let workflow = Arc::clone(&turned.hot.workflow);
    let mut asked: VecDeque<Question> = VecDeque::new();
    let mut changed = false;
    let mut step = Some(first);
    loop {
        match step.take() {
            Some(Step::Changed { effects, questions }) => {
                changed = true;
                turned.effects.extend(effects);
                asked.extend(questions);
            }
            Some(Step::Ignored(reason)) => {
                metrics::counter!("phasework_events_ignored_total", "reason" => reason.as_str()).increment(1);
            }
            None => {}
        }
        let Some(question) = asked.pop_front() else { return Ok(changed) };
        let answer = outside::answer(engine, &mut turned.hot, question, turned.data.as_ref()).await?;
        step = Some(apply(&workflow, &mut turned.hot.run, &answer, moment(engine)));
    }
}

/// Commits the runs that changed, all in one call. Returns those that somebody else changed in between.
async fn commit(engine: &Engine, turned: Vec<Turned>, advanced: &mut Advanced) -> Result<BTreeSet<RunId>, StoreError> {
    let (mut commits, mut committing) = (Vec::new(), Vec::new());
    for mut turned in turned {
        let delta = turned.hot.run.take_delta();
        let head = turned.hot.run.head.to_json();
        if turned.effects.is_empty() && delta == Delta::default() && head == turned.hot.head {
            advanced.answers.append(&mut turned.answers);
            advanced.runs.push(turned.hot);
        } else {
            let effects = if turned.effects.is_empty() { Vec::new() } else { to_json(&turned.effects) };
            commits.push(commit_of(&mut turned, head, delta, effects));
            committing.push(turned);
        }
    }
    if commits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let heads: Vec<_> = commits.iter().map(|commit| commit.head.clone()).collect();
    let results = engine.parts.store.commit(commits).await;
    let (mut conflicts, mut failed) = (BTreeSet::new(), None);
    for ((mut turned, head), result) in committing.into_iter().zip(heads).zip(results) {
        match result {
            Ok(()) => {
                let hot = &mut turned.hot;
                hot.version += 1;
                hot.head = head;
                hot.published.clear();
                if !turned.effects.is_empty() {
                    hot.outbox.push((hot.version, turned.effects));
                }
                advanced.answers.append(&mut turned.answers);
                advanced.runs.push(turned.hot);
            }
            Err(CommitError::Conflict) => {
                metrics::counter!("phasework_commit_conflicts_total").increment(1);
                conflicts.insert(turned.hot.run.head.id);
            }
            Err(CommitError::Store(error)) => failed = Some(error),
        }
    }
    metrics::counter!("phasework_commits_total").increment(advanced.runs.len() as u64);
    failed.map_or(Ok(conflicts), Err)
}

fn to_json(effects: &[Effect]) -> Vec<u8> {
    serde_json::to_vec(effects).expect("effects are plain data")
}

fn commit_of(turned: &mut Turned, head: Vec<u8>, delta: Delta, effects: Vec<u8>) -> Commit {
    let hot = &turned.hot;
    let state = &hot.run.head;
    let is_new = hot.version == 0;
    Commit {
        run: state.id,
        expect: hot.version,
        head,
        entry: state.entry.number,
        handlers: state.entry.handlers.len() as u16,
        delta,
        data: if is_new { turned.data.take() } else { None },
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

/// The versions in a run's outbox, oldest first.
pub(super) fn outbox_versions(hot: &HotRun) -> Vec<RunVersion> {
    hot.outbox.iter().map(|(version, _)| *version).collect()
}
