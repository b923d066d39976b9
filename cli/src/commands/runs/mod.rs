//! `phasework runs`: look at runs, cancel them.

mod cancel;
mod list;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;

/// Look at runs, cancel them.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(list::ListArgs),
    /// Show a run: where it is, what it waits for, what happened, what failed
    Show(show::ShowArgs),
    /// Cancel a run
    Cancel(cancel::CancelArgs),
}

/// Runs a command on runs.
pub(crate) async fn run(command: RunsCommand) -> Outcome {
    match command {
        RunsCommand::List(args) => list::run(args).await,
        RunsCommand::Show(args) => show::run(args).await,
        RunsCommand::Cancel(args) => cancel::run(args).await,
    }
}
