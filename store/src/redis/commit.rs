//! Commits, and what takes effects out of the outbox again. One script call per run; those of a batch go out together.
//! The script gets a condition and a list of plain commands: what a commit means is said here, once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use phasework_workflows::id::{RunId, Shard};
use phasework_workflows::run::{Delta, ForgottenEntry, ForgottenList};
use phasework_workflows::time::Timestamp;
use redis::{Cmd, Pipeline, Value};

use super::keys::{InputsName, Key, Keys, RunKeys, ShardKeys};
use super::link::{Lane, Link, Lua, read};
use super::record::{exception_field, member, pack_outputs, record, to_json};
use crate::fit::history_gap;
use crate::{Commit, CommitError, RunVersion, StoreError};

static COMMIT: Lua = Lua::new(include_str!("commit.lua"));
static PUBLISHED: Lua = Lua::new(include_str!("published.lua"));

/// How many values a single command of a script gets at most; Lua cannot pass many more.
const VALUES: usize = 1000;

/// Of how many runs one script takes effects out of the outboxes.
const OUTBOXES: usize = 64;

/// What `commit.lua` answers; more is the number of handlers of the entry that is left, above [`HANDLERS`].
const DONE: i64 = 0;
const CONFLICT: i64 = 1;
const GAP: i64 = 2;
const HANDLERS: i64 = 16;

/// Makes commits; a result for each.
pub(super) async fn commit(link: &Link, keys: &Keys, commits: &[Commit]) -> Vec<Result<(), CommitError>> {
    let mut results: Vec<_> = commits.iter().map(|commit| commit.check().map_err(CommitError::from)).collect();
    let mut pending: Vec<_> =
        (0..commits.len()).filter(|&n| results[n].is_ok()).map(|n| (n, Named::of(&commits[n]))).collect();
    // A second round is for runs that leave more behind than the commit tells of.
    while !pending.is_empty() {
        let mut calls = Pipeline::with_capacity(pending.len());
        for (n, named) in &pending {
            calls.add_command(call(keys, &commits[*n], named));
        }
        let answers = match link.call(Lane::Shared, &COMMIT, &calls).await {
            Ok(answers) => answers,
            Err(error) => {
                pending.into_iter().for_each(|(n, _)| results[n] = Err(error.clone().into()));
                break;
            }
        };
        let mut again = Vec::new();
        for ((n, named), answer) in pending.into_iter().zip(answers) {
            match outcome(&commits[n], answer) {
                Outcome::Settled(result) => results[n] = result,
                Outcome::Bitmaps(bitmaps) => again.push((n, Named { bitmaps, ..named })),
                Outcome::Inputs(mut inputs) => {
                    inputs.extend(named.inputs);
                    again.push((n, Named { inputs, ..named }));
                }
            }
        }
        pending = again;
    }
    results
}

enum Outcome {
    Settled(Result<(), CommitError>),
    /// Nothing is written; the call must name this many bitmaps.
    Bitmaps(u16),
    /// Nothing is written; the call must name these inputs besides.
    Inputs(Vec<InputsName>),
}

fn outcome(commit: &Commit, answer: Value) -> Outcome {
    if let Value::Array(_) = answer {
        return match read::<Vec<String>>(answer)
            .and_then(|names| names.iter().map(|name| InputsName::read(name)).collect())
        {
            Ok(inputs) => Outcome::Inputs(inputs),
            Err(error) => Outcome::Settled(Err(error.into())),
        };
    }
    Outcome::Settled(match read::<i64>(answer) {
        Ok(DONE) => Ok(()),
        Ok(CONFLICT) => Err(CommitError::Conflict),
        Ok(GAP) => Err(history_gap(commit.run, commit.delta.history.first().map_or(0, |event| event.n)).into()),
        Ok(other) => match u16::try_from(other - HANDLERS) {
            Ok(count) => return Outcome::Bitmaps(count),
            Err(_) => Err(StoreError::Corrupt(format!("commit.lua answers {other}")).into()),
        },
        Err(error) => Err(error.into()),
    })
}

/// What a call names of what an entry leaves behind.
struct Named {
    /// How many bitmaps.
    bitmaps: u16,
    inputs: Vec<InputsName>,
}

