//! Submissions: what any AMQP client may send to have a run started.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Body;
use crate::id::{Revision, WorkflowName};
use crate::payload::Payload;

/// A request for a run, of a stored workflow or of a definition that comes with it. Answered to `reply-to` with
/// [`Accepted`](super::event::Accepted) or [`Refused`](super::event::Refused).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// The name of a stored workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowName>,
    /// A revision of it; without it, the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// A definition, in place of a name. It is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Payload>,
    /// The run's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// Makes the submission safe to repeat: one run for each workflow and key. At most 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
}

impl Body for Submit {
    const KIND: &'static str = "Submit";
}
