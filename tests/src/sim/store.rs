//! The store as a simulated program sees it: calls fail, answers get lost, commits are refused, and now and then it goes
//! back to what it was.

use std::sync::Arc;

use async_trait::async_trait;
use phasework_store::{
    Commit, CommitError, ListedRun, RunCounts, RunFilter, RunVersion, Store, StoreError, StoredRun, StoredWorkflow,
};
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, Revision, RunId, Shard, WorkflowName};
use phasework_workflows::message::notice::DeadLetter;
use phasework_workflows::message::presence::WorkerAnnounced;
use phasework_workflows::run::{FailureRecord, HistoryEvent};
use phasework_workflows::time::Timestamp;

use super::breaks::Break;
use super::fault::Fault;
use super::hub::{Hub, Trouble};
use super::process::Process;

/// A program's way to the store.
#[derive(Debug)]
pub(super) struct SimStore {
    pub(super) hub: Arc<Hub>,
    pub(super) process: Arc<Process>,
}

/// Whether a call changes anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Reads,
    Writes,
}

impl SimStore {
    /// Whether a call reaches the store.
    fn reach(&self, call: Call) -> Result<(), StoreError> {
        if self.hub.has(Trouble::StoreAway) {
            return Err(StoreError::Unavailable("the simulated store is away".into()));
        }
        if call == Call::Writes && self.hub.has(Trouble::StoreFull) {
            return Err(StoreError::Full("the simulated store is full".into()));
        }
        if self.hub.faults.strikes(Fault::StoreFails) {
            return Err(StoreError::Unavailable("so the simulation has it".into()));
        }
        Ok(())
    }

    /// Whether the answer to a call comes back.
    fn come_back(&self) -> Result<(), StoreError> {
        let is_lost = self.hub.faults.strikes(Fault::ReplyLost);
        if is_lost { Err(StoreError::Unavailable("its answer was lost".into())) } else { Ok(()) }
    }

    async fn before(&self, call: Call) -> Result<(), StoreError> {
        self.hub.before_call(&self.process).await;
        let reached = self.reach(call);
        if reached.is_err() {
            self.hub.after_call(&self.process, false).await;
        }
        reached
    }

    async fn after<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let result = result.and_then(|value| self.come_back().map(|()| value));
        self.hub.after_call(&self.process, result.is_ok()).await;
        result
    }

    /// One commit of a call.
    async fn commit_one(&self, mut commit: Commit) -> Result<(), CommitError> {
        if self.hub.faults.strikes(Fault::Conflict) {
            return Err(CommitError::Conflict);
        }
        let store = self.hub.store();
        match self.hub.broken {
            Some(Break::CommitForgotten) if commit.expect == 0 => return Ok(()),
            Some(Break::CommitOverwrites) => {
                let stored = store.load(&[commit.run]).await?.remove(0);
                commit.expect = stored.map_or(0, |stored| stored.version);
            }
            Some(Break::OutboxForgotten) => commit.effects.clear(),
            Some(Break::HistoryForgotten) => drop(commit.delta.history.pop()),
            _ => {}
        }
        let copy = commit.clone();
        store.commit(vec![commit]).await.remove(0)?;
        self.hub.witness.committed(&*store, &self.process.name, &copy).await;
        self.come_back()?;
        Ok(())
    }
}

/// Methods that go through to the store, each as a call that may fail.
macro_rules! calls {
    ($($call:ident fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        #[async_trait]
        impl Store for SimStore {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$result, StoreError> {
                self.before(Call::$call).await?;
                let result = self.hub.store().$name($($argument),*).await;
                self.after(result).await
            })*

            async fn commit(&self, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
                self.hub.before_call(&self.process).await;
                let mut results = Vec::with_capacity(commits.len());
                for commit in commits {
                    results.push(match self.reach(Call::Writes) {
                        Ok(()) => self.commit_one(commit).await,
                        Err(error) => Err(error.into()),
                    });
                }
                self.hub.after_call(&self.process, results.iter().all(Result::is_ok)).await;
                results
            }

            async fn lineage(&self) -> Result<Arc<str>, StoreError> {
                self.before(Call::Reads).await?;
                self.after(Ok(format!("timeline-{}", self.hub.rewinds()).into())).await
            }
        }
    };
}

