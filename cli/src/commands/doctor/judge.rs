//! What the facts about an installation mean, and what to do about it. Pure: from facts to lines. What belongs to runs
//! and workers is judged in `work`.

use phasework_broker::rabbitmq::Found;
use phasework_store::redis::Server;
use phasework_workflows::time::Millis;

use super::facts::{BrokerFacts, EngineFacts, Facts, Part, Queue, StoreFacts};
use super::line::{Line, Status};
use super::work;
use crate::failure::Exit;
use crate::length::words;

/// The oldest RabbitMQ that is tested with.
const OLDEST_RABBIT: (u64, u64) = (3, 10);

/// The oldest Redis.
const OLDEST_REDIS: (u64, u64) = (7, 0);

/// The layout of the store that this program reads.
const FORMAT: u32 = 1;

/// How many messages may wait in a queue that somebody is to empty at once.
const BACKLOG: u64 = 1000;

/// From which share of its memory a store is nearly full.
const NEARLY_FULL_PERCENT: u64 = 90;

/// How far clocks may be apart.
const SKEW: Millis = Millis(1000);

/// How far clocks may be apart before waits make no sense.
const LARGE_SKEW: Millis = Millis(60_000);

/// What the facts mean, area by area.
pub(super) fn judge(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![Line::ok("program", "version", format!("phasework {}", env!("CARGO_PKG_VERSION")))];
    lines.extend(of_part("broker", &facts.broker, broker));
    lines.extend(of_part("store", &facts.store, store));
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

fn broker(facts: &BrokerFacts) -> Vec<Line> {
    let mut lines = vec![Line::ok("broker", "address", facts.address.clone()), rabbit(facts)];
    lines.push(match &facts.takes_messages {
        Ok(()) => Line::ok("broker", "messages", "are taken".to_owned()),
        Err(why) => Line::error("broker", "messages", format!("are not taken: {why}")).hint(
            "give the server memory or disk space, or raise its limits (`rabbitmqctl status` shows them); \
             all goes on by itself",
        ),
    });
    lines.push(coordinator_queues(&facts.coordinators));
    if let Some(line) = coordinators(&facts.coordinators) {
        lines.push(line);
    }
    // Where there is no coordinator yet, nobody has made these either, and that was said.
    let is_new = facts.coordinators.iter().all(is_missing);
    for (what, queue) in [("submission queue", &facts.submit), ("dead-letter queue", &facts.dead)] {
        if !(is_new && is_missing(queue)) {
            lines.push(single(what, queue));
        }
    }
    lines.extend(job_queues(&facts.jobs));
    lines
}

fn rabbit(facts: &BrokerFacts) -> Line {
    let (product, version) = match &facts.server {
        Ok(server) => (server.product.as_str(), server.version.as_str()),
        Err(why) => return Line::warning("broker", "version", format!("is not told: {why}")),
    };
    let found = format!("{product} {version}");
    if product != "RabbitMQ" {
        let line = Line::warning("broker", "version", found);
        return line.hint("RabbitMQ 3.10 or later is expected; nothing else was tried");
    }
    match at_least(version, OLDEST_RABBIT) {
        Some(true) => Line::ok("broker", "version", found),
        Some(false) => Line::error("broker", "version", format!("{found} is too old")).hint("3.10 or later is needed"),
        None => Line::warning("broker", "version", found).hint("3.10 or later is expected"),
    }
}

/// Whether a version is at least another; nothing when it is no version.
fn at_least(version: &str, oldest: (u64, u64)) -> Option<bool> {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
    let version = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    Some(version >= oldest)
}

/// Whether all are there as they have to be.
fn coordinator_queues(queues: &[Queue]) -> Line {
    if let Some(line) = queues.iter().find_map(|queue| wrong("coordinator queues", queue)) {
        return line;
    }
    let missing = queues.iter().filter(|queue| is_missing(queue)).count();
    let waiting: u64 = queues.iter().map(messages).sum();
    let (what, count) = ("coordinator queues", queues.len());
    match missing {
        0 if waiting > BACKLOG => Line::warning("broker", what, format!("{count}; {waiting} messages wait in them"))
            .hint("are the coordinators well? GET /health/ready and their logs tell; more of them share the work"),
        0 => Line::ok("broker", what, format!("{count}; {waiting} messages wait in them")),
        all if all == count => Line::warning("broker", what, "not there yet".to_owned())
            .hint("the first coordinator makes them: `phasework serve`"),
        some => Line::warning("broker", what, format!("{some} of {count} are not there")).hint(
            "is --coordinator-queues the same for all? The next coordinator that starts makes those that are missing",
        ),
    }
}

/// Whether every queue that is there has a coordinator.
fn coordinators(queues: &[Queue]) -> Option<Line> {
    let served = |queue: &&Queue| match queue.found {
        Ok(Found::Sound { consumers, .. }) => Some(consumers > 0),
        _ => None,
    };
    let (there, unserved) = (queues.iter().filter_map(|queue| served(&queue)), |is_served: &bool| !is_served);
    let all = there.clone().count();
    let without = there.filter(unserved).count();
    match without {
        _ if all == 0 => None,
        0 => Some(Line::ok("broker", "coordinators", "serve every queue".to_owned())),
        without => Some(
            Line::error("broker", "coordinators", format!("nobody serves {without} of {all} coordinator queues"))
                .hint("`phasework serve` starts a coordinator; one that runs takes over within half a minute"),
        ),
    }
}

fn single(what: &'static str, queue: &Queue) -> Line {
    if let Some(line) = wrong(what, queue) {
        return line;
    }
    match (&queue.found, messages(queue)) {
        (Ok(Found::Missing), _) => {
            Line::warning("broker", what, format!("{} is not there", queue.name)).hint("the first coordinator makes it")
        }
        (_, waiting) if waiting > BACKLOG => {
            let line = Line::warning("broker", what, format!("{waiting} wait in {}", queue.name));
            line.hint("coordinators empty it; are they well?")
        }
        (_, waiting) => Line::ok("broker", what, format!("{waiting} wait in {}", queue.name)),
    }
}

/// One line for those that are empty, one for each of the others.
fn job_queues(queues: &[Queue]) -> Vec<Line> {
    let mut lines: Vec<_> = queues.iter().filter_map(|queue| wrong("job queues", queue)).collect();
    let mut idle = 0;
    for queue in queues {
        match &queue.found {
            Ok(Found::Missing) => {
                let line = Line::warning("broker", "job queues", format!("{} is not there", queue.name));
                lines.push(line.hint("its workers make it when they begin to take jobs; look at their logs"));
            }
            Ok(Found::Sound { messages, consumers: 0 }) => {
                let found = format!("{}: {messages} messages wait, and nobody takes them", queue.name);
                lines.push(Line::warning("broker", "job queues", found).hint("are its workers draining, or stuck?"));
            }
            Ok(Found::Sound { messages: 0, .. }) => idle += 1,
            Ok(Found::Sound { messages, consumers }) => {
                let found = format!("{}: {messages} messages wait for {consumers} workers", queue.name);
                lines.push(Line::ok("broker", "job queues", found));
            }
            _ => {}
        }
    }
    if idle > 0 {
        lines.push(Line::ok("broker", "job queues", format!("{idle} with nothing waiting")));
    }
    lines
}

/// What is wrong with a queue, but that it may not be there.
fn wrong(what: &'static str, queue: &Queue) -> Option<Line> {
    match &queue.found {
        Ok(Found::Otherwise(why)) => {
            let line = Line::error("broker", what, format!("{} was made otherwise: {why}", queue.name));
            Some(line.hint(format!(
                "stop who uses it, delete it (`rabbitmqctl delete_queue {}`) and start them again: it is made anew. \
                 What is in it is lost",
                queue.name
            )))
        }
        Err(why) => {
            let line = Line::error("broker", what, format!("{} cannot be looked at: {why}", queue.name));
            Some(line.hint("has the account the right to configure, write and read it?"))
        }
        Ok(Found::Missing | Found::Sound { .. }) => None,
    }
}

fn is_missing(queue: &Queue) -> bool {
    queue.found == Ok(Found::Missing)
}

fn messages(queue: &Queue) -> u64 {
    match queue.found {
        Ok(Found::Sound { messages, .. }) => messages,
        _ => 0,
    }
}

fn store(facts: &StoreFacts) -> Vec<Line> {
    let server = &facts.server;
    let mut lines = vec![Line::ok("store", "address", facts.address.clone()), redis(server), policy(server)];
    lines.extend(persistence(server));
    lines.push(room(server));
    lines.push(role(server));
    lines.push(format_of(server));
    lines.push(clock(facts.ahead_ms));
    if let Err(why) = &facts.memory {
        let line = Line::error("store", "contents", format!("cannot be read: {why}"));
        lines.push(line.hint("is the prefix right? --prefix or PHASEWORK_PREFIX"));
    }
    lines
}

fn info<'a>(server: &'a Server, name: &str) -> Option<&'a str> {
    server.info.get(name).map(String::as_str)
}

