//! What the facts about the store mean, and what to do about it. Pure: from facts to lines.

use phasework_store::redis::Server;
use phasework_store::sqlite::Looked;
use phasework_workflows::time::Millis;

use super::facts::StoreFacts;
use super::judge::at_least;
use super::line::{Line, Status};
use crate::length::words;

/// The oldest version that is tested with.
const OLDEST: (u64, u64) = (7, 0);

/// The layout that this program reads.
const FORMAT: u32 = 1;

/// From how many bytes on the log of a store on SQLite is longer than it should be.
const LONG_LOG: u64 = 256 << 20;

/// From which share of its memory a store is nearly full.
const NEARLY_FULL_PERCENT: u64 = 90;

/// How far clocks may be apart.
const SKEW: Millis = Millis(1000);

/// How far clocks may be apart before waits make no sense.
const LARGE_SKEW: Millis = Millis(60_000);

/// What is to be said of the store.
pub(super) fn judge(facts: &StoreFacts) -> Vec<Line> {
    let mut lines = vec![Line::ok("store", "address", facts.address.clone())];
    match &facts.file {
        Some(file) => lines.extend(of_file(file)),
        None => lines.extend(of_server(&facts.server, facts.ahead_ms)),
    }
    if let Err(why) = &facts.memory {
        let line = Line::error("store", "contents", format!("cannot be read: {why}"));
        let hint = match facts.file {
            Some(_) => "restore it from a backup, or get out what can be had with `sqlite3 phasework.db .recover`",
            None => "is the prefix right? --prefix or PHASEWORK_PREFIX",
        };
        lines.push(line.hint(hint));
    }
    lines
}

fn of_server(server: &Server, ahead_ms: i64) -> Vec<Line> {
    let mut lines = vec![redis(server), policy(server)];
    lines.extend(persistence(server));
    lines.push(room(server));
    lines.push(role(server));
    lines.push(format_of(server));
    lines.push(clock(ahead_ms));
    lines
}

fn of_file(file: &Looked) -> Vec<Line> {
    let mut lines = vec![Line::ok(
        "store",
        "file",
        format!("{}, of which {} are free for what comes", size(file.bytes), size(file.free_bytes)),
    )];
    lines.push(match file.log_bytes {
        LONG_LOG.. => Line::warning("store", "log", size(file.log_bytes))
            .hint("it is emptied when nobody reads for long: does a backup hang?"),
        bytes => Line::ok("store", "log", size(bytes)),
    });
    lines.push(Line::ok("store", "format", file.format.to_string()));
    lines.push(match file.damage.as_slice() {
        [] => Line::ok("store", "integrity", "nothing is damaged".to_owned()),
        damage => Line::error("store", "integrity", damage.join("; "))
            .hint("restore it from a backup, or get out what can be had with `sqlite3 phasework.db .recover`"),
    });
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
    match at_least(version, OLDEST) {
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
