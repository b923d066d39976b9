//! `phasework completions`: the script that lets a shell complete commands, options and names.

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::failure::{Exit, Failure, Outcome};
use crate::output::say;

/// The variable by which the script asks this program what to offer.
pub(crate) const VARIABLE: &str = "PHASEWORK_COMPLETE";

const EXAMPLES: &str = "\
Examples:
  echo 'source <(phasework completions bash)' >> ~/.bashrc
  echo 'source <(phasework completions zsh)' >> ~/.zshrc
  phasework completions fish > ~/.config/fish/completions/phasework.fish
  echo 'eval (phasework completions elvish | slurp)' >> ~/.config/elvish/rc.elv
  echo 'phasework completions powershell | Out-String | Invoke-Expression' >> $PROFILE

Runs, workflows, dead letters and contexts are offered by name: the script asks this program, which asks the server that
the command line names, for a second at most. Make the script anew with each new version of phasework.";

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// A shell that is completed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.as_str());
    let shell = shell.ok_or_else(|| Failure::usage(format!("`{}` cannot be completed", args.shell.as_str())))?;
    let mut script = Vec::new();
    let written = shell.write_registration(VARIABLE, "phasework", "phasework", "phasework", &mut script);
    written.map_err(|error| Failure::new(Exit::Bad, format!("the script cannot be written: {error}")))?;
    say(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Good)
}
