//! A RabbitMQ and a Redis for one use: found or installed, started on free ports of 127.0.0.1 in a directory of their
//! own, ended and removed with the [`Services`] value. What runs already on this machine is never touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::install;
use crate::rabbitmq::{self, RabbitMq};
use crate::redis::{self, Redis};
use crate::tied::{Directory, Tied};

/// Where tests look for a broker.
pub const BROKER_URL: &str = "PHASEWORK_TEST_BROKER_URL";
/// Where tests look for a store.
pub const STORE_URL: &str = "PHASEWORK_TEST_STORE_URL";

/// What will be used, known before anything is started.
pub struct Plan {
    broker: Source,
    store: Source,
}

enum Source {
    /// Somebody else's, by its address.
    Given(String),
    /// Ours, to be started from this file.
    Program(PathBuf),
}

impl Plan {
    /// Takes the addresses from the environment; finds, or else installs, the programs for those that are not set.
    pub fn make() -> Result<Self> {
        let (broker, store) = (given(BROKER_URL), given(STORE_URL));
        let mut needed = Vec::new();
        needed.extend(broker.is_none().then_some(rabbitmq::NEEDED));
        needed.extend(store.is_none().then_some(redis::NEEDED));
        let mut programs = install::find_or_install(&needed)?.into_iter();
        let mut source = |given: Option<String>| {
            given.map(Source::Given).or_else(|| programs.next().map(Source::Program)).context("a program per service")
        };
        Ok(Self { broker: source(broker)?, store: source(store)? })
    }

    /// Whether the environment gives no address of somebody else's.
    pub fn all_is_ours() -> bool {
        given(BROKER_URL).is_none() && given(STORE_URL).is_none()
    }

    /// Starts what has to be started, and returns when it answers.
    pub fn start(self, keep: bool) -> Result<Services> {
        let directory = Directory::create(keep)?;
        let (store_url, redis) = match self.store {
            Source::Given(url) => (url, None),
            Source::Program(program) => {
                let mut redis = Redis::prepare(&program, &space(directory.path(), "redis")?, "everysec")?;
                redis.start()?;
                (redis.url(), Some(redis))
            }
        };
        let (broker_url, rabbitmq) = match self.broker {
            Source::Given(url) => (url, None),
            Source::Program(program) => {
                let mut rabbitmq = RabbitMq::prepare(&program, &space(directory.path(), "rabbitmq")?)?;
                rabbitmq.start()?;
                (rabbitmq.url(), Some(rabbitmq))
            }
        };
        if keep && (redis.is_some() || rabbitmq.is_some()) {
            eprintln!("xtask: logs and data stay in {}", directory.path().display());
        }
        Ok(Services { broker_url, store_url, rabbitmq, _redis: redis, _directory: directory })
    }
}

fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|url| !url.is_empty())
}

/// Running services. They end, and what they wrote goes, with this value.
pub struct Services {
    /// The broker's address, `amqp://…`.
    pub broker_url: String,
    /// The store's address, `redis://…`.
    pub store_url: String,
    // Dropped in this order: the directory goes when nobody writes to it any more.
    rabbitmq: Option<RabbitMq>,
    _redis: Option<Redis>,
    _directory: Directory,
}

impl Services {
    /// Plans and starts in one go.
    pub fn start(keep: bool) -> Result<Self> {
        Plan::make()?.start(keep)
    }

    /// The RabbitMQ, if it is ours.
    pub fn rabbitmq(&self) -> Option<&RabbitMq> {
        self.rabbitmq.as_ref()
    }

    /// Tells `command` where the services are.
    pub fn announce_to(&self, command: &mut Command) {
        command.env(BROKER_URL, &self.broker_url).env(STORE_URL, &self.store_url);
    }
}