impl Named {
    /// What a commit most probably has to name.
    fn of(commit: &Commit) -> Self {
        let of_entry = |gone: &ForgottenEntry| {
            let ForgottenEntry { entry, nonce, handlers } = *gone;
            (0..handlers).map(move |handler| InputsName { entry, nonce, handler })
        };
        let of_list = |&ForgottenList { entry, nonce, handler }: &ForgottenList| InputsName { entry, nonce, handler };
        let Delta { forget_jobs, forget_inputs, .. } = &commit.delta;
        Self {
            bitmaps: forget_jobs.iter().map(|gone| gone.handlers).max().unwrap_or(0),
            inputs: forget_jobs.iter().flat_map(of_entry).chain(forget_inputs.iter().map(of_list)).collect(),
        }
    }
}

/// The script call that makes a commit.
fn call(keys: &Keys, commit: &Commit, named: &Named) -> Cmd {
    let (of_run, of_shard) = (keys.run(commit.run), keys.shard(commit.run.shard()));
    let mut writes = Writes::new(&of_run, &of_shard, named.bitmaps);
    let (history, inputs) = writes.add(commit, &named.inputs);
    let mut call = COMMIT.calling(writes.keys.len());
    for key in &writes.keys {
        call.arg(key);
    }
    let expect = commit.expect.to_be_bytes();
    call.arg(if commit.expect == 0 { &[][..] } else { &expect[..] });
    call.arg(record(commit));
    call.arg(member(commit.index.created_at, commit.run));
    arg_time(&mut call, commit.index.ended_at);
    arg_time(&mut call, commit.index.wake_at);
    match commit.delta.history.first() {
        Some(event) => call.arg(event.n),
        None => call.arg(""),
    };
    call.arg(history).arg(named.bitmaps);
    call.arg(match (commit.effects.is_empty(), commit.published.is_empty()) {
        (false, _) => "+",
        (true, false) => "-",
        (true, true) => "",
    });
    match commit.delta.forget_jobs.iter().map(|gone| gone.entry).max() {
        Some(entry) => call.arg(entry),
        None => call.arg(""),
    };
    call.arg(inputs);
    for write in &writes.writes {
        call.arg(write.command).arg(write.key).arg(write.values.len());
        for value in &write.values {
            call.arg(&**value);
        }
    }
    call
}

fn arg_time(call: &mut Cmd, at: Option<Timestamp>) {
    match at {
        Some(at) => call.arg(at.as_millis()),
        None => call.arg(""),
    };
}

/// The keys that a commit names, and the commands that write it.
struct Writes<'a> {
    run: &'a RunKeys,
    keys: Vec<Key<'a>>,
    writes: Vec<Write<'a>>,
}

/// One command.
struct Write<'a> {
    command: &'static str,
    /// The place of its key among the keys, from 1.
    key: usize,
    values: Vec<Cow<'a, [u8]>>,
}

/// The places of the outbox and the exceptions among the keys.
const OUTBOX: usize = 2;
const EXCEPTIONS: usize = 3;

impl<'a> Writes<'a> {
    fn new(run: &'a RunKeys, shard: &'a ShardKeys, bitmaps: u16) -> Self {
        let mut keys = vec![run.record(), run.outbox(), run.exceptions()];
        keys.extend([shard.live(), shard.ended(), shard.ended_at()]);
        keys.extend([shard.timers(), shard.awaiting(), shard.unpublished()]);
        keys.extend((0..bitmaps).map(|handler| run.bits(handler)));
        Self { run, keys, writes: Vec::new() }
    }

    /// The place of a key.
    fn key(&mut self, key: Key<'a>) -> usize {
        self.keys.push(key);
        self.keys.len()
    }

    fn write(&mut self, command: &'static str, key: usize, mut values: Vec<Cow<'a, [u8]>>) {
        while values.len() > VALUES {
            let rest = values.split_off(VALUES);
            self.writes.push(Write { command, key, values });
            values = rest;
        }
        if !values.is_empty() || command == "UNLINK" {
            self.writes.push(Write { command, key, values });
        }
    }

    /// Adds all that a commit writes but the record; the places of the history and of the set of inputs among the keys, 0
    /// where there is none.
    fn add(&mut self, commit: &'a Commit, inputs: &[InputsName]) -> (usize, usize) {
        let delta = &commit.delta;
        for (key, payload) in [(self.run.data(), &commit.data), (self.run.output(), &delta.output)] {
            if let Some(payload) = payload {
                let key = self.key(key);
                self.write("SET", key, vec![payload.as_json().as_bytes().into()]);
            }
        }
        self.add_jobs(commit);
        let history = self.append(delta);
        let inputs = self.forget_inputs(commit, inputs);
        self.forget(commit);
        if !commit.effects.is_empty() {
            self.write("HSET", OUTBOX, vec![text(commit.expect + 1), commit.effects.as_slice().into()]);
        }
        self.write("HDEL", OUTBOX, commit.published.iter().map(text).collect());
        (history, inputs)
    }

