//! A Redis of our own: how it is started, and how to see that it is ready.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::install::Needed;
use crate::services::{Starting, free_ports, log_file};
use crate::tied::{self, Tied};

/// The program.
pub const NEEDED: Needed = Needed {
    program: "redis-server",
    package: "redis-server",
    first: &[],
    otherwise: "Redis 7.0 or newer (`apt-get install redis-server`, `brew install redis`, `dnf install redis`)",
};

/// A Redis with a directory and a port of its own. It may be started again as often as one likes, and finds what it
/// had. It ends with this value.
pub struct Redis {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    append_fsync: &'static str,
    disk_mb: Option<u32>,
    server: Option<Tied>,
}

/// Becomes a command that alone sees a disk of that size in a directory.
const ON_A_DISK: &str = r#"mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@""#;

impl Redis {
    /// A Redis that runs `program` in `directory`, not started yet. `append_fsync` is its setting of that name.
    pub fn prepare(program: &Path, directory: &Path, append_fsync: &'static str) -> Result<Self> {
        let [port] = free_ports()?;
        Ok(Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            port,
            append_fsync,
            disk_mb: None,
            server: None,
        })
    }

    /// Gives it a disk of its own of that size, in memory; what is on it goes when it ends. An error says that this
    /// machine does not let us.
    pub fn with_disk(mut self, megabytes: u32) -> Result<Self> {
        let mut attempt = on_a_disk(megabytes, &self.directory);
        let attempt = Tied::spawn(attempt.arg("true").stdout(Stdio::null()).stderr(Stdio::null()))?.wait()?;
        ensure!(attempt.success(), "this machine does not let us mount a disk in memory (`unshare --mount`)");
        self.disk_mb = Some(megabytes);
        Ok(self)
    }

    /// Where its directory can be seen from outside while it runs.
    pub fn disk(&self) -> Option<PathBuf> {
        let directory = self.directory.strip_prefix("/").ok()?;
        Some(Path::new("/proc").join(self.server.as_ref()?.id().to_string()).join("root").join(directory))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, and returns when it answers.
    pub fn start(&mut self) -> Result<()> {
        let port = self.port;
        let log = self.directory.join("output.log");
        let (out, err) = log_file(&log)?;
        eprintln!("xtask: starting {} on port {port}", self.program.display());
        let mut command = match self.disk_mb {
            None => tied::command(&self.program),
            Some(megabytes) => {
                let mut command = on_a_disk(megabytes, &self.directory);
                command.arg(&self.program);
                command
            }
        };
        // As production is told to run it: an append-only file, nothing evicted.
        command.arg("--port").arg(port.to_string()).arg("--dir").arg(&self.directory);
        command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction"]);
        command.args(["--appendonly", "yes", "--appendfsync", self.append_fsync]);
        let process = Tied::spawn(command.current_dir(&self.directory).stdout(out).stderr(err))?;
        let process = self.server.insert(process);
        let limit = Duration::from_secs(60);
        Starting { name: "Redis", process, log: &log, limit }.until(|| ping(port))
    }

    /// Stops it as a service is stopped, and waits for its end.
    pub fn stop(&mut self) -> io::Result<()> {
        self.server.take().map_or(Ok(()), |server| server.terminate().map(drop))
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server = None;
    }
}

fn on_a_disk(megabytes: u32, directory: &Path) -> Command {
    let mut command = tied::command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", ON_A_DISK, "sh"]);
    command.arg(format!("{megabytes}m")).arg(directory);
    command
}

/// Sends a `PING`; whatever is not a `PONG` is an error.
fn ping(port: u16) -> io::Result<()> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if answer == *b"+PONG\r\n" { Ok(()) } else { Err(io::Error::other("it does not answer PING with PONG")) }
}
