//! The worker gateway from both ends: every promise of the broker port through a real HTTP server, on the embedded
//! broker and on RabbitMQ; what a session is, request by request; and what becomes of it when answers are lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "gateway/world.rs"]
mod world;

#[path = "gateway/errands.rs"]
mod errands;
#[path = "gateway/faults.rs"]
mod faults;
#[path = "gateway/health.rs"]
mod health;
#[path = "gateway/promises.rs"]
mod promises;
#[path = "gateway/publishing.rs"]
mod publishing;
#[path = "gateway/refusals.rs"]
mod refusals;
#[path = "gateway/sessions.rs"]
mod sessions;
