//! The store on SQLite in a real directory: the promises of a store, what it does about files that it should not use,
//! and what is left of it by processes and machines that die.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod directory;
mod kills;
mod opened_anew;
mod promises;
mod story;
#[cfg(target_os = "linux")]
mod torn;
