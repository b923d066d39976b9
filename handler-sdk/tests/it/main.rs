//! The worker loop against the embedded broker, with the coordinator played by hand. Time is paused: it moves only when
//! everybody waits, so these tests wait for named messages and never for time itself.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod bench;
mod canceled;
mod checkpoints;
mod client;
mod drain;
mod health;
mod layers;
mod leases;
mod listen;
mod lists;
mod messages;
mod moody;
mod outcomes;
mod packs;
mod presence;
mod probes;
mod rates;
mod reports;
mod whole_runs;
