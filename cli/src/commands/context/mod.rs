//! `phasework context`: the servers that are asked, under a name each.

mod change;
mod list;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::session::Session;

/// Look at contexts, choose one, add and remove them.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List contexts
    List(list::ListArgs),
    /// Show a context, or the one that would be asked
    Show(list::ShowArgs),
    /// Make a context the current one
    Use(change::UseArgs),
    /// Add a context
    Add(change::AddArgs),
    /// Remove a context
    Remove(change::RemoveArgs),
}

/// Runs a command on contexts.
pub(crate) fn run(command: ContextCommand, session: &Session) -> Outcome {
    match command {
        ContextCommand::List(args) => list::list(&args, session),
        ContextCommand::Show(args) => list::show(&args, session),
        ContextCommand::Use(args) => change::choose(&args, session),
        ContextCommand::Add(args) => change::add(args, session),
        ContextCommand::Remove(args) => change::remove(&args, session),
    }
}
