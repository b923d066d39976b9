//! What happened to a run, phase by phase: a history, read as a server tells it, folded into visits. Shows nothing.

use phasework_workflows::time::{Millis, Timestamp};
use serde_json::Value;

use crate::length::moment;
use crate::views::{CauseView, HandlerView};

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Its number.
    pub(crate) n: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// Who brought it about, where that is known.
    pub(crate) actor: Option<String>,
    /// What: `started`, `entered`, `pinned`, `finished`, `paused`…
    pub(crate) kind: String,
    /// What it says about that.
    pub(crate) fields: Value,
}

impl Event {
    /// Reads an event; `what` is its kind with the fields inside, or its kind with the fields beside.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let n = value.get("n")?.as_u64()?;
        let at = serde_json::from_value(value.get("at")?.clone()).ok()?;
        let (kind, fields) = match value.get("what")? {
            Value::String(kind) => (kind.clone(), value.clone()),
            Value::Object(what) => what.iter().next().map(|(kind, fields)| (kind.clone(), fields.clone()))?,
            _ => return None,
        };
        let actor = value.get("actor").and_then(Value::as_str).map(str::to_owned);
        Some(Self { n, at, actor, kind, fields })
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// The entry it belongs to.
    pub(crate) fn entry(&self) -> Option<u32> {
        self.fields.get("entry")?.as_u64()?.try_into().ok()
    }

    /// In a few words.
    pub(crate) fn words(&self) -> String {
        let text = |field| self.text(field).unwrap_or("?");
        let reason = self.text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
        match self.kind.as_str() {
            "started" => format!("started, of revision {}", text("revision")),
            "entered" => {
                let by_error = self.fields.get("on_error").and_then(Value::as_bool) == Some(true);
                format!("entered `{}`{}", text("phase"), if by_error { ", because of an error" } else { "" })
            }
            "pinned" => format!("took {} {}", text("handler"), text("version")),
            "listed" => format!("{} listed {}", text("handler"), self.jobs()),
            "finished" => format!("phase {}{}", text("status"), self.came_to()),
            "abandoned" => format!("phase abandoned{}", self.came_to()),
            "halted" => match self.cause() {
                Some(cause) => format!("halted {}", cause.words()),
                None => "halted".to_owned(),
            },
            "lost" if self.is_of_list() => {
                format!("lost the list of {}: {}; asked for again", text("handler"), self.loss())
            }
            "lost" => format!("lost {} of {}: {}; sent out again", self.jobs(), text("handler"), self.loss()),
            "retried" if self.fields.get("jobs") == Some(&0.into()) => format!("told to try again{reason}"),
            "retried" => format!("told to try {} again{reason}", self.jobs()),
            "rerun" => format!("told to enter `{}` anew{reason}", text("phase")),
            "paused" | "resumed" => format!("{}{reason}", self.kind),
            "canceling" => {
                let deadline = self.fields.get("deadline").cloned().and_then(|at| serde_json::from_value(at).ok());
                format!("being canceled, until {}{reason}", deadline.map_or("?".to_owned(), moment))
            }
            "ended" => format!("ended {}{reason}", text("state")),
            other => other.to_owned(),
        }
    }

    /// Whether it is neither the beginning nor the end of a visit, and worth a word to who watches.
    fn is_notable(&self) -> bool {
        ["lost", "paused", "resumed", "retried", "canceling", "rerun"].contains(&self.kind.as_str())
    }

    fn jobs(&self) -> String {
        match self.fields.get("jobs").and_then(Value::as_u64) {
            Some(1) => "1 job".to_owned(),
            count => format!("{} jobs", count.unwrap_or_default()),
        }
    }

    /// Whether it is about the making of a list, and no job of it.
    fn is_of_list(&self) -> bool {
        self.fields.get("list").and_then(Value::as_bool) == Some(true)
    }

    fn loss(&self) -> &str {
        match self.text("why") {
            Some("probe") if self.is_of_list() => "nothing was heard of it",
            Some("moved") if self.is_of_list() => "nobody hosts that version any more",
            Some("probe") => "nothing was heard of them",
            Some("recovery") => "the broker or the store had lost messages",
            Some("moved") => "nobody hosts their version any more",
            why => why.unwrap_or("?"),
        }
    }

    /// What the handlers of a phase came to, after a colon.
    fn came_to(&self) -> String {
        let tallies: Vec<_> = self.tallies().iter().map(HandlerView::words).collect();
        if tallies.is_empty() { String::new() } else { format!(": {}", tallies.join(", ")) }
    }

