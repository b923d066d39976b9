//! Processes that are measured: what they took of the processor and of memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::tied::Tied;

/// Linux counts processor time in these on every platform that we know.
const TICKS_A_SECOND: f64 = 100.0;

/// A process that ends with this value, and with us.
pub(crate) struct Process(Tied);

impl Process {
    /// Starts what [`command`](xtask::tied::command) began.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(Tied::spawn(command).context("cannot start /bin/sh")?))
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu(&stat(self.0.id())?)
    }

    /// The most it took of memory since [`Process::forget_peak`], in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    /// Has the kernel take what the process takes now for its peak.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").context("cannot reset a peak of memory")
    }
}

/// What this process itself took of the processor, in seconds.
pub(crate) fn own_cpu() -> Result<f64> {
    cpu(&stat(std::process::id())?)
}

/// What all processes of a group took so far, in seconds. Those that have ended are not counted.
pub(crate) fn group_cpu(leader: u32) -> Result<f64> {
    let mut sum = 0.0;
    for process in std::fs::read_dir("/proc")? {
        let name = process?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since it was listed.
        let Ok(fields) = stat(id) else { continue };
        if fields.get(2).is_some_and(|group| group.parse() == Ok(leader)) {
            sum += cpu(&fields)?;
        }
    }
    Ok(sum)
}

/// What the kernel tells of a process, from its state on.
fn stat(id: u32) -> Result<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in parentheses, may hold anything.
    let after_name = stat.rsplit(')').next().context("no name")?;
    Ok(after_name.split_whitespace().map(str::to_owned).collect())
}

fn cpu(fields: &[String]) -> Result<f64> {
    ensure!(fields.len() > 12, "a short stat line");
    let (user, system): (f64, f64) = (fields[11].parse()?, fields[12].parse()?);
    Ok((user + system) / TICKS_A_SECOND)
}

/// A program beside this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me.parent().unwrap_or(Path::new(".")).join(name);
    ensure!(path.exists(), "{} is not built: start this by `cargo xtask bench`", path.display());
    Ok(path)
}
