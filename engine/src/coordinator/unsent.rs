//! What becomes of messages that were not published. One that nobody confirms, though the broker is well, must not hold
//! up the others: its effects stay in the outboxes of their runs, and its address is left alone for a while. One that
//! the broker refuses will never arrive: its jobs have failed for good.

use std::collections::{BTreeMap, BTreeSet};

use phasework_broker::{Message, PublishError};
use phasework_workflows::id::RunId;
use phasework_workflows::message::job::{JobGroup, Jobs};
use phasework_workflows::message::outcome::{JobError, Outcome, Status};
use phasework_workflows::message::{Body, decode};
use phasework_workflows::run::Event;
use phasework_workflows::time::{Millis, Timestamp};
use serde_json::Value;

use super::intake::{Happening, What};

/// What was not published.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// Not confirmed for a long time.
    pub(super) stuck: Vec<Message>,
    /// Refused for good.
    pub(super) refused: Vec<(Message, PublishError)>,
}

/// Where messages got stuck lately, by the broker's own names, and until when nothing more is sent there.
#[derive(Debug, Default)]
pub(super) struct Clogged(BTreeMap<String, Timestamp>);

impl Clogged {
    /// Whether nothing is to be sent there for now.
    pub(super) fn holds(&self, name: &str, now: Timestamp) -> bool {
        self.0.get(name).is_some_and(|until| *until > now)
    }

    pub(super) fn insert(&mut self, name: String, until: Timestamp) {
        self.0.insert(name, until);
    }

    /// Whether some address may be tried again; it is then forgotten.
    pub(super) fn is_over(&mut self, now: Timestamp) -> bool {
        let count = self.0.len();
        self.0.retain(|_, until| *until > now);
        self.0.len() < count
    }
}

/// The runs whose effects a message holds.
pub(super) fn runs_of(message: &Message) -> BTreeSet<RunId> {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    let items = ["groups", "items"].into_iter().filter_map(|list| body[list].as_array()).flatten();
    let named = items.chain([&body]).filter_map(|item| item["run"].as_str()?.parse().ok());
    named.collect()
}

/// The failures for good that jobs come to whose message the broker refuses, by run.
pub(super) fn failures(refused: &[(Message, PublishError)]) -> BTreeMap<RunId, Vec<Happening>> {
    let mut failures: BTreeMap<RunId, Vec<Happening>> = BTreeMap::new();
    for (message, error) in refused {
        let kind = if let PublishError::TooLarge { .. } = error { "too-large" } else { "unroutable" };
        let error = JobError::new(kind, format!("the job cannot be sent to a worker: {error}")).for_good();
        tracing::error!(to = ?message.to, kind = &*message.kind, %error.message, "a message cannot be published");
        let jobs = if &*message.kind == Jobs::KIND { decode::<Jobs>(&message.body).ok() } else { None };
        for group in jobs.into_iter().flat_map(|jobs| jobs.groups) {
            let what = What::Event(failed(&group, &error));
            failures.entry(group.run).or_default().push(Happening { what, reply: None, delivery: None });
        }
    }
    failures
}

fn failed(group: &JobGroup, error: &JobError) -> Event {
    let outcome = |job: phasework_workflows::message::job::Job| Outcome {
        index: job.index,
        attempt: job.attempt,
        status: Status::Failed,
        output: None,
        error: Some(error.clone()),
        details: None,
    };
    Event::JobsFinished {
        entry: group.entry,
        nonce: group.nonce,
        handler: group.handler.clone(),
        done: Vec::new(),
        outcomes: group.each().map(outcome).collect(),
    }
}

/// How long an address is left alone, and how long publishing is tried before that, in ticks.
pub(super) const PATIENCE_TICKS: u64 = 10;

/// That many ticks.
pub(super) const fn patience(tick: Millis) -> Millis {
    Millis(tick.0 * PATIENCE_TICKS)
}

#[cfg(test)]
mod tests {
    use phasework_broker::Address;

    use super::*;

    #[test]
    fn the_runs_of_any_message_are_found() {
        let a = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";
        let b = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5c";
        for (body, expected) in [
            (
                format!(r#"{{ "v": 1, "groups": [{{ "run": "{a}" }}, {{ "run": "{b}" }}, {{ "run": "{a}" }}] }}"#),
                vec![a, b],
            ),
            (format!(r#"{{ "v": 1, "items": [{{ "run": "{b}" }}] }}"#), vec![b]),
            (format!(r#"{{ "v": 1, "event": "run.finished", "run": "{a}" }}"#), vec![a]),
            (r#"{ "v": 1, "from": "c" }"#.into(), vec![]),
            ("no JSON".into(), vec![]),
        ] {
            let found = runs_of(&Message::new(Address::Submit, "Any", body.clone()));
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{body}");
        }
    }

    #[test]
    fn a_clogged_address_is_tried_again_after_its_time() {
        let at = Timestamp::from_millis;
        let mut clogged = Clogged::default();
        assert!(!clogged.is_over(at(5)));
        clogged.insert("jobs.H.1.0.0".into(), at(10));
        assert!(clogged.holds("jobs.H.1.0.0", at(9)) && !clogged.holds("jobs.I.1.0.0", at(9)));
        assert!(!clogged.is_over(at(9)));
        assert!(!clogged.holds("jobs.H.1.0.0", at(10)));
        assert!(clogged.is_over(at(10)) && !clogged.is_over(at(10)), "once");
    }
}
