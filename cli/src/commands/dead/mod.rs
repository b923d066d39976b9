//! `phasework dead`: dead letters, which are messages that could not be understood or carried out.

mod dispose;
mod list;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::session::Session;

/// Look at dead letters, put them back or drop them.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, newest first
    List(list::ListArgs),
    /// Show a dead letter: why it is one, where it came from, its body
    Show(show::ShowArgs),
    /// Put dead letters back on the queues they came from
    Requeue(dispose::DisposeArgs),
    /// Drop dead letters for good
    Drop(dispose::DisposeArgs),
}

/// Runs a command on dead letters.
pub(crate) async fn run(command: DeadCommand, session: &Session) -> Outcome {
    match command {
        DeadCommand::List(args) => list::run(args, session).await,
        DeadCommand::Show(args) => show::run(args, session).await,
        DeadCommand::Requeue(args) => dispose::run(args, dispose::Way::Requeue, session).await,
        DeadCommand::Drop(args) => dispose::run(args, dispose::Way::Drop, session).await,
    }
}
