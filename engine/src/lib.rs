//! The phasework engine: coordinators that advance runs, and everything a program needs to embed one.
//!
//! In reading order: [`engine`] is the one door in (submit, cancel, list, wait); [`coordinator`] advances runs: events
//! in, `apply`, commit, publish, acknowledge; [`registry`] knows which workers live; [`upkeep`] repeats what has to be
//! done every so often; [`supervisor`] starts and stops all of it; [`api`] serves it over HTTP; [`config`] is every
//! setting.

pub mod api;
pub mod config;
mod coordinator;
pub mod engine;
pub mod registry;
pub mod supervisor;
pub mod trace;
mod upkeep;

mod answers;
mod dead;
mod ends;
mod lanes;
mod letters;
mod orders;
mod presence;
mod submissions;
mod timeline;
mod watch;
mod workflows;

pub use config::EngineConfig;
pub use coordinator::{Audited, Finding};
pub use engine::{Engine, EngineError, Request, RunDetail, RunInList, Submission, ToRun};
pub use supervisor::{RunningEngine, start};
pub use timeline::{USED_MARKER, epoch_of};
