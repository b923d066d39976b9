//! The HTTP API as its callers see it: a running engine on embedded parts, asked over a socket. Nothing here knows the
//! insides of the engine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "api/world.rs"]
mod world;

#[path = "api/actors.rs"]
mod actors;
#[path = "api/answers.rs"]
mod answers;
#[path = "api/audit.rs"]
mod audit;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/open.rs"]
mod open;
#[path = "api/reports.rs"]
mod reports;
#[path = "api/runs.rs"]
mod runs;
#[path = "api/serving.rs"]
mod serving;
