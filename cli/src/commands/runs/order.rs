//! What the orders have in common: to which runs they go, what became of each, in words and as an exit code. Which
//! order it is stands with its command.

use clap::Args;
use clap_complete::ArgValueCandidates;
use phasework_workflows::id::{PhaseName, RunId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, read};
use crate::output::{Format, Stream, note, say, say_items, state_text};
use crate::routes::{self, Route};
use crate::session::{Form, Server, Session};
use crate::views::OrderedView;

/// Arguments of every order.
#[derive(Args, Debug)]
pub(super) struct OrderArgs {
    /// The runs
    #[arg(value_name = "ID", required = true, add = ArgValueCandidates::new(complete::live_runs))]
    runs: Vec<RunId>,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(super) form: Form,
    #[command(flatten)]
    server: Server,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Cancel,
    Pause,
    Resume,
    Retry,
    Rerun,
}

impl Order {
    const fn route(self) -> &'static Route {
        match self {
            Self::Cancel => &routes::CANCEL,
            Self::Pause => &routes::PAUSE,
            Self::Resume => &routes::RESUME,
            Self::Retry => &routes::RETRY,
            Self::Rerun => &routes::RERUN,
        }
    }

    /// What was ordered is so already.
    fn is_so(self, state: &str) -> bool {
        match self {
            Self::Cancel => ["canceled", "canceling"].contains(&state),
            Self::Pause => state == "paused",
            Self::Resume => state == "running",
            Self::Retry | Self::Rerun => false,
        }
    }

    /// Why the order changes nothing in a run in this state, and what would.
    fn refusal(self, state: &str) -> (String, Option<&'static str>) {
        let what = match self {
            Self::Cancel => "canceled",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::Rerun => "rerun",
        };
        let it = match state {
            "succeeded" | "failed" | "halted" => format!("a run that has {state}"),
            "canceling" => "a run that is being canceled".to_owned(),
            "canceled" => "a run that was canceled".to_owned(),
            state => format!("a run that is {state}"),
        };
        let instead = match (self, state) {
            (Self::Retry | Self::Rerun, "succeeded" | "failed" | "canceled") => Some("start another"),
            (Self::Pause, "halted") => Some("nothing of it goes out before it is told to retry or rerun"),
            (Self::Resume, "halted") => Some("retry what failed, or rerun a phase"),
            (Self::Retry, "running" | "paused") => Some("only a run that has halted can be"),
            (Self::Rerun, "paused") => Some("resume it first"),
            (Self::Retry | Self::Rerun, "halted" | "running") => Some("it has entered as many phases as a run may"),
            _ => None,
        };
        (format!("{it} cannot be {what}"), instead)
    }
}

/// What an order says besides its reason.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<PhaseName>,
    /// Numbers stay as they were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Box<RawValue>>,
}

/// What became of an order.
#[derive(Debug)]
pub(super) struct Carried {
    /// For which run.
    pub(super) run: String,
    /// The state of the run.
    pub(super) state: String,
    /// What the server answered, or what went wrong.
    pub(super) answer: Value,
    /// Whether the order changed anything.
    pub(super) changed: bool,
}

/// What became of an order for several runs.
#[derive(Debug)]
pub(super) struct Report {
    order: Order,
    format: Format,
    /// Of the runs that took it, or had no need to.
    pub(super) carried: Vec<Carried>,
    failed: Vec<(String, Failure)>,
}

/// Gives an order to every run it is meant for, one after the other.
pub(super) async fn give(
    args: &OrderArgs,
    order: Order,
    details: Details,
    session: &Session,
) -> Result<(Api, Report), Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        #[serde(flatten)]
        details: Details,
    }
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let body = Body { reason: args.reason.as_deref(), details };
    let mut report = Report { order, format, carried: Vec::new(), failed: Vec::new() };
    for run in &args.runs {
        let run = run.to_string();
        match api.post::<Value>(order.route(), &[&run], &body).await {
            Ok(answer) => report.add(run, answer)?,
            Err(failure) => {
                let is_away = failure.exit == Exit::Unreachable;
                report.failed.push((run, failure));
                if is_away {
                    break; // nor will it answer for the others
                }
            }
        }
    }
    Ok((api, report))
}

