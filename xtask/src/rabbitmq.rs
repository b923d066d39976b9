//! A RabbitMQ of our own: how it is started with an Erlang port mapper (epmd) of its own, and how to see that it is
//! ready. It shares nothing with a RabbitMQ of the system: no port, no name server, no file, no account.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::install::{self, Needed};
use crate::services::{Starting, free_ports, log_file};
use crate::tied::{self, Tied};

/// The program. Debian's `/usr/sbin/rabbitmq-server` would switch to another user, so its own file comes first.
pub const NEEDED: Needed = Needed {
    program: "rabbitmq-server",
    package: "rabbitmq-server",
    first: &["/usr/lib/rabbitmq/bin/rabbitmq-server"],
    otherwise: "RabbitMQ 3.10 or newer (`apt-get install rabbitmq-server`, `brew install rabbitmq`, \
                https://www.rabbitmq.com/docs/download)",
};

/// A RabbitMQ with a directory, ports and a port mapper of its own. It may be started again as often as one likes, and
/// finds what it had. It ends with this value.
pub struct RabbitMq {
    program: PathBuf,
    directory: PathBuf,
    ports: Ports,
    // Dropped in this order: the server goes before its port mapper.
    server: Option<Tied>,
    _epmd: Tied,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
}

impl RabbitMq {
    /// A RabbitMQ that runs `program` in `directory`, not started yet.
    pub fn prepare(program: &Path, directory: &Path) -> Result<Self> {
        let [amqp, distribution, epmd_port] = free_ports()?;
        // Left to itself the broker would start a daemon that outlives it. With ours running it uses that one.
        let log = directory.join("epmd.log");
        let (out, err) = log_file(&log)?;
        let mut command = tied::command(epmd()?);
        command.arg("-port").arg(epmd_port.to_string()).args(["-address", "127.0.0.1"]);
        let mut epmd = Tied::spawn(command.current_dir(directory).stdout(out).stderr(err))?;
        let limit = Duration::from_secs(30);
        Starting { name: "epmd", process: &mut epmd, log: &log, limit }.until(|| connect(epmd_port).map(drop))?;
        let ports = Ports { amqp, distribution, epmd: epmd_port };
        Ok(Self { program: program.to_owned(), directory: directory.to_owned(), ports, server: None, _epmd: epmd })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// Its port, for AMQP.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Where it keeps all it has. Removed while it does not run, that is lost.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What `rabbitmqctl` has said so far.
    pub fn control_log(&self) -> PathBuf {
        self.directory.join("control.log")
    }

    /// Starts it, and returns when it answers.
    pub fn start(&mut self) -> Result<()> {
        let port = self.ports.amqp;
        eprintln!("xtask: starting {} on port {port}", self.program.display());
        let log = self.directory.join("output.log");
        let (out, err) = log_file(&log)?;
        let mut command = tied::command(&self.program);
        settle(&mut command, &self.directory, self.ports)?;
        let process = Tied::spawn(command.current_dir(&self.directory).stdout(out).stderr(err))?;
        let process = self.server.insert(process);
        // Eight seconds on an idle machine; on two busy cores it has taken nearly three minutes.
        let limit = Duration::from_secs(300);
        Starting { name: "RabbitMQ", process, log: &log, limit }.until(|| greet(port))
    }

    /// Stops it as a service is stopped, and waits for its end.
    pub fn stop(&mut self) -> io::Result<()> {
        self.server.take().map_or(Ok(()), |server| server.terminate().map(drop))
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// The process group of its server, while that runs.
    pub fn group(&self) -> Option<u32> {
        self.server.as_ref().map(Tied::id)
    }

    /// Runs `rabbitmqctl` on it, and returns what that says.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let program = self.program.with_file_name("rabbitmqctl");
        let mut command = tied::command(&program);
        settle(&mut command, &self.directory, self.ports)?;
        // Into a file: a pipe would be held open by whoever watches over the process.
        let path = self.directory.join("asked");
        let out = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let status = Tied::spawn(command.args(arguments).stdout(out).stderr(Stdio::null()))?.wait()?;
        ensure!(status.success(), "`rabbitmqctl {}` ended with {status}", arguments.join(" "));
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Runs `rabbitmqctl` on it.
    pub fn control(&self, arguments: &[&str]) -> Result<()> {
        let program = self.program.with_file_name("rabbitmqctl");
        let mut command = tied::command(&program);
        settle(&mut command, &self.directory, self.ports)?;
        let log = self.control_log();
        let (out, err) = log_file(&log)?;
        let status = Tied::spawn(command.args(arguments).stdout(out).stderr(err))?.wait()?;
        ensure!(status.success(), "`rabbitmqctl {}` ended with {status}; see {}", arguments.join(" "), log.display());
        Ok(())
    }
}

/// All that makes this instance separate from others is said through its environment.
fn settle(command: &mut Command, directory: &Path, ports: Ports) -> Result<()> {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") || name.to_string_lossy().starts_with("ERL_") {
            command.env_remove(name);
        }
    }
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<PathBuf, anyhow::Error>(path)
    };
    command
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("phasework-{}@localhost", ports.amqp))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", directory.join("data"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", directory.join("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins", "[].\n")?)
        .env("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf", "")?)
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf", "")?)
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", directory.join("advanced.config"))
        // On a small machine, threads that wait by spinning take their time from the tests.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        );
    Ok(())
}

/// The port mapper, which comes with Erlang: on `PATH`, or beside the `erl` that is there.
fn epmd() -> Result<PathBuf> {
    let beside_erl = || {
        let erl = install::find_on_path("erl")?.canonicalize().ok()?;
        Some(erl.with_file_name("epmd")).filter(|epmd| epmd.is_file())
    };
    install::find_on_path("epmd")
        .or_else(beside_erl)
        .context("cannot find epmd, which comes with Erlang: put Erlang's bin directory on the PATH")
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(2))
}

/// Opens an AMQP 0-9-1 connection as far as the server's greeting, which it sends once it serves clients.
fn greet(port: u16) -> io::Result<()> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    // A method frame (1) on channel 0 of any length, holding class 10, method 10: `connection.start`.
    let mut frame = [0; 11];
    stream.read_exact(&mut frame)?;
    let is_greeting = frame[0] == 1 && frame[7..] == [0, 10, 0, 10];
    if is_greeting { Ok(()) } else { Err(io::Error::other("it does not answer as AMQP 0-9-1")) }
}
