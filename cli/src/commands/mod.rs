//! The commands, one file each. A command reads its arguments, asks, prints, and says how it went.

pub(crate) mod apply;
pub(crate) mod audit;
mod between;
pub(crate) mod certify;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod man;
pub(crate) mod metrics;
mod mortal;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod serve;
mod source;
pub(crate) mod status;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod workers;
pub(crate) mod workflows;

use crate::args::Command;
use crate::failure::Outcome;
use crate::session::Session;

/// Runs a command.
pub(crate) async fn run(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Run(args) => run::run(args, session).await,
        Command::Runs(command) => runs::run(command, session).await,
        Command::Workflows(command) => workflows::run(command, session).await,
        Command::Apply(args) => apply::run(args, session).await,
        Command::Validate(args) => validate::run(&args, session),
        Command::Dead(command) => dead::run(command, session).await,
        Command::Workers(args) => workers::run(args, session).await,
        Command::Status(args) => status::run(args, session).await,
        #[cfg(feature = "top")]
        Command::Top(args) => top::run(args, session).await,
        Command::Metrics(args) => metrics::run(args, session).await,
        Command::Context(command) => context::run(command, session),
        Command::Man(args) => man::run(&args),
        Command::Audit(args) => audit::run(args, session).await,
        Command::Certify(args) => certify::run(args, session).await,
        Command::Drill(args) => drill::run(args, session).await,
        Command::Serve(args) => serve::run(*args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Completions(args) => completions::run(&args),
        Command::Version(args) => version::run(&args, session),
    }
}
