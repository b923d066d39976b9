//! The command line as clap reads it. The arguments of a command stand with the command.

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::commands::{
    apply, audit, certify, completions, context, dead, demo, dev, doctor, drill, man, metrics, run, runs, serve,
    status, validate, version, workers, workflows,
};
use crate::complete;
use crate::output::Color;

const EXAMPLES: &str = "\
Examples:
  phasework demo                                      see a workflow run, with nothing to install
  phasework dev                                       an engine in one process, that keeps what it does
  phasework validate search.json                      check a definition, without a server
  phasework run search.json --data '{\"q\":\"rust\"}' --follow
  phasework runs list --state live

--url, --token and the global options may stand before the command or behind it. Data goes to stdout, everything else to
stderr; docs/cli.md has it all.

Exit codes:
  0  done
  1  the run failed, was canceled or halted; or what was asked about is bad
  2  the command line or its input makes no sense
  3  the server cannot be reached, or cannot serve now
  4  there is no such thing
  130  ended by Ctrl-C";

/// Runs JSON-defined workflows over message queues.
#[derive(Debug, Parser)]
#[command(name = "phasework", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// As of the command; taken before it, too
    #[arg(long, global = true, hide = true, value_name = "URL")]
    url: Option<String>,
    /// As of the command; taken before it, too
    #[arg(long, global = true, hide = true, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The context to ask; see `phasework context` [env: PHASEWORK_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    pub(crate) context: Option<String>,
    /// When to colour [env: NO_COLOR, CLICOLOR_FORCE]
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, hide_possible_values = true)]
    pub(crate) color: Color,
    /// Tell times in full and in UTC, not as how long ago
    #[arg(long, global = true)]
    pub(crate) utc: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a run, and perhaps watch it
    Run(run::RunArgs),
    /// Look at runs; cancel, pause, retry them
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Look at stored workflows
    #[command(subcommand)]
    Workflows(workflows::WorkflowsCommand),
    /// Store workflow definitions
    Apply(apply::ApplyArgs),
    /// Check workflow definitions, without a server
    Validate(validate::ValidateArgs),
    /// Look at dead letters, put them back or drop them
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// List the workers and the handlers they host
    Workers(workers::WorkersArgs),
    /// Show which server answers, whether it can work, and how much there is
    Status(status::StatusArgs),
    /// Watch runs, handlers, workers and coordinators live
    #[cfg(feature = "top")]
    Top(crate::commands::top::TopArgs),
    /// Print the metrics of the coordinator that answers
    Metrics(metrics::MetricsArgs),
    /// Look at contexts, choose one, add and remove them
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Check that live runs keep what is promised of runs
    Audit(audit::AuditArgs),
    /// Check that a worker of any language keeps the promises of the wire format
    Certify(certify::CertifyArgs),
    /// Try whether handlers bear faults: jobs that come twice, workers that are killed, outcomes that are late
    Drill(drill::DrillArgs),
    /// Run the engine: coordinators and the HTTP API
    Serve(Box<serve::ServeArgs>),
    /// Run everything in one process, for somebody who writes workflows
    Dev(dev::DevArgs),
    /// Look at broker, store and engine: what is well, what is not, what to do
    Doctor(doctor::DoctorArgs),
    /// See a workflow run: everything in one process, nothing to install
    Demo(demo::DemoArgs),
    /// Write the manual pages into a folder
    Man(man::ManArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the version
    Version(version::VersionArgs),
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Checks the help of a command and of those below it; how many there were.
    fn check_help(command: &mut Command, path: &str) -> usize {
        let path = format!("{path} {}", command.get_name());
        let help = command.render_long_help().to_string();
        assert!(help.contains("Usage:"), "{path}:\n{help}");
        assert!(command.get_about().is_some(), "{path} does not say what it does");
        let below: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        assert!(!below.is_empty() || help.contains("\nExamples:\n"), "{path} shows no examples:\n{help}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        let below = below.iter().filter(|name| *name != "help");
        let below = below.map(|name| check_help(command.find_subcommand_mut(name).unwrap(), &path));
        1 + below.sum::<usize>()
    }

    #[test]
    fn every_command_teaches_how_to_use_it() {
        assert_eq!(check_help(&mut Cli::command(), ""), 45);
    }
}
