//! What the facts about runs and workers mean, and what to do about it. Pure: from facts to lines.

use std::collections::BTreeSet;

use phasework_workflows::Version;
use phasework_workflows::definition::VersionRequirement;
use phasework_workflows::id::{HandlerName, RunId};
use phasework_workflows::message::presence::{WORKER_TTL, WorkerAnnounced};
use phasework_workflows::time::{Millis, Timestamp};

use super::facts::Remembered;
use super::line::Line;
use crate::length::{ago, words};

/// How many of many are named.
const NAMED: usize = 3;

/// How far coordinators' clocks may be ahead of the store's.
const SKEW: Millis = Millis(1000);

/// What is to be said of runs and workers; `now` is the time on the store's clock.
pub(super) fn judge(memory: &Remembered, now: Timestamp) -> Vec<Line> {
    let mut lines = runs(memory);
    lines.extend(workers(memory, now));
    lines
}

fn runs(memory: &Remembered) -> Vec<Line> {
    let (live, ended) = (memory.runs.live, memory.runs.ended);
    let mut found = format!("{live} live, {ended} ended");
    if memory.looked_at < live {
        found.push_str(&format!("; what follows is of the newest {}", memory.looked_at));
    }
    let mut lines = vec![Line::ok("runs", "count", found)];
    if !memory.halted.is_empty() {
        let line = Line::warning("runs", "halted", named(&memory.halted));
        lines.push(line.hint("`phasework runs show ID` says why; `runs retry`, `rerun` or `cancel` ends that"));
    }
    if !memory.paused.is_empty() {
        lines
            .push(Line::ok("runs", "paused", named(&memory.paused)).hint("`phasework runs resume ID` lets them go on"));
    }
    for (what, count) in &memory.missing {
        let line = Line::warning("runs", "waiting", format!("{count} for a worker that hosts {what}"));
        lines.push(line.hint("start one; they go on by themselves"));
    }
    lines.push(match memory.dead_letters {
        0 => Line::ok("runs", "dead letters", "none".to_owned()),
        count => Line::warning("runs", "dead letters", count.to_string())
            .hint("`phasework dead list` shows them, with their reasons"),
    });
    lines
}

/// `7: ID, ID, ID and 4 more`.
fn named(runs: &[RunId]) -> String {
    let first: Vec<_> = runs.iter().take(NAMED).map(ToString::to_string).collect();
    let more = runs.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}: {}{more}", runs.len(), first.join(", "))
}

fn workers(memory: &Remembered, now: Timestamp) -> Vec<Line> {
    let is_live = |seen: Timestamp| now.since(seen) <= WORKER_TTL;
    let (live, lost): (Vec<_>, Vec<_>) = memory.workers.iter().partition(|(_, seen)| is_live(*seen));
    let draining = live.iter().filter(|(worker, _)| worker.draining).count();
    let mut lines = vec![match (live.len(), draining) {
        (0, _) => Line::warning("workers", "live", "none".to_owned())
            .hint("start some: jobs wait until there are workers that host their handlers"),
        (live, 0) => Line::ok("workers", "live", live.to_string()),
        (live, draining) => Line::ok("workers", "live", format!("{live}, {draining} of them draining")),
    }];
    for (worker, seen) in lost {
        let WorkerAnnounced { host, pid, .. } = worker;
        let line = Line::warning("workers", "lost", format!("process {pid} on {host}, heard of {}", ago(*seen, now)));
        lines.push(line.hint("it died, or cannot reach the broker; its jobs go to others"));
    }
    lines.extend(of_no_use(memory, live.iter().map(|(worker, _)| worker)));
    lines.extend(clocks(memory, now));
    lines
}

/// Versions that are hosted, and that no definition asks for and no run was given.
fn of_no_use<'a>(memory: &Remembered, live: impl Iterator<Item = &'a WorkerAnnounced>) -> Vec<Line> {
    let hosted: BTreeSet<_> = live.flat_map(|worker| &worker.handlers).map(|it| (&it.name, &it.version)).collect();
    let is_of_use = |(name, version): &(&HandlerName, &Version)| {
        let wanted = memory.wanted.get(*name).is_some_and(|wanted| wanted.iter().any(|it| it.matches(version)));
        wanted || memory.pinned.contains(&((*name).clone(), (*version).clone()))
    };
    let useless = hosted.iter().filter(|hosted| !is_of_use(hosted));
    useless
        .map(|(name, version)| match memory.wanted.get(*name) {
            None => Line::warning("workers", "of no use", format!("{name} {version}: no stored workflow has {name}"))
                .hint("is its name spelled alike in definition and worker?"),
            Some(wanted) => {
                let wanted: Vec<_> = wanted.iter().map(VersionRequirement::as_str).collect();
                let found = format!("{name} {version}: workflows ask for {name} {}", wanted.join(" or "));
                Line::warning("workers", "of no use", found).hint("change the requirement, or the version")
            }
        })
        .collect()
}

/// Workers are seen on coordinators' clocks: none can have been seen in the time to come.
fn clocks(memory: &Remembered, now: Timestamp) -> Option<Line> {
    let ahead = memory.workers.iter().map(|(_, seen)| seen.since(now)).max()?;
    (ahead >= SKEW).then(|| {
        let found = format!("a coordinator's is {} ahead of the store's", words(ahead));
        Line::warning("workers", "clock", found)
            .hint("let NTP keep the clocks of all machines in step: waits and retention go by them")
    })
}
