//! What must hold of any bytes, one function a target: each panics when it does not hold. `cargo xtask fuzz` runs them
//! with bytes that a fuzzer chooses by what code they reach.
//!
//! In reading order: [`definition`] and [`expression`] are what users write; [`message`] is what arrives on queues;
//! [`state`] is what a store gives back, damaged or not; [`worker`] is a sound run among workers and clients that say
//! anything. `chance` turns bytes into events.

mod chance;
mod definition;
mod expression;
mod message;
mod state;
mod worker;

pub use definition::definition;
pub use expression::expression;
pub use message::message;
pub use state::state;
pub use worker::worker;
