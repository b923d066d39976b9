//! `phasework man`: the manual pages, made from the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::args::Cli;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{note, say};

const EXAMPLES: &str = "\
Examples:
  phasework man ~/.local/share/man/man1
  phasework man | man -l -                the page of phasework itself";

/// Write the manual pages into a folder
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The folder, one page a command; without it the page of phasework itself is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes the pages.
pub(crate) fn run(args: &ManArgs) -> Outcome {
    let failed = |error: std::io::Error| Failure::usage(format!("the pages cannot be written: {error}"));
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
        say(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Good);
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    note(&format!("the pages are in {}", folder.display()));
    Ok(Exit::Good)
}