impl Report {
    fn add(&mut self, run: String, answer: Value) -> Result<(), Failure> {
        let OrderedView { state, changed } = read(answer.clone())?;
        if changed || self.order.is_so(&state) {
            self.carried.push(Carried { run, state, answer, changed });
        } else {
            let (words, instead) = self.order.refusal(&state);
            let instead = instead.map(|instead| format!("; {instead}")).unwrap_or_default();
            self.failed.push((run, Failure::new(Exit::Bad, words + &instead)));
        }
        Ok(())
    }

    /// Tells what became of each; the exit code is the worst.
    pub(super) fn tell(self) -> Outcome {
        let several = self.carried.len() + self.failed.len() > 1;
        let mut worst = Exit::Good;
        let mut items: Vec<_> = self.carried.iter().map(|carried| carried.answer.clone()).collect();
        for (run, failure) in self.failed {
            items.push(json!({ "run": &run, "changed": false, "error": &failure.message }));
            worst = worst.max(failure.exit);
            let message = if several { format!("{run}: {}", failure.message) } else { failure.message };
            Failure { message, ..failure }.tell();
        }
        if self.format != Format::Table {
            say_items(&items, &items, self.format)?;
            return Ok(worst);
        }
        let paint = Stream::Out.paint();
        for Carried { run, state, changed, .. } in &self.carried {
            if *changed {
                say(&format!("{run}  {}\n", state_text(state, paint)))?;
            } else {
                note(&format!("{run} {}", already(state)));
            }
        }
        Ok(worst)
    }
}

/// That what is ordered is so already.
fn already(state: &str) -> String {
    match state {
        "canceled" => "was canceled before".to_owned(),
        "canceling" => "is being canceled already".to_owned(),
        state => format!("is {state} already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_changes_nothing_says_why_and_what_would() {
        for (order, state, expected) in [
            (Order::Cancel, "succeeded", "a run that has succeeded cannot be canceled"),
            (Order::Pause, "canceling", "a run that is being canceled cannot be paused"),
            (
                Order::Pause,
                "halted",
                "a run that has halted cannot be paused; nothing of it goes out before it is told to retry or rerun",
            ),
            (Order::Resume, "halted", "a run that has halted cannot be resumed; retry what failed, or rerun a phase"),
            (Order::Resume, "failed", "a run that has failed cannot be resumed"),
            (Order::Retry, "succeeded", "a run that has succeeded cannot be retried; start another"),
            (Order::Retry, "running", "a run that is running cannot be retried; only a run that has halted can be"),
            (
                Order::Retry,
                "halted",
                "a run that has halted cannot be retried; it has entered as many phases as a run may",
            ),
            (Order::Rerun, "paused", "a run that is paused cannot be rerun; resume it first"),
            (Order::Rerun, "canceled", "a run that was canceled cannot be rerun; start another"),
        ] {
            let mut report = Report { order, format: Format::Table, carried: Vec::new(), failed: Vec::new() };
            report.add("r".to_owned(), json!({ "run": "r", "state": state, "changed": false })).unwrap();
            assert_eq!(report.failed[0].1.message, expected);
        }
    }

    #[test]
    fn what_is_so_already_is_no_error() {
        for (order, state, expected) in [
            (Order::Cancel, "canceled", "was canceled before"),
            (Order::Cancel, "canceling", "is being canceled already"),
            (Order::Pause, "paused", "is paused already"),
            (Order::Resume, "running", "is running already"),
        ] {
            assert!(order.is_so(state));
            assert_eq!(already(state), expected);
        }
    }
}
