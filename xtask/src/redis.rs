//! A Redis of our own: how it is started, and how to see that it is ready.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::disk::Disk;
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
    disk: Option<Disk>,
    server: Option<Tied>,
}

impl Redis {
    /// A Redis that runs `program` in `directory`, not started yet. `append_fsync` is its setting of that name.
    pub fn prepare(program: &Path, directory: &Path, append_fsync: &'static str) -> Result<Self> {
        let [port] = free_ports()?;
        Ok(Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            port,
            append_fsync,
            disk: None,
            server: None,
        })
    }

    /// Gives it a disk of its own of that size, in memory; what is on it goes when it ends. An error says that this
    /// machine does not let us.
    pub fn with_disk(mut self, megabytes: u32) -> Result<Self> {
        self.disk = Some(Disk::new(megabytes, &self.directory)?);
        Ok(self)
    }

    /// Where its directory can be seen from outside while it runs.
    pub fn disk(&self) -> Option<PathBuf> {
        Some(self.disk.as_ref()?.of(self.server.as_ref()?.id()))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its append-only file is, in several: all it has. Another one may be put there while it does not run.
    pub fn data(&self) -> PathBuf {
        self.directory.join("appendonlydir")
    }

    /// Starts it, and returns when it answers.
    pub fn start(&mut self) -> Result<()> {
        let port = self.port;
        let log = self.directory.join("output.log");
        let (out, err) = log_file(&log)?;
        eprintln!("xtask: starting {} on port {port}", self.program.display());
        let mut command = match &self.disk {
            None => tied::command(&self.program),
            Some(disk) => {
                let mut command = disk.command();
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
