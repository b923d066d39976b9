//! A RabbitMQ of our own: how it is started with an Erlang port mapper (epmd) of its own, and how to see that it is
//! ready. It shares nothing with a RabbitMQ of the system: no port, no name server, no file, no account.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::install::{self, Needed};
use crate::services::{Starting, free_ports, log_file};
use crate::tied::{self, Tied};

/// The program. Debian's `/usr/sbin/rabbitmq-server` would switch to another user, so its own file comes first.
pub(crate) const NEEDED: Needed = Needed {
    program: "rabbitmq-server",
    package: "rabbitmq-server",
    first: &["/usr/lib/rabbitmq/bin/rabbitmq-server"],
    otherwise: "RabbitMQ 3.10 or newer (`apt-get install rabbitmq-server`, `brew install rabbitmq`, \
                https://www.rabbitmq.com/docs/download)",
};

/// Starts RabbitMQ in `directory`, and returns its address when it answers.
pub(crate) fn start(program: &Path, directory: &Path, started: &mut Vec<Tied>) -> Result<String> {
    let [port, distribution_port, epmd_port] = free_ports()?;
    eprintln!("xtask: starting {} on port {port}", program.display());

    // Left to itself the broker would start a daemon that outlives it. With ours running it uses that one.
    let (out, err) = log_file(&directory.join("epmd.log"))?;
    let mut epmd = tied::command(epmd()?);
    epmd.arg("-port").arg(epmd_port.to_string()).args(["-address", "127.0.0.1"]);
    let mut epmd = Tied::spawn(epmd.current_dir(directory).stdout(out).stderr(err))?;
    let log = directory.join("epmd.log");
    let limit = Duration::from_secs(30);
    Starting { name: "epmd", process: &mut epmd, log: &log, limit }.until(|| connect(epmd_port).map(drop))?;
    started.push(epmd);

    let log = directory.join("output.log");
    let (out, err) = log_file(&log)?;
    let mut command = tied::command(program);
    settle(&mut command, directory, port, distribution_port, epmd_port)?;
    let mut process = Tied::spawn(command.current_dir(directory).stdout(out).stderr(err))?;
    // Eight seconds on an idle machine; on two busy cores it has taken nearly three minutes.
    let limit = Duration::from_secs(300);
    Starting { name: "RabbitMQ", process: &mut process, log: &log, limit }.until(|| greet(port))?;
    // In front of its port mapper: what is first ends first.
    started.insert(0, process);
    Ok(format!("amqp://guest:guest@127.0.0.1:{port}/%2f"))
}

/// All that makes this instance separate from others is said through its environment.
fn settle(command: &mut Command, directory: &Path, port: u16, distribution_port: u16, epmd_port: u16) -> Result<()> {
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
        .env("RABBITMQ_NODENAME", format!("phasework-{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
        .env("ERL_EPMD_PORT", epmd_port.to_string())
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