fn redis(server: &Server) -> Line {
    // Valkey tells the version of Redis that it is compatible with, and its own.
    let (product, version) = match (info(server, "valkey_version"), info(server, "redis_version")) {
        (Some(version), _) => ("Valkey", version),
        (None, Some(version)) => ("Redis", version),
        (None, None) => return Line::warning("store", "version", "is not told".to_owned()),
    };
    if info(server, "cluster_enabled") == Some("1") {
        let line = Line::error("store", "version", format!("{product} {version}, in cluster mode"));
        return line.hint("that is not supported; use a server that is not");
    }
    match at_least(version, OLDEST_REDIS) {
        Some(true) => Line::ok("store", "version", format!("{product} {version}")),
        _ => Line::warning("store", "version", format!("{product} {version}")).hint("7.0 or later is expected"),
    }
}

fn policy(server: &Server) -> Line {
    let policy = server.settings.get("maxmemory-policy").map(String::as_str).or(info(server, "maxmemory_policy"));
    match policy {
        Some(policy) if policy.starts_with("allkeys-") => {
            Line::error("store", "eviction", format!("{policy}: runs may be thrown away when memory is short"))
                .hint("`CONFIG SET maxmemory-policy noeviction`, and the same in redis.conf; `serve` refuses to start")
        }
        Some(policy) => Line::ok("store", "eviction", policy.to_owned()),
        None => Line::warning("store", "eviction", "is not told".to_owned())
            .hint("make sure that maxmemory-policy is noeviction, or runs are lost when memory is short"),
    }
}

