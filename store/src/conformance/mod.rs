//! The promises of [`Store`](crate::Store) as tests that every adapter runs. A check gets an empty store, panics when a
//! promise is broken, and never looks behind the port, except to count what is kept.
//!
//! [`commits`] is about what a commit writes and when it is refused, [`jobs`] about bitmaps and exceptions, [`model`]
//! compares long random stories with a model, [`outbox`] about effects, [`payloads`] about what is too large for a head,
//! [`indexes`] about finding runs, [`catalog`] about what belongs to no run, [`timeline`] about noticing a loss.

#![allow(clippy::unwrap_used, reason = "a check fails by panicking")]

mod catalog;
mod commits;
mod draft;
mod indexes;
mod jobs;
mod model;
mod outbox;
mod payloads;
mod timeline;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::SharedStore;

/// An empty store under examination.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// A handle on the store.
    fn store(&self) -> SharedStore;

    /// Another handle on the same store, as another process would hold it.
    fn twin(&self) -> SharedStore;

    /// How many things (keys, records, members of indexes) the store keeps.
    async fn traces(&self) -> usize;
}

/// A store under examination, as the checks get it.
pub type SharedSubject = Arc<dyn Subject>;

/// One promise.
#[derive(Clone, Copy)]
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    run: fn(SharedSubject) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Check {
    /// Examines an empty store.
    ///
    /// # Panics
    /// When the promise is broken.
    pub async fn run(&self, subject: SharedSubject) {
        (self.run)(subject).await;
    }
}

macro_rules! checks {
    ($($module:ident :: $name:ident),* $(,)?) => {
        vec![$(Check { name: stringify!($name), run: |subject| Box::pin($module::$name(subject)) }),*]
    };
}

/// Every promise.
pub fn checks() -> Vec<Check> {
    checks![
        commits::a_run_is_made_once,
        commits::a_commit_needs_the_version_it_was_loaded_at,
        commits::of_concurrent_commits_one_wins,
        commits::a_refused_commit_changes_nothing,
        commits::a_commit_that_does_not_fit_together_is_refused,
        commits::runs_of_a_batch_do_not_affect_each_other,
        commits::a_large_batch_is_committed_and_loaded_in_order,
        commits::bytes_and_text_survive_as_they_are,
        commits::nothing_is_asked_and_nothing_happens,
        commits::a_removed_run_leaves_nothing_behind,
        commits::a_removed_run_can_be_made_again,
        commits::only_a_run_that_ended_in_time_is_removed,
        jobs::bits_are_patched,
        jobs::exceptions_are_set_and_removed_and_the_last_counts,
        jobs::another_entry_starts_afresh,
        jobs::an_entry_may_have_many_handlers,
        jobs::many_jobs_may_be_exceptions,
        jobs::forgotten_jobs_are_gone,
        model::random_stories_end_as_the_model_says,
        outbox::effects_stay_until_published,
        outbox::publishing_removes_just_those_versions,
        outbox::a_commit_publishes_what_came_before,
        outbox::runs_with_an_outbox_are_found,
        outbox::unpublished_runs_take_turns,
        payloads::data_and_output_are_kept,
        payloads::inputs_are_kept_by_page_and_nonce,
        payloads::inputs_go_when_they_are_forgotten,
        payloads::lists_of_inputs_go_alone,
        payloads::outputs_come_in_the_order_of_their_jobs,
        payloads::outputs_that_are_too_large_are_refused,
        payloads::outputs_go_when_they_are_forgotten,
        payloads::large_payloads_survive,
        payloads::history_is_read_in_pages_without_gaps,
        payloads::failures_are_read_in_pages,
        indexes::due_timers_come_most_overdue_first,
        indexes::a_timer_is_replaced_and_cleared,
        indexes::runs_that_await_a_worker_are_found,
        indexes::runs_are_listed_newest_first,
        indexes::a_page_goes_on_exactly_where_the_last_one_stopped,
        indexes::live_and_ended_runs_are_listed_apart,
        indexes::runs_are_counted,
        indexes::ended_runs_are_found_oldest_first,
        catalog::workflows_are_kept_by_revision,
        catalog::what_is_kept_does_not_displace_the_latest,
        catalog::an_old_definition_is_kept_while_a_new_one_is_put,
        catalog::the_latest_definition_of_each_name_is_listed,
        catalog::workers_are_remembered_and_forgotten,
        catalog::dead_letters_are_kept_once,
        catalog::a_sound_store_passes_its_own_check,
        timeline::the_lineage_stays_while_the_store_does,
        timeline::of_two_who_replace_the_marker_one_wins,
        timeline::epochs_are_kept_by_shard,
        timeline::the_highest_number_of_queues_is_remembered,
        timeline::live_runs_are_listed_page_by_page,
    ]
}

/// Runs every check, each on a fresh store, and says at the end which promises are broken.
///
/// # Panics
/// When one is.
pub async fn examine<F: Future<Output = SharedSubject>>(fresh: impl Fn() -> F) {
    let mut broken = Vec::new();
    for check in checks() {
        let subject = fresh().await;
        // In a task of its own, so that one broken promise does not keep the others from being examined.
        if tokio::spawn(async move { check.run(subject).await }).await.is_err() {
            broken.push(check.name);
        }
    }
    assert!(broken.is_empty(), "broken promises: {broken:#?}");
}
