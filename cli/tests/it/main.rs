//! The `phasework` command as a person meets it: what is typed, the exit code, what is printed. Everything runs on this
//! machine's loopback address, and nothing but the program is asked.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod client;
mod command;
mod completions;
mod context;
mod demo;
mod doctor;
mod embedded;
mod export;
mod follow;
mod looking;
mod offline;
mod orders;
mod programs;
mod replay;
mod serve;
mod server;
#[cfg(feature = "otel")]
mod traces;
