//! Runs the program: with the arguments of a test, in a folder of its own, with none of this machine's settings.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Where a test runs the program.
pub(crate) struct Place {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// An empty folder, no settings.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), environment: Vec::new() }
    }

    /// With a variable set for the program.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// With a file in the folder.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phasework"));
        self.surround(command.args(arguments));
        command
    }

    /// Puts a command into the folder, with none of this machine's settings.
    pub(crate) fn surround(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        for name in ["XDG_CONFIG_HOME", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { exit: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program to its end, and checks its exit code and that all of `expected` is printed, somewhere.
    pub(crate) fn check(&self, arguments: &[&str], exit: i32, expected: &[&str]) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.exit, exit, "exit code of {arguments:?}\n{}{}", done.out, done.err);
        for part in expected {
            let there = done.out.contains(part) || done.err.contains(part);
            assert!(there, "`{part}` is missing in what {arguments:?} prints:\n{}{}", done.out, done.err);
        }
        assert!(!done.out.contains('\x1b') && !done.err.contains('\x1b'), "colour where nobody sees it: {arguments:?}");
        done
    }

    /// Starts the program and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = child.stderr.take().map(BufReader::new);
        Running { child, out, err, told: String::new(), printed: String::new() }
    }
}

fn is_setting(name: &str) -> bool {
    name.starts_with("PHASEWORK_") || name.starts_with("OTEL_")
}

/// A program that runs. It ends with this value.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Nothing once nobody listens any more.
    err: Option<BufReader<ChildStderr>>,
    told: String,
    printed: String,
}

impl Running {
    /// Reads stderr up to the line that has `part`, and gives that line.
    pub(crate) fn until(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.err.as_mut().unwrap().read_line(&mut line).unwrap();
            assert!(read > 0, "`{part}` was never told:\n{}", self.told);
            self.told.push_str(&line);
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Waits for the next line on stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        self.printed.push_str(&line);
        line
    }

    /// Sends it a signal: `INT`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Closes its stderr: who read it has gone.
    pub(crate) fn deaf(mut self) -> Self {
        self.err = None;
        self
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let (mut out, mut err) = (std::mem::take(&mut self.printed), std::mem::take(&mut self.told));
        self.out.read_to_string(&mut out).unwrap();
        if let Some(rest) = &mut self.err {
            rest.read_to_string(&mut err).unwrap();
        }
        Done { exit: self.child.wait().unwrap().code().unwrap_or(-1), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Most have ended before.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
