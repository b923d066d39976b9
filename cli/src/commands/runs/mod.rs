//! `phasework runs`: look at runs, give them orders.

mod cancel;
mod list;
mod order;
mod pause;
mod retry;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;

/// Look at runs, give them orders.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(list::ListArgs),
    /// Show a run: where it is, what it waits for, what happened, what failed
    Show(show::ShowArgs),
    /// Cancel runs
    Cancel(cancel::CancelArgs),
    /// Pause runs: let nothing more of them out
    Pause(pause::PauseArgs),
    /// Let paused runs go on
    Resume(pause::ResumeArgs),
    /// Try again what made runs halt
    Retry(retry::RetryArgs),
    /// Let runs enter a phase anew
    Rerun(retry::RerunArgs),
}

/// Runs a command on runs.
pub(crate) async fn run(command: RunsCommand) -> Outcome {
    match command {
        RunsCommand::List(args) => list::run(args).await,
        RunsCommand::Show(args) => show::run(args).await,
        RunsCommand::Cancel(args) => cancel::run(args).await,
        RunsCommand::Pause(args) => pause::pause(args).await,
        RunsCommand::Resume(args) => pause::resume(args).await,
        RunsCommand::Retry(args) => retry::retry(args).await,
        RunsCommand::Rerun(args) => retry::rerun(args).await,
    }
}