/// Whether what is written stays.
fn persistence(server: &Server) -> Vec<Line> {
    let mut lines = Vec::new();
    let fsync = server.settings.get("appendfsync").map_or("", String::as_str);
    lines.push(match (info(server, "aof_enabled"), fsync) {
        (Some("1"), "no") => Line::warning("store", "append-only file", "is written when the system likes".to_owned())
            .hint("`appendfsync everysec` may lose a second when the machine stops, `always` nothing"),
        (Some("1"), "") => Line::ok("store", "append-only file", "is kept".to_owned()),
        (Some("1"), fsync) => Line::ok("store", "append-only file", format!("is kept, appendfsync {fsync}")),
        (Some(_), _) => Line::warning("store", "append-only file", "is not kept".to_owned()).hint(
            "what happened since the last snapshot is lost when the server stops: `CONFIG SET appendonly yes`, and \
             the same in redis.conf",
        ),
        (None, _) => Line::warning("store", "append-only file", "is not told".to_owned()),
    });
    for (name, what) in [
        ("rdb_last_bgsave_status", "the last snapshot"),
        ("aof_last_write_status", "the last write of the append-only file"),
        ("aof_last_bgrewrite_status", "the last rewriting of the append-only file"),
    ] {
        if let Some(status) = info(server, name).filter(|status| *status != "ok") {
            let line = Line::error("store", "disk", format!("{what} failed ({name} is {status})"));
            lines.push(line.hint("is its disk full, or not writable? Its log tells; Redis may refuse to write"));
        }
    }
    lines
}

fn room(server: &Server) -> Line {
    let number = |name: &str| info(server, name).and_then(|text| text.parse::<u64>().ok());
    let Some(used) = number("used_memory") else {
        return Line::warning("store", "memory", "is not told".to_owned());
    };
    let (limit, whose) = match number("maxmemory") {
        Some(limit) if limit > 0 => (limit, "maxmemory"),
        _ => (number("total_system_memory").unwrap_or(0), "the machine's"),
    };
    if limit == 0 {
        return Line::ok("store", "memory", format!("{} used", size(used)));
    }
    let found = format!("{} used of {} ({whose})", size(used), size(limit));
    if used / (limit / 100).max(1) >= NEARLY_FULL_PERCENT {
        let line = Line::warning("store", "memory", found);
        return line.hint("give it more, shorten --retention, or pass references instead of large data");
    }
    Line::ok("store", "memory", found)
}

/// In the unit that suits.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x0010_0000 => format!("{} KiB", bytes >> 10),
        0x0010_0000..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn role(server: &Server) -> Line {
    let replicas = info(server, "connected_slaves").unwrap_or("0");
    match info(server, "role") {
        Some("slave") => Line::error("store", "role", "a replica: nothing can be written".to_owned())
            .hint("--store has to name the primary"),
        Some("master") => Line::ok(
            "store",
            "role",
            format!("primary, with {replicas} replica{}", if replicas == "1" { "" } else { "s" }),
        ),
        role => Line::warning("store", "role", role.unwrap_or("is not told").to_owned()),
    }
}

fn format_of(server: &Server) -> Line {
    match server.format.as_deref().map(str::parse::<u32>) {
        None => Line::ok("store", "format", "none: the store is empty".to_owned()),
        Some(Ok(format)) if (1..=FORMAT).contains(&format) => Line::ok("store", "format", format.to_string()),
        Some(Ok(format)) => Line::error("store", "format", format!("{format}, this program reads up to {FORMAT}"))
            .hint("update the program, or choose another --prefix"),
        Some(Err(_)) => {
            Line::error("store", "format", "what is stored is not ours".to_owned()).hint("choose another --prefix")
        }
    }
}

fn clock(ahead_ms: i64) -> Line {
    let apart = Millis(ahead_ms.unsigned_abs());
    let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let found = format!("the server's is {} {which} ours", words(apart));
    let status = match apart {
        apart if apart >= LARGE_SKEW => Status::Error,
        apart if apart >= SKEW => Status::Warning,
        _ => return Line::ok("store", "clock", "in step with ours".to_owned()),
    };
    Line::new(status, "store", "clock", found)
        .hint("let NTP keep the clocks of all machines in step: waits and retention go by them")
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