    fn tallies(&self) -> Vec<HandlerView> {
        let tallies = self.fields.get("handlers").cloned().unwrap_or_default();
        serde_json::from_value(tallies).unwrap_or_default()
    }

    /// What made it halt; the error of a cause stands inside it or beside.
    fn cause(&self) -> Option<CauseView> {
        let mut cause = self.fields.get("cause").or_else(|| self.fields.get("error"))?.clone();
        if let (Some(Value::Object(error)), Some(fields)) = (cause.get("error").cloned(), cause.as_object_mut()) {
            fields.extend(error);
        }
        serde_json::from_value(cause).ok()
    }
}

/// One visit of the run to a phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Visit {
    /// The entry's number.
    pub(crate) entry: u32,
    /// The phase.
    pub(crate) phase: String,
    /// Whether an error led there.
    pub(crate) on_error: bool,
    /// When it began.
    pub(crate) entered_at: Timestamp,
    /// When it was left, or the run ended in it.
    pub(crate) left_at: Option<Timestamp>,
    /// `succeeded` or `failed`, once it has finished; `abandoned` when it was left before.
    pub(crate) status: Option<String>,
    /// What its handlers came to.
    pub(crate) tallies: Vec<HandlerView>,
}

impl Visit {
    /// How long it took.
    pub(crate) fn took(&self) -> Option<Millis> {
        self.left_at.map(|left| left.since(self.entered_at))
    }
}

/// Something that who watches is told once, in its turn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// A visit was left.
    Left(Visit),
    /// Something happened in between.
    Happened(String),
}

/// What happened to a run, phase by phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timeline {
    /// The visits, in their order.
    pub(crate) visits: Vec<Visit>,
    /// What is to be told, in its order.
    pub(crate) news: Vec<News>,
    /// The number of the last event that is folded in.
    pub(crate) last: u64,
}

impl Timeline {
    /// Folds in one more event; one that was folded in before changes nothing.
    pub(crate) fn add(&mut self, event: &Event) {
        if event.n <= self.last {
            return;
        }
        self.last = event.n;
        if event.is_notable() {
            self.news.push(News::Happened(event.words()));
        }
        match event.kind.as_str() {
            "entered" => {
                self.leave(event.at);
                self.visits.push(Visit {
                    entry: event.entry().unwrap_or_default(),
                    phase: event.text("phase").unwrap_or("?").to_owned(),
                    on_error: event.fields.get("on_error").and_then(Value::as_bool) == Some(true),
                    entered_at: event.at,
                    left_at: None,
                    status: None,
                    tallies: Vec::new(),
                });
            }
            "finished" => {
                if let Some(visit) = self.visits.last_mut() {
                    visit.status = event.text("status").map(str::to_owned);
                    visit.tallies = event.tallies();
                }
            }
            "abandoned" => {
                if let Some(visit) = self.visits.last_mut() {
                    visit.status = Some("abandoned".to_owned());
                    visit.tallies = event.tallies();
                }
                self.leave(event.at);
            }
            "ended" => self.leave(event.at),
            _ => {}
        }
    }

