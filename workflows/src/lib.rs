//! What a phasework workflow is: data and pure functions. No async, no clock, no randomness, no logging.
//!
//! In reading order: [`definition`] says what a workflow may contain; [`run`] holds a run's state and the one
//! function that decides what happens next; [`message`] is what travels between the programs; [`id`], [`time`] and
//! [`payload`] are the words they share. For tests, `testkit` builds workflows and plays the outside of a run.

pub mod definition;
pub mod id;
pub mod message;
pub mod payload;
pub mod run;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod time;

pub use payload::Payload;
pub use semver::Version;
