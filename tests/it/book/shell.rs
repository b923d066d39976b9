//! One shell into which the commands of a page are typed, one after the other. It has a folder, a port and a session of
//! its own, and whatever runs in that session ends with it. It says what was written, and judges nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use phasework_tests::Setting;
use xtask::book::root;
use xtask::services::free_ports;

use super::alike::Renamed;
use crate::processes::program;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Stands behind what a command writes, with its exit code.
const MARK: &str = "@@@@@ ";

/// Where a step ends.
const END: char = '\u{1}';

/// Reads steps, and carries them out. Cargo waits for the cargo that runs the tests, which waits for this; what it would
/// run was built beside it.
const DRIVER: &str = r#"
exec 3<&0 </dev/null 2>&1
set -m
ready() { for _ in $(seq 600); do curl -sf "$PHASEWORK_API/health/ready" >/dev/null && return; sleep 0.1; done; return 1; }
gone() { for _ in $(seq 300); do curl -s "$PHASEWORK_API" >/dev/null || return 0; sleep 0.1; done; return 1; }
hosted() { for _ in $(seq 300); do phasework workers --output json | grep -q '"live": true' && return; sleep 0.1; done; return 1; }
cargo() {
  case "$*" in
    *phasework-example-greeter*) greeter-worker ;;
    'run --release -- '*) shift 3; phasework "$@" ;;
    *) echo "cargo $*: what would that run?"; return 1 ;;
  esac
}
while IFS= read -r -u 3 -d $'\x01' step; do
  eval "$step"
  code=$?
  printf '\n@@@@@ %s\n' "$code"
done
"#;

pub(super) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    directory: tempfile::TempDir,
    /// What stands on pages, and what stands here in its place.
    here: Vec<(&'static str, String)>,
}

impl Shell {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let [port] = free_ports().expect("a free port");
        let address = format!("127.0.0.1:{port}");
        let mut here = vec![("127.0.0.1:7180", address.clone())];
        for (place, name) in [("/var/lib/phasework", "state"), ("/backup", "backup")] {
            here.push((place, directory.path().join(name).display().to_string()));
        }
        let programs = program("phasework").parent().expect("a directory").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path))).expect("a PATH");
        // In a session of its own, by which everything that it starts can be found.
        let mut shell = Command::new("setsid");
        shell.args(["bash", "-c", DRIVER]).current_dir(directory.path()).env("PATH", path);
        shell.env("NO_COLOR", "1").env("COLUMNS", "120").env("XDG_CONFIG_HOME", directory.path().join(".config"));
        shell.env("PHASEWORK_LISTEN", &address).env("PHASEWORK_API", format!("http://{address}"));
        shell.env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(Setting::Real { broker, store }) = Setting::real() {
            here.extend([("amqp://127.0.0.1:5672", broker), ("redis://127.0.0.1:6379", store)]);
            shell.env("PHASEWORK_PREFIX", format!("book-{port}"));
        }
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("setsid and bash are there");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
            for line in lines.map(|line| String::from_utf8_lossy(&line).into_owned()) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, lines, directory, here }
    }

    /// Saves a file, as a page says.
    pub(super) fn save(&self, name: &str, text: &str, renamed: &Renamed) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
        std::fs::write(path, self.as_here(text, renamed)).expect("it can be written");
    }

    /// Makes the folder look like a clone of the project.
    pub(super) fn clone_project(&self) {
        for entry in std::fs::read_dir(root()).expect("the project can be read") {
            let path: PathBuf = entry.expect("the project can be read").path();
            let name = path.file_name().expect("a name");
            std::os::unix::fs::symlink(&path, self.directory.path().join(name)).expect("a link can be made");
        }
    }

    /// Whether what a block needs is there: RabbitMQ and Redis, or a program.
    pub(super) fn has(&self, needed: &str) -> bool {
        let is_there = |program: &Path| program.join(needed).exists();
        match needed {
            "services" => Setting::real().is_some(),
            _ => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|path| is_there(&path)),
        }
    }

    /// Types a command; what it wrote, and its exit code.
    pub(super) fn type_in(&mut self, line: &str, renamed: &Renamed) -> (Vec<String>, String) {
        let line = self.as_here(line, renamed);
        let step = match line.strip_suffix('&') {
            // Whatever runs in the background writes to a file, and a server is waited for, as a reader would.
            Some(server)
                if server.contains("phasework dev")
                    || server.contains("phasework serve")
                    || server.contains("-- dev") =>
            {
                format!("{server} >> background.log 2>&1 &\nready")
            }
            Some(background) => format!("{background} >> background.log 2>&1 &"),
            // Whoever types the next command sees this one's end.
            None if line.starts_with("kill ") => format!("{line}; wait %1; gone"),
            None => line,
        };
        let stdin = self.stdin.as_mut().expect("it is open");
        write!(stdin, "{step}{END}").and_then(|()| stdin.flush()).expect("the shell reads");
        let mut written = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{step}` does not end; up to now:\n{}", written.join("\n")));
            if let Some(code) = line.strip_prefix(MARK) {
                // The mark begins a line, which what was written may not have ended with.
                if written.last().is_some_and(String::is_empty) {
                    written.pop();
                }
                return (written, code.to_owned());
            }
            written.push(self.as_on_the_page(&line));
        }
    }

    /// What ran in the background wrote this.
    pub(super) fn background(&self) -> String {
        // There may have been nothing.
        std::fs::read_to_string(self.directory.path().join("background.log")).unwrap_or_default()
    }

    fn as_here(&self, text: &str, renamed: &Renamed) -> String {
        let here = self.here.iter().map(|(page, here)| (*page, here.as_str()));
        let renamed = renamed.iter().map(|(page, here)| (page.as_str(), here.as_str()));
        here.chain(renamed).fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    fn as_on_the_page(&self, text: &str) -> String {
        self.here.iter().fold(text.to_owned(), |text, (page, here)| text.replace(here.as_str(), page))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // All of it may have ended.
        Command::new("pkill").args(["-KILL", "-s", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}
