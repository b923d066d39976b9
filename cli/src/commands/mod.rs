//! The commands, one file each. A command reads its arguments, asks, prints, and says how it went.

pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod serve;
mod source;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod workers;
pub(crate) mod workflows;

use crate::args::Command;
use crate::failure::Outcome;

/// Runs a command.
pub(crate) async fn run(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Runs(command) => runs::run(command).await,
        Command::Workflows(command) => workflows::run(command).await,
        Command::Apply(args) => apply::run(args).await,
        Command::Validate(args) => validate::run(&args),
        Command::Dead(command) => dead::run(command).await,
        Command::Workers(args) => workers::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Serve(args) => serve::run(*args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Version(args) => version::run(&args),
    }
}