    fn leave(&mut self, at: Timestamp) {
        if let Some(visit) = self.visits.last_mut().filter(|visit| visit.left_at.is_none()) {
            visit.left_at = Some(at);
            self.news.push(News::Left(visit.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn history() -> Vec<Value> {
        let at = |second: u32| format!("2026-01-31T12:00:{second:02}Z");
        let tally = json!([{ "handler": "H", "total": 3, "done": 2, "failed": 1, "retried": 4, "digest": "0" }]);
        let cause = json!({ "phase": "b", "handler": "H", "index": 2,
                            "error": { "kind": "panic", "message": "boom", "retry": true } });
        vec![
            json!({ "n": 1, "at": at(0), "what": { "started": { "revision": "r1" } } }),
            json!({ "n": 2, "at": at(0), "what": { "entered": { "entry": 1, "phase": "a", "on_error": false } } }),
            json!({ "n": 3, "at": at(1), "what": { "finished": { "entry": 1, "status": "succeeded", "handlers": [] } } }),
            json!({ "n": 4, "at": at(1), "what": "entered", "entry": 2, "phase": "b", "from": "a", "on_error": true }),
            json!({ "n": 5, "at": at(2), "what": { "pinned": { "entry": 2, "handler": "H", "version": "1.2.0" } } }),
            json!({ "n": 6, "at": at(8), "what": "finished", "entry": 2, "status": "failed", "handlers": tally }),
            json!({ "n": 7, "at": at(8), "what": { "halted": { "cause": cause } } }),
            json!({ "n": 8, "at": at(9), "what": { "ended": { "state": "canceled", "reason": "enough" } } }),
        ]
    }

    #[test]
    fn events_are_told_in_a_few_words() {
        let words: Vec<_> = history().iter().map(|value| Event::read(value).unwrap().words()).collect();
        let expected = [
            "started, of revision r1",
            "entered `a`",
            "phase succeeded",
            "entered `b`, because of an error",
            "took H 1.2.0",
            "phase failed: H 2/3, 1 failed, 4 retried",
            "halted in phase `b`, H job 2: panic: boom",
            "ended canceled: enough",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn orders_and_losses_are_told_in_a_few_words() {
        let tally = json!([{ "name": "H", "total": 3, "done": 2, "failed": 0, "retried": 0 }]);
        for (what, expected) in [
            (
                json!({ "what": "lost", "entry": 1, "handler": "H", "jobs": 3, "why": "probe" }),
                "lost 3 jobs of H: nothing was heard of them; sent out again",
            ),
            (
                json!({ "what": "lost", "entry": 1, "handler": "H", "jobs": 1, "why": "moved" }),
                "lost 1 job of H: nobody hosts their version any more; sent out again",
            ),
            (
                json!({ "what": "lost", "entry": 1, "handler": "H", "jobs": 0, "list": true, "why": "probe" }),
                "lost the list of H: nothing was heard of it; asked for again",
            ),
            (json!({ "what": "paused" }), "paused"),
            (json!({ "what": "resumed", "reason": "mended" }), "resumed: mended"),
            (
                json!({ "what": "retried", "entry": 1, "jobs": 2, "reason": "mended" }),
                "told to try 2 jobs again: mended",
            ),
            (json!({ "what": "retried", "entry": 1, "jobs": 0 }), "told to try again"),
            (json!({ "what": "rerun", "phase": "a" }), "told to enter `a` anew"),
            (json!({ "what": "abandoned", "entry": 1, "handlers": tally }), "phase abandoned: H 2/3"),
            (
                json!({ "what": "canceling", "deadline": "2026-01-31T12:00:10Z", "reason": "enough" }),
                "being canceled, until 2026-01-31 12:00:10.000: enough",
            ),
            (json!({ "what": "of-tomorrow" }), "of-tomorrow"),
        ] {
            let mut event = what;
            (event["n"], event["at"]) = (json!(1), json!("2026-01-31T12:00:00Z"));
            assert_eq!(Event::read(&event).unwrap().words(), expected);
        }
    }

    #[test]
    fn what_happens_in_between_is_told_in_its_turn() {
        let mut timeline = Timeline::default();
        let history = [
            json!({ "what": "entered", "entry": 1, "phase": "a" }),
            json!({ "what": "paused" }),
            json!({ "what": "resumed" }),
            json!({ "what": "abandoned", "entry": 1, "handlers": [] }),
            json!({ "what": "rerun", "phase": "a" }),
            json!({ "what": "entered", "entry": 2, "phase": "a" }),
            json!({ "what": "ended", "state": "canceled" }),
        ];
        for (mut event, n) in history.into_iter().zip(1..) {
            (event["n"], event["at"]) = (json!(n), json!("2026-01-31T12:00:00Z"));
            timeline.add(&Event::read(&event).unwrap());
        }
        let happened = |words: &str| News::Happened(words.to_owned());
        let [paused, resumed] = ["paused", "resumed"].map(happened);
        let rerun = happened("told to enter `a` anew");
        let [first, second] = [0, 1].map(|visit: usize| News::Left(timeline.visits[visit].clone()));
        assert_eq!(timeline.news, [paused, resumed, first, rerun, second]);
        let status = timeline.visits.iter().map(|visit| visit.status.as_deref()).collect::<Vec<_>>();
        assert_eq!(status, [Some("abandoned"), None]);
    }

    #[test]
    fn a_history_folds_into_visits_however_often_it_is_told() {
        let mut timeline = Timeline::default();
        for value in history().iter().chain(&history()) {
            timeline.add(&Event::read(value).unwrap());
        }
        let seen: Vec<_> = timeline
            .visits
            .iter()
            .map(|visit| (visit.entry, visit.phase.as_str(), visit.on_error, visit.took().map(|took| took.0)))
            .collect();
        assert_eq!(seen, [(1, "a", false, Some(1000)), (2, "b", true, Some(8000))]);
        assert_eq!(timeline.visits[1].tallies[0].retried, 4);
        assert_eq!(timeline.last, 8);
    }
}
