//! Child processes that end when we end, however we end: by returning, by a panic, by Ctrl-C or by `kill -9`.
//! It ends only what it started, and never by a name.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};

/// Becomes the command, as the leader of a process group with a guard in it. The guard kills the group once our end of
/// a pipe is gone. The kernel closes that end when we die, so no signal handler is needed.
const GUARDED: &str = r#"exec 3<&0; { read -r _ <&3; kill -KILL 0; } & exec "$@" </dev/null 3<&-"#;

/// Removes a directory once our end of the pipe is gone; twice, for what others in it did while they were being killed.
const REMOVE: &str = r#"read -r _; rm -rf "$1"; [ -e "$1" ] && sleep 1 && rm -rf "$1""#;

/// A command whose process [`Tied::spawn`] can start: add arguments, environment and outputs. Its input is empty.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", GUARDED, "sh"]).arg(program);
    shell
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// A child process with every process it started in its group. They end with this value.
pub struct Tied {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Tied {
    /// Starts what [`command`] began.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// What the process writes, if its output is piped and was not taken before.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The status it ended with, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal (`STOP`, `CONT`, `TERM`), not to others in its group.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").arg("-s").arg(name).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("`kill -s {name}` ended with {status}"))) }
    }

    /// Asks the process to stop, then waits as [`Tied::wait`].
    pub fn terminate(self) -> io::Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Waits until the process has ended, then ends what it left behind in its group.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        // `Child::wait` closes only a pipe it still holds, and ours was taken: the guard lives on until we drop it.
        self.child.wait()
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.child.wait() {
            eprintln!("warning: cannot wait for process {}: {error}", self.child.id());
        }
    }
}

/// A directory of our own among the temporary ones. Goes away with this value, unless it is kept.
pub struct Directory {
    path: PathBuf,
    // Only held: the directory is removed when it goes.
    _remover: Option<Tied>,
}

impl Directory {
    /// Makes a directory that nobody else may read.
    pub fn create(keep: bool) -> Result<Self> {
        let path = fresh_directory(&std::env::temp_dir())?;
        let remover = if keep {
            None
        } else {
            let mut remover = Command::new("/bin/sh");
            remover.args(["-c", REMOVE, "sh"]).arg(&path);
            Some(Tied::spawn(&mut remover).context("cannot start /bin/sh")?)
        };
        Ok(Self { path, _remover: remover })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn fresh_directory(parent: &Path) -> Result<PathBuf> {
    for n in 0..100 {
        let path = parent.join(format!("phasework-{}-{n}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }
    bail!("{} is full of directories of ours: remove the phasework-* that nobody uses", parent.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read as _;

    /// What `script` writes, all processes of its group included. Returns only once every writer is gone.
    fn output_after(script: &str, end: impl FnOnce(Tied) -> Option<ExitStatus>) -> (String, Option<ExitStatus>) {
        let mut tied = Tied::spawn(command("/bin/sh").args(["-c", script]).stdout(Stdio::piped())).unwrap();
        let mut stdout = tied.take_stdout().unwrap();
        let mut first = [0; 1];
        stdout.read_exact(&mut first).unwrap();
        let status = end(tied);
        let mut rest = String::from(char::from(first[0]));
        stdout.read_to_string(&mut rest).unwrap();
        (rest, status)
    }

    #[test]
    fn dropping_ends_the_process_and_its_children() {
        // Would wait for the two sleeps if one of them lived on: they hold the output open.
        let (output, _) = output_after("echo up; sleep 600 & sleep 600; echo late", |tied| {
            drop(tied);
            None
        });
        assert_eq!(output, "up\n");
    }

    #[test]
    fn waiting_gives_the_status_and_ends_what_was_left_behind() {
        let (output, status) = output_after("echo up; sleep 600 & exit 7", |tied| Some(tied.wait().unwrap()));
        assert_eq!(output, "up\n");
        assert_eq!(status.unwrap().code(), Some(7));
    }

    #[test]
    fn a_directory_goes_with_its_value_unless_it_is_kept() {
        for keep in [false, true] {
            let directory = Directory::create(keep).unwrap();
            let path = directory.path().to_owned();
            std::fs::write(path.join("file"), "content").unwrap();
            drop(directory);
            assert_eq!(path.exists(), keep);
            if keep {
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
    }
}
