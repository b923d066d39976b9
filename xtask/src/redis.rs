//! A Redis of our own: how it is started, and how to see that it is ready.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::install::Needed;
use crate::services::{Starting, free_ports, log_file};
use crate::tied::{self, Tied};

/// The program.
pub(crate) const NEEDED: Needed = Needed {
    program: "redis-server",
    package: "redis-server",
    first: &[],
    otherwise: "Redis 7.0 or newer (`apt-get install redis-server`, `brew install redis`, `dnf install redis`)",
};

/// Starts Redis in `directory`, and returns its address when it answers.
pub(crate) fn start(program: &Path, directory: &Path, started: &mut Vec<Tied>) -> Result<String> {
    let [port] = free_ports()?;
    let log = directory.join("output.log");
    let (out, err) = log_file(&log)?;
    eprintln!("xtask: starting {} on port {port}", program.display());
    let mut command = tied::command(program);
    // As production is told to run it: an append-only file, nothing evicted.
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(directory);
    command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction"]);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut process = Tied::spawn(command.current_dir(directory).stdout(out).stderr(err))?;
    let limit = Duration::from_secs(60);
    Starting { name: "Redis", process: &mut process, log: &log, limit }.until(|| ping(port))?;
    started.push(process);
    Ok(format!("redis://127.0.0.1:{port}"))
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
