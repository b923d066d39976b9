//! What a definition may contain. [`parse`] reads a document in either spelling and reports every problem at once;
//! [`Workflow`] is the sound result; [`Expression`] and [`Template`] are what a definition computes. Never reads a
//! file, a clock or the network.
//!
//! In reading order: `model` is the result; `json` and `node` turn text into a tree that knows its places; `fields`,
//! `read` and `handler` make a draft of it; `check`, `graph` and `paths` look at the whole; all tell `problem`; `canonical` writes a
//! workflow down again. Another syntax than JSON needs only another reader beside `json`.

mod canonical;
mod catalog;
mod check;
mod expression;
mod fields;
mod graph;
mod handler;
mod json;
mod length;
mod model;
mod node;
mod paths;
mod problem;
mod read;
mod requirement;

pub use catalog::catalog;
pub use expression::{
    Expression, ExpressionError, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_TOKENS, MAX_LIST_ITEMS,
    MAX_RENDERED_BYTES, MAX_RESULT_BYTES, MAX_RESULT_DEPTH, MAX_TEMPLATE_EXPRESSIONS, OutputReads, RUN_FACTS, Reads,
    Scope, Template,
};
pub use handler::{DEFAULT_TIMEOUT, MAX_FOR_EACH_COUNT, MAX_IN_FLIGHT, MAX_TIMEOUT};
pub use json::{MAX_DEFINITION_BYTES, MAX_DEFINITION_DEPTH};
pub use model::{Backoff, ForEach, HandlerSpec, Phase, QueueNaming, RetryPolicy, Tolerance, Workflow, handler_queue};
pub use problem::{MAX_PROBLEMS, Position, Problem, Problems, Severity, nearest};
pub use read::{Document, MAX_HANDLERS, MAX_PHASES, parse};
pub use requirement::{RequirementError, VersionRequirement};