    fn add_jobs(&mut self, commit: &'a Commit) {
        for patch in commit.delta.bits.iter().filter(|patch| patch.entry == commit.entry) {
            let key = self.key(self.run.bits(patch.handler));
            self.write("PATCH", key, vec![text(patch.offset), patch.bytes.as_slice().into()]);
        }
        let changes = commit.delta.exceptions.iter().filter(|change| change.entry == commit.entry);
        let last: BTreeMap<_, _> =
            changes.map(|change| ((change.handler, change.index), change.exception.as_ref())).collect();
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for ((handler, index), exception) in last {
            match exception {
                Some(exception) => set.extend([exception_field(handler, index), to_json(exception)].map(Cow::Owned)),
                None => removed.push(Cow::Owned(exception_field(handler, index))),
            }
        }
        self.write("HSET", EXCEPTIONS, set);
        self.write("HDEL", EXCEPTIONS, removed);
    }

    /// The place of the history among the keys, 0 when there is none.
    fn append(&mut self, delta: &'a Delta) -> usize {
        for page in delta.outputs.iter().filter(|page| !page.items.is_empty()) {
            let key = self.key(self.run.outputs(page.entry, page.handler));
            self.write("RPUSH", key, vec![pack_outputs(&page.items).into()]);
        }
        if !delta.failures.is_empty() {
            let key = self.key(self.run.failures());
            self.write("RPUSH", key, delta.failures.iter().map(|failure| to_json(failure).into()).collect());
        }
        if delta.history.is_empty() {
            return 0;
        }
        let key = self.key(self.run.history());
        self.write("RPUSH", key, delta.history.iter().map(|event| to_json(event).into()).collect());
        key
    }

    /// The place of the set of inputs among the keys, 0 when none go.
    fn forget_inputs(&mut self, commit: &'a Commit, inputs: &[InputsName]) -> usize {
        if inputs.is_empty() && commit.delta.forget_jobs.is_empty() {
            return 0;
        }
        for &name in inputs {
            let key = self.key(self.run.inputs(name));
            self.write("UNLINK", key, Vec::new());
        }
        let key = self.key(self.run.all_inputs());
        self.write("SREM", key, inputs.iter().map(text).collect());
        key
    }

    fn forget(&mut self, commit: &'a Commit) {
        for gone in &commit.delta.forget_jobs {
            if gone.entry == commit.entry {
                self.write("UNLINK", EXCEPTIONS, Vec::new());
                for handler in 0..commit.handlers {
                    let key = self.key(self.run.bits(handler));
                    self.write("UNLINK", key, Vec::new());
                }
            }
        }
        for gone in &commit.delta.forget_outputs {
            for handler in 0..gone.handlers {
                let key = self.key(self.run.outputs(gone.entry, handler));
                self.write("UNLINK", key, Vec::new());
            }
        }
    }
}

fn text<'a>(value: impl std::fmt::Display) -> Cow<'a, [u8]> {
    value.to_string().into_bytes().into()
}

/// Takes published effects out of outboxes: those of a shard together, as far as that keeps a script short.
pub(super) async fn published(link: &Link, keys: &Keys, runs: &[(RunId, Vec<RunVersion>)]) -> Result<(), StoreError> {
    let mut of_shards: BTreeMap<Shard, Vec<(RunId, &[RunVersion])>> = BTreeMap::new();
    for (run, versions) in runs {
        let some = versions.chunks(VALUES).map(|versions| (*run, versions));
        of_shards.entry(run.shard()).or_default().extend(some);
    }
    let mut calls = redis::pipe();
    for (shard, runs) in &of_shards {
        let of_shard = keys.shard(*shard);
        for runs in runs.chunks(OUTBOXES) {
            let mut call = PUBLISHED.calling(1 + runs.len());
            call.arg(of_shard.unpublished());
            for (run, _) in runs {
                call.arg(keys.run(*run).outbox());
            }
            for (run, versions) in runs {
                call.arg(run.to_string()).arg(versions.len()).arg(*versions);
            }
            calls.add_command(call);
        }
    }
    for answer in link.call(Lane::Shared, &PUBLISHED, &calls).await? {
        read::<i64>(answer)?;
    }
    Ok(())
}
