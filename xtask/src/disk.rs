//! A small disk in memory, for those who are to fill it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::tied::{self, Tied};

/// Becomes a command that alone sees a disk of that size in a directory.
const ON_A_DISK: &str = r#"mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@""#;

/// A disk of some size, for one process and those that it starts; it is empty at first, and goes with them.
pub struct Disk {
    megabytes: u32,
    directory: PathBuf,
}

impl Disk {
    /// A disk that is seen in `directory`. An error says that this machine does not let us.
    pub fn new(megabytes: u32, directory: &Path) -> Result<Self> {
        let disk = Self { megabytes, directory: directory.to_owned() };
        let mut attempt = disk.command();
        let attempt = Tied::spawn(attempt.arg("true").stdout(Stdio::null()).stderr(Stdio::null()))?.wait()?;
        ensure!(attempt.success(), "this machine does not let us mount a disk in memory (`unshare --mount`)");
        Ok(disk)
    }

    /// A command whose process [`Tied::spawn`] can start: add the program that is to see the disk, and its arguments.
    pub fn command(&self) -> Command {
        let mut command = tied::command("unshare");
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", ON_A_DISK, "sh"]);
        command.arg(format!("{}m", self.megabytes)).arg(&self.directory);
        command
    }

    /// Where the disk of a process is seen from outside while that runs.
    pub fn of(&self, process: u32) -> PathBuf {
        let directory = self.directory.strip_prefix("/").unwrap_or(&self.directory);
        Path::new("/proc").join(process.to_string()).join("root").join(directory)
    }
}