calls! {
    Reads fn load(&self, runs: &[RunId]) -> Vec<Option<StoredRun>>;
    Writes fn published(&self, runs: Vec<(RunId, Vec<RunVersion>)>) -> ();
    Reads fn data(&self, run: RunId) -> Option<Payload>;
    Reads fn output(&self, run: RunId) -> Option<Payload>;
    Writes fn put_inputs(
        &self, run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, pages: Vec<(u64, Vec<Payload>)>
    ) -> ();
    Reads fn inputs(
        &self, run: RunId, entry: EntryNo, nonce: Nonce, handler: u16, page: u64
    ) -> Option<Vec<Payload>>;
    Reads fn outputs(
        &self, run: RunId, entry: EntryNo, handler: u16, max_bytes: usize
    ) -> Vec<(JobIndex, Payload)>;
    Reads fn history(&self, run: RunId, after: u64, limit: usize) -> Vec<HistoryEvent>;
    Reads fn failures(&self, run: RunId, skip: usize, limit: usize) -> Vec<FailureRecord>;
    Reads fn due(&self, shards: &[Shard], now: Timestamp, limit: usize) -> Vec<RunId>;
    Reads fn next_due(&self, shards: &[Shard]) -> Option<Timestamp>;
    Reads fn unpublished(&self, shards: &[Shard], limit: usize) -> Vec<RunId>;
    Reads fn awaiting_worker(&self, shards: &[Shard], limit: usize) -> Vec<RunId>;
    Reads fn runs(&self, filter: &RunFilter) -> Vec<ListedRun>;
    Reads fn run_counts(&self) -> RunCounts;
    Reads fn ended_before(&self, shards: &[Shard], time: Timestamp, limit: usize) -> Vec<RunId>;
    Writes fn remove_run(&self, run: RunId, time: Timestamp) -> bool;
    Writes fn put_workflow(&self, workflow: StoredWorkflow) -> bool;
    Writes fn keep_workflow(&self, workflow: StoredWorkflow) -> bool;
    Reads fn workflow(&self, revision: &Revision) -> Option<StoredWorkflow>;
    Reads fn latest_workflow(&self, name: &WorkflowName) -> Option<StoredWorkflow>;
    Reads fn workflows(&self) -> Vec<StoredWorkflow>;
    Reads fn revisions(&self, name: &WorkflowName) -> Vec<StoredWorkflow>;
    Writes fn put_worker(&self, worker: WorkerAnnounced, at: Timestamp) -> ();
    Reads fn workers(&self) -> Vec<(WorkerAnnounced, Timestamp)>;
    Writes fn remove_workers(&self, workers: &[Arc<str>]) -> ();
    Writes fn put_dead(&self, letter: DeadLetter) -> ();
    Reads fn dead(&self, skip: usize, limit: usize) -> Vec<DeadLetter>;
    Reads fn dead_letter(&self, id: &str) -> Option<DeadLetter>;
    Writes fn remove_dead(&self, id: &str) -> bool;
    Reads fn dead_count(&self) -> u64;
    Reads fn live_runs(
        &self, shard: Shard, after: Option<(Timestamp, RunId)>, limit: usize
    ) -> Vec<(Timestamp, RunId)>;
    Reads fn marker(&self) -> Option<Arc<str>>;
    Writes fn replace_marker(&self, expect: Option<&str>, marker: &str) -> bool;
    Reads fn epochs(&self, shards: &[Shard]) -> Vec<Option<Arc<str>>>;
    Writes fn put_epoch(&self, shards: &[Shard], epoch: &str) -> ();
    Writes fn raise_queues(&self, queues: u16) -> u16;
    Reads fn check(&self) -> Vec<String>;
}
