//! Orders for a run: cancel, pause, resume, retry, rerun.

use std::time::Duration;

use phasework_workflows::Payload;
use phasework_workflows::id::RunId;
use phasework_workflows::time::Millis;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Client, ClientError};

/// An order for a run.
///
/// ```
/// use std::time::Duration;
///
/// use phasework_sdk::Order;
///
/// let stop = Order::cancel().deadline(Duration::from_secs(60)).reason("the customer has changed their mind");
/// let again = Order::rerun().phase("shipping").data(&["by rail"]);
/// ```
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct Order {
    #[serde(skip)]
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    problem: Option<String>,
}

impl Order {
    const fn new(action: &'static str) -> Self {
        Self { action, deadline: None, phase: None, data: None, reason: None, problem: None }
    }

    /// End the run as `canceled`, once jobs that run have stopped, or after 10 seconds.
    pub const fn cancel() -> Self {
        Self::new("cancel")
    }

    /// Let nothing more of the run out for now. Jobs that are out go on, and count.
    pub const fn pause() -> Self {
        Self::new("pause")
    }

    /// Let a paused run go on.
    pub const fn resume() -> Self {
        Self::new("resume")
    }

    /// Try again what made the run halt.
    pub const fn retry() -> Self {
        Self::new("retry")
    }

    /// Leave the phase the run is in as it is, and enter it, or another one, anew.
    pub const fn rerun() -> Self {
        Self::new("rerun")
    }

    /// Of a cancel: how long jobs that run may go on; not at all when it is zero.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(Millis::from(deadline).to_string());
        self
    }

    /// Of a rerun: the phase to enter, in place of the one the run is in.
    pub fn phase(mut self, phase: &str) -> Self {
        self.phase = Some(phase.to_owned());
        self
    }

    /// Of a retry or rerun: data in place of what the run was given.
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Self {
        match Payload::of(data) {
            Ok(data) => self.data = Some(data),
            Err(error) => self.problem = Some(format!("the data cannot be written as JSON: {error}")),
        }
        self
    }

    /// Why; kept in the run's history.
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }
}

/// The answer to an order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ordered {
    /// The run.
    pub run: RunId,
    /// Whether the order changed anything; not so when what was ordered is so already, or is not possible in the state
    /// that the run is in.
    pub changed: bool,
    /// That state.
    pub state: String,
}

impl Client {
    /// Gives a run an order. That the run is in no state for it is no error: see [`Ordered::changed`].
    ///
    /// # Errors
    /// When the coordinator is not available, does not know the run or the phase, or cannot make sense of the order.
    pub async fn order(&self, run: RunId, order: &Order) -> Result<Ordered, ClientError> {
        if let Some(problem) = &order.problem {
            return Err(ClientError::Malformed(problem.clone()));
        }
        self.ask(self.request(Method::POST, &format!("v1/runs/{run}/{}", order.action))?.json(order)).await
    }
}
