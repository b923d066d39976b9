//! A world to test whole systems in: engines and workers on embedded parts, or on a real RabbitMQ and Redis, where
//! every engine and worker has connections of its own. Scenarios say what happens; the world only sets the stage.

mod around;
mod blinking;
mod clogged;
mod crash;
mod duplicating;
mod ledger;
mod world;

pub use blinking::{Blink, BlinkingBroker};
pub use clogged::{Clog, Clogged};
pub use crash::{Crash, CrashingBroker, CrashingStore, Deed, Point};
pub use duplicating::Duplicating;
pub use ledger::Ledger;
pub use world::{Setting, World, submit, wait};
