//! `phasework completions`: the script that lets a shell complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::{Exit, Outcome};
use crate::output::say;

const EXAMPLES: &str = "\
Examples:
  phasework completions bash > /etc/bash_completion.d/phasework
  phasework completions zsh > \"${fpath[1]}/_phasework\"
  phasework completions fish > ~/.config/fish/completions/phasework.fish";

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "phasework", &mut script);
    say(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Good)
}
