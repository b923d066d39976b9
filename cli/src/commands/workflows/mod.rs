//! `phasework workflows`: look at stored workflows.

mod list;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::session::Session;

/// Look at stored workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowsCommand {
    /// List stored workflows
    List(list::ListArgs),
    /// Show a workflow's definition and its revisions
    Show(show::ShowArgs),
}

/// Runs a command on workflows.
pub(crate) async fn run(command: WorkflowsCommand, session: &Session) -> Outcome {
    match command {
        WorkflowsCommand::List(args) => list::run(args, session).await,
        WorkflowsCommand::Show(args) => show::run(args, session).await,
    }
}
