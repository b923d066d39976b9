//! What a definition may contain: [`parse`] reads a document in either spelling and reports every problem at once,
//! [`Workflow`] is the sound result, [`Expression`] and [`Template`] are what a definition computes.

mod expression;
mod model;
mod requirement;

pub use expression::{Expression, Template};
pub use model::{Backoff, ForEach, HandlerSpec, Phase, QueueNaming, RetryPolicy, Tolerance, Workflow, handler_queue};
pub use requirement::VersionRequirement;
