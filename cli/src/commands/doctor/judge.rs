//! What the facts about an installation mean, and what to do about it. Pure: from facts to lines. The broker, the store,
//! what they may have lost, and the work (runs and workers) are judged in files of their own.

use super::facts::{EngineFacts, Facts, Part, StoreFacts};
use super::line::Line;
use super::{broker, store, timeline, work};
use crate::failure::Exit;

/// What the facts mean, area by area.
pub(super) fn judge(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![Line::ok("program", "version", format!("phasework {}", env!("CARGO_PKG_VERSION")))];
    lines.extend(of_part("broker", &facts.broker, broker::judge));
    lines.extend(of_part("store", &facts.store, store::judge));
    lines.extend(timeline::judge(facts));
    lines.extend(engine(&facts.engine));
    if let Part::There(StoreFacts { memory: Ok(memory), server, .. }) = &facts.store {
        lines.extend(work::judge(memory, server.time));
    }
    lines
}

fn of_part<T>(area: &'static str, part: &Part<T>, judge: impl Fn(&T) -> Vec<Line>) -> Vec<Line> {
    let flag = format!("--{area} or PHASEWORK_{}", area.to_uppercase());
    match part {
        Part::InMemory => {
            vec![Line::ok(area, "address", "in the memory of another process, where nobody can look at it".to_owned())]
        }
        Part::Away { address, why } => {
            let line = Line::error(area, "address", format!("{address} cannot be reached: {why}"));
            vec![line.hint(format!("is it running? {flag} says where it is")).exit(Exit::Unreachable)]
        }
        Part::Refused { address, why } => {
            let line = Line::error(area, "address", format!("{address} does not let us in: {why}"));
            vec![line.hint(format!("{flag} holds user and password")).exit(Exit::Usage)]
        }
        Part::There(facts) => judge(facts),
    }
}

fn engine(facts: &EngineFacts) -> Vec<Line> {
    let EngineFacts { address, is_named, answer } = facts;
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) if *is_named => {
            let line = Line::error("engine", "address", why.clone());
            return vec![line.hint("--url or PHASEWORK_API says where it is").exit(Exit::Unreachable)];
        }
        Err(_) => {
            return vec![Line::ok("engine", "address", format!("none answers at {address}; --url names another"))];
        }
    };
    let mut lines = vec![Line::ok("engine", "address", address.clone())];
    match answer.version.as_deref() {
        Some(version) if version != env!("CARGO_PKG_VERSION") => {
            let line = Line::warning("engine", "version", format!("{version}, not ours"));
            lines.push(line.hint("let all programs be of one version before long"));
        }
        Some(version) => lines.push(Line::ok("engine", "version", version.to_owned())),
        None => {}
    }
    if answer.reasons.is_empty() {
        lines.push(Line::ok("engine", "ready", "yes".to_owned()));
    }
    for reason in &answer.reasons {
        lines.push(Line::error("engine", "ready", format!("no: {reason}")).hint("its log tells more"));
    }
    lines
}

/// Whether a version is at least another; nothing when it is no version.
pub(super) fn at_least(version: &str, oldest: (u64, u64)) -> Option<bool> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let version = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    Some(version >= oldest)
}
