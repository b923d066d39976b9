//! A world to test whole systems in: engines and workers on embedded parts, or on a real RabbitMQ and Redis, where
//! every engine and worker has connections of its own. Scenarios say what happens; the world only sets the stage.

mod around;
mod blinking;
mod busy;
mod clogged;
mod crash;
mod doors;
mod duplicating;
mod ledger;
pub mod noop;
pub mod pure;
pub mod sim;
mod swallowing;
mod world;

pub use blinking::{Blink, BlinkingBroker};
pub use busy::BusyBroker;
pub use clogged::{Clog, Clogged};
pub use crash::{Crash, CrashingBroker, CrashingStore, Damage, DamagedStore, Deed, Point};
pub use duplicating::Duplicating;
pub use ledger::Ledger;
pub use swallowing::{Swallow, SwallowingBroker};
pub use world::{Setting, World, publish, submit, wait};
