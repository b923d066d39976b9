//! What goes on beside the tests and gets only the processor time that they leave: most of them wait most of the time.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use xtask::tied::{self, Tied};

/// A program that runs beside something else.
pub(crate) struct Beside {
    process: Tied,
    /// Collects what it says, so that it does not come in between.
    output: JoinHandle<io::Result<String>>,
}

impl Beside {
    /// Starts the rest of `command`, which begins as [`politely`] does.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut process = Tied::spawn(command.stdout(Stdio::piped())).context("cannot run `nice`")?;
        let mut stdout = process.take_stdout().context("its output is not piped")?;
        let output = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        Ok(Self { process, output })
    }

    /// Waits for it and shows what it said. Whether all is well.
    pub(crate) fn finish(self, name: &str) -> Result<bool> {
        let status = self.process.wait().with_context(|| format!("cannot wait for the {name}"))?;
        let said = self.output.join().ok().with_context(|| format!("the output of the {name} was not read"))??;
        println!("\n{name}:\n{said}");
        Ok(status.success())
    }
}

/// The beginning of a command that goes after everything else.
pub(crate) fn politely() -> Command {
    let mut command = tied::command("nice");
    command.args(["-n", "19"]);
    command
}

/// A program of the tests that was built together with them, and with this one. Cargo, asked for it alone, would build it
/// and all that it needs once more: without the tests it has fewer features.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe().context("this program is nowhere")?.with_file_name(name))
}
