//! The coordinator: one [`Owner`] for each coordinator queue. Events come in, are applied to their runs, committed,
//! published, acknowledged; in this order, so that a crash between any two steps loses nothing.
//!
//! [`owner`] takes what a queue delivers, [`intake`] reads it, [`carry`] has it carried out: [`advance`] alone has
//! anything decided about a run, [`outside`] answers what `apply` cannot know, [`lists`] stores what handlers list,
//! [`answer`](mod@answer) tells who asked, [`outbox`] turns effects into messages, [`packing`] says how many jobs go into
//! one, [`publish`] sends them, [`unsent`] says what becomes of those that cannot be sent, [`aside`] sets aside what makes
//! no sense, [`hot`] keeps runs in memory. [`sweep`] looks after what was left behind, [`recover`] sends out again what may
//! be lost, [`newer`] holds what only a newer coordinator can do, [`share`] says who has how many queues.

mod advance;
mod answer;
mod aside;
mod audit;
mod carry;
mod hot;
mod intake;
pub(crate) mod lists;
mod newer;
mod outbox;
mod outside;
mod owner;
mod packing;
mod publish;
mod recover;
mod share;
mod sweep;
mod unsent;

pub(crate) use audit::audit_page;
pub use audit::{Audited, Finding};
pub(crate) use owner::Owner;
pub(crate) use packing::Packing;
pub(crate) use share::{Peer, SharedShare};
