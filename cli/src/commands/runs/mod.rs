//! `phasework runs`: look at runs, give them orders.

mod cancel;
mod export;
mod failures;
mod follow;
mod history;
mod inputs;
mod list;
mod order;
mod pause;
mod replay;
mod retry;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::session::Session;

/// Look at runs, give them orders.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(list::ListArgs),
    /// Show a run: where it is, what it waits for, what happened, what failed
    Show(show::ShowArgs),
    /// Watch a run until it is over, then print its result
    Follow(follow::FollowArgs),
    /// List what happened to a run
    History(history::HistoryArgs),
    /// List the jobs of a run that failed for good
    Failures(failures::FailuresArgs),
    /// Write all that is kept of a run into a file
    Export(export::ExportArgs),
    /// Give recorded jobs to a worker again, and compare what it gives
    Replay(replay::ReplayArgs),
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
pub(crate) async fn run(command: RunsCommand, session: &Session) -> Outcome {
    match command {
        RunsCommand::List(args) => list::run(args, session).await,
        RunsCommand::Show(args) => show::run(args, session).await,
        RunsCommand::Follow(args) => follow::run(args, session).await,
        RunsCommand::History(args) => history::run(args, session).await,
        RunsCommand::Failures(args) => failures::run(args, session).await,
        RunsCommand::Export(args) => export::run(args, session).await,
        RunsCommand::Replay(args) => replay::run(args, session).await,
        RunsCommand::Cancel(args) => cancel::run(args, session).await,
        RunsCommand::Pause(args) => pause::pause(args, session).await,
        RunsCommand::Resume(args) => pause::resume(args, session).await,
        RunsCommand::Retry(args) => retry::retry(args, session).await,
        RunsCommand::Rerun(args) => retry::rerun(args, session).await,
    }
}
