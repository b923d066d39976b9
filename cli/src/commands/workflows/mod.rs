//! `phasework workflows`: look at stored workflows.

mod list;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;

/// Look at stored workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowsCommand {
    /// List stored workflows
    List(list::ListArgs),
    /// Show a workflow's definition and its revisions
    Show(show::ShowArgs),
}

/// Runs a command on workflows.
pub(crate) async fn run(command: WorkflowsCommand) -> Outcome {
    match command {
        WorkflowsCommand::List(args) => list::run(args).await,
        WorkflowsCommand::Show(args) => show::run(args).await,
    }
}