/// A new directory in `directory`, for one service.
pub fn space(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// `N` ports of 127.0.0.1 that nobody listens on. They lie below the range from which systems draw ports for outgoing
/// connections, so that one is not taken before its service has started. None is found twice by one process.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Whoever was given one may not listen on it yet, or not just now.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Where to begin depends on the process, so that two of them at once seldom meet.
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let mut ports = Vec::new();
    for port in (first..32_000).chain(20_000..first) {
        if ports.len() == N {
            break;
        }
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            ports.push(port);
        }
    }
    <[u16; N]>::try_from(ports).ok().context("no free ports on 127.0.0.1 between 20000 and 32000")
}

/// A file for all that a service writes, behind what it wrote before.
pub fn log_file(path: &Path) -> Result<(File, File)> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let clone = file.try_clone().with_context(|| format!("cannot open {} twice", path.display()))?;
    Ok((file, clone))
}

/// A service that is starting.
pub struct Starting<'a> {
    /// What to call it.
    pub name: &'a str,
    /// Its process.
    pub process: &'a mut Tied,
    /// What it writes, shown when it does not start.
    pub log: &'a Path,
    /// How long it may take.
    pub limit: Duration,
}

impl Starting<'_> {
    /// Asks until `answers` succeeds. An error says how the service ended, or what it answered last.
    pub fn until(self, mut answers: impl FnMut() -> io::Result<()>) -> Result<()> {
        let began = Instant::now();
        let mut told = Duration::ZERO;
        loop {
            let error = match answers() {
                Ok(()) => {
                    eprintln!("xtask: {} is ready after {:.1} s", self.name, began.elapsed().as_secs_f64());
                    return Ok(());
                }
                Err(error) => error,
            };
            let waited = began.elapsed();
            if let Some(status) = self.process.ended()? {
                bail!("{} ended before it was ready ({status}).\n{}", self.name, tail(self.log));
            }
            if waited > self.limit {
                bail!("{} is not ready after {} s: {error}.\n{}", self.name, self.limit.as_secs(), tail(self.log));
            }
            if waited > told + Duration::from_secs(10) {
                told = waited;
                eprintln!("xtask: waiting for {}, {} s", self.name, waited.as_secs());
            }
            pause();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a starting service sends no word when it is ready: it has to be asked")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

/// The end of a log, introduced.
fn tail(log: &Path) -> String {
    let content = std::fs::read(log).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = content.lines().collect();
    if lines.is_empty() {
        return String::from("It wrote nothing.");
    }
    format!("The last it wrote:\n  {}", lines[lines.len().saturating_sub(30)..].join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_free() {
        let ports = [free_ports::<2>().unwrap(), free_ports::<2>().unwrap()].concat();
        let held: Vec<TcpListener> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect();
        assert_eq!(held.len(), 4);
    }

    /// What a service that runs `script` and answers `answer` ends up with.
    fn start(script: &str, limit: Duration, answer: impl FnMut() -> io::Result<()>) -> Result<()> {
        let directory = Directory::create(false).unwrap();
        let log = directory.path().join("log");
        let (out, err) = log_file(&log).unwrap();
        let mut command = crate::tied::command("/bin/sh");
        let mut process = Tied::spawn(command.args(["-c", script]).stdout(out).stderr(err)).unwrap();
        Starting { name: "it", process: &mut process, log: &log, limit }.until(answer)
    }

    #[test]
    fn a_service_is_waited_for_until_it_answers_ends_or_takes_too_long() {
        let refuse = || Err(io::Error::other("not yet"));
        let mut asked = 0;
        let third_time = || {
            asked += 1;
            if asked < 3 { Err(io::Error::other("not yet")) } else { Ok(()) }
        };
        start("exec sleep 600", Duration::from_secs(60), third_time).unwrap();

        let error = start("echo no such luck >&2; exit 3", Duration::from_secs(60), refuse).unwrap_err().to_string();
        assert!(error.contains("ended before it was ready (exit status: 3)"), "{error}");
        assert!(error.contains("no such luck"), "{error}");

        let error = start("exec sleep 600", Duration::ZERO, refuse).unwrap_err().to_string();
        assert!(error.contains("not ready after 0 s: not yet"), "{error}");
        assert!(error.contains("It wrote nothing."), "{error}");
    }
}
