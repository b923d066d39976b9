//! Servers that a scenario has to itself: to stop them, to take away what they have, to leave them no room. They end
//! with it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use phasework_tests::Setting;
use xtask::install::{Needed, find_on_path};
use xtask::rabbitmq::{self, RabbitMq};
use xtask::redis::{self, Redis};

/// A server, and the directory it has to itself.
pub(crate) struct Own<S> {
    server: S,
    // Dropped after the server, which writes to it.
    directory: tempfile::TempDir,
}

impl<S> Own<S> {
    /// The directory, in which the server has its own things.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl<S> Deref for Own<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> DerefMut for Own<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.server
    }
}

/// The program of a server, if it is on this machine and may be started: the test command has real parts then.
fn program(needed: &Needed) -> Option<PathBuf> {
    if Setting::real().is_none() {
        eprintln!("not run: no real parts were started; `cargo xtask test` does");
        return None;
    }
    let first = needed.first.iter().map(PathBuf::from).find(|path| path.exists());
    let found = first.or_else(|| find_on_path(needed.program));
    if found.is_none() {
        eprintln!("not run: there is no {} on this machine", needed.program);
    }
    found
}

/// A RabbitMQ that runs.
pub(crate) fn rabbitmq() -> Option<Own<RabbitMq>> {
    let program = program(&rabbitmq::NEEDED)?;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut server = RabbitMq::prepare(&program, directory.path()).expect("free ports");
    server.start().expect("RabbitMQ starts");
    Some(Own { server, directory })
}

/// A Redis that runs.
pub(crate) fn redis() -> Option<Own<Redis>> {
    let program = program(&redis::NEEDED)?;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut server = Redis::prepare(&program, directory.path(), "everysec").expect("a free port");
    server.start().expect("Redis starts");
    Some(Own { server, directory })
}
