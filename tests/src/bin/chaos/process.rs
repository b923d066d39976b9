//! A process of phasework that can be killed and frozen, and is started again as it was.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::Mutex;
use tokio::time::sleep;
use xtask::tied::{self, Tied};

/// Adds to a command what it needs, given the number of the start.
type Dress = Box<dyn Fn(&mut Command, u32) + Send + Sync>;

/// How a process is started, and what it is doing now. Faults take turns with it.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    dress: Dress,
    program: PathBuf,
    now: Mutex<Now>,
}

struct Now {
    /// How often it was started.
    starts: u32,
    running: Option<Tied>,
    complaints: Vec<String>,
}

impl Process {
    /// A process that is not started yet. `dress` adds what its command needs, given the number of the start.
    pub(crate) fn new(
        name: String,
        program: &str,
        log: PathBuf,
        dress: impl Fn(&mut Command, u32) + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let me = std::env::current_exe().context("this program has no path")?;
        let program = me.with_file_name(program);
        if !program.exists() {
            bail!("{} is not built: use `cargo xtask chaos`", program.display());
        }
        let now = Mutex::new(Now { starts: 0, running: None, complaints: Vec::new() });
        Ok(Arc::new(Self { name, log, dress: Box::new(dress), program, now }))
    }

    /// Starts it.
    pub(crate) async fn start(&self) -> Result<()> {
        self.start_again(&mut *self.now.lock().await)
    }

    fn start_again(&self, now: &mut Now) -> Result<()> {
        now.starts += 1;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = tied::command(&self.program);
        (self.dress)(&mut command, now.starts);
        command.stdout(log.try_clone()?).stderr(log);
        let started = Tied::spawn(&mut command).with_context(|| format!("{} does not start", self.name))?;
        now.running = Some(started);
        Ok(())
    }

    /// Ends it as `kill -9` does, and starts it again after `down`.
    pub(crate) async fn kill(&self, down: Duration) -> Result<()> {
        let mut now = self.now.lock().await;
        self.note_end(&mut now)?;
        // Dropping kills.
        now.running = None;
        sleep(down).await;
        self.start_again(&mut now)
    }

    /// Lets it do nothing for so long.
    pub(crate) async fn freeze(&self, length: Duration) -> Result<()> {
        let mut now = self.now.lock().await;
        self.revive(&mut now)?;
        if let Some(running) = &now.running {
            running.signal("STOP")?;
            sleep(length).await;
            running.signal("CONT")?;
        }
        Ok(())
    }

    /// Looks whether it has ended by itself, which none should; then it is started again.
    pub(crate) async fn look(&self) -> Result<()> {
        // Whoever holds it is at it.
        let Ok(mut now) = self.now.try_lock() else { return Ok(()) };
        self.revive(&mut now)
    }

    fn revive(&self, now: &mut Now) -> Result<()> {
        if self.note_end(now)? { self.start_again(now) } else { Ok(()) }
    }

    fn note_end(&self, now: &mut Now) -> Result<bool> {
        let Some(status) = now.running.as_mut().and_then(|running| running.ended().transpose()).transpose()? else {
            return Ok(false);
        };
        now.complaints.push(format!("{} ended by itself ({status})", self.name));
        now.running = None;
        Ok(true)
    }

    /// Ends it as a deploy does.
    pub(crate) async fn stop(&self) -> Result<()> {
        let Some(running) = self.now.lock().await.running.take() else { return Ok(()) };
        let status = tokio::task::spawn_blocking(|| running.terminate()).await??;
        if !status.success() {
            self.now.lock().await.complaints.push(format!("{} did not stop well ({status})", self.name));
        }
        Ok(())
    }

    /// What it did that no process should: ended by itself, panicked.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>> {
        let mut complaints = self.now.lock().await.complaints.clone();
        let log = std::fs::read(&self.log)?;
        let panics = String::from_utf8_lossy(&log).lines().filter(|line| line.contains("panicked at")).count();
        if panics > 0 {
            complaints.push(format!("{} panicked {panics} times", self.name));
        }
        Ok(complaints)
    }
}
