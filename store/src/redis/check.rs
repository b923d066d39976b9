//! Whether a Redis server can be used as it is set up. Asks the server, and what it does not tell (a managed one may
//! hide its settings) becomes a warning.

use std::collections::HashMap;

use redis::Value;

use super::keys::Keys;
use super::link::{Lane, Link, read};
use crate::StoreError;

/// The version of the layout of keys and values. A store of a later one is not touched.
const FORMAT: u32 = 1;

/// The oldest server this is tested with.
const OLDEST_MAJOR: u32 = 7;

/// Warnings about the server.
///
/// # Errors
/// [`StoreError::Unusable`] when it must not be used; [`StoreError::Full`] when nothing can be written for now.
pub(super) async fn check(link: &Link, keys: &Keys) -> Result<Vec<String>, StoreError> {
    let mut commands = redis::pipe();
    commands.cmd("INFO");
    commands.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
    let mut answers = link.send(Lane::Pooled, &commands).await?.into_iter();
    let info = read::<String>(answers.next().unwrap_or(Value::Nil));
    let setting = read::<HashMap<String, String>>(answers.next().unwrap_or(Value::Nil));
    let mut server = match info {
        Ok(text) => facts(&text),
        Err(error @ StoreError::Unavailable(_)) => return Err(error),
        Err(_) => HashMap::new(), // refused
    };
    if let Some(policy) = setting.ok().and_then(|mut setting| setting.remove("maxmemory-policy")) {
        server.insert("maxmemory_policy".to_owned(), policy);
    }
    let warnings = judge(&server)?;
    check_format(link, keys).await?;
    Ok(warnings)
}

/// The lines `name:value` of what `INFO` answers.
pub(super) fn facts(info: &str) -> HashMap<String, String> {
    let facts = info.lines().filter_map(|line| line.split_once(':'));
    facts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// What the facts about a server mean.
fn judge(server: &HashMap<String, String>) -> Result<Vec<String>, StoreError> {
    let fact = |name: &str| server.get(name).map(String::as_str);
    if fact("cluster_enabled") == Some("1") {
        let text = "the Redis server is in cluster mode, which is not supported; use one that is not";
        return Err(StoreError::Unusable(text.to_owned()));
    }
    let mut warnings = Vec::new();
    match fact("maxmemory_policy") {
        // Those that evict only keys that expire (`volatile-…`) leave ours alone: none of them expires.
        Some(policy) if policy.starts_with("allkeys-") => {
            return Err(StoreError::Unusable(format!(
                "the Redis server may throw away runs: its maxmemory-policy is {policy}; \
                 set it to noeviction (`CONFIG SET maxmemory-policy noeviction`, and in redis.conf)"
            )));
        }
        Some(_) => {}
        None => warnings.push(
            "the Redis server does not tell its maxmemory-policy; make sure that it is noeviction, \
             or runs are lost when memory runs out"
                .to_owned(),
        ),
    }
    match fact("aof_enabled") {
        Some("1") => {}
        Some(_) => warnings.push(
            "the Redis server keeps no append-only file: what happened since its last snapshot is lost when it stops; \
             set `appendonly yes`"
                .to_owned(),
        ),
        None => warnings.push("the Redis server does not tell whether it keeps an append-only file".to_owned()),
    }
    let version = fact("redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        warnings.push(format!("the Redis server is of version {version}; {OLDEST_MAJOR}.0 or later is expected"));
    }
    if fact("role") == Some("slave") {
        warnings.push("the Redis server is a replica: nothing can be written until it is promoted".to_owned());
    }
    Ok(warnings)
}

/// Marks an empty store as of our format, and refuses one that is of a later one.
async fn check_format(link: &Link, keys: &Keys) -> Result<(), StoreError> {
    let mut commands = redis::pipe();
    commands.cmd("SET").arg(keys.format()).arg(FORMAT).arg("NX");
    commands.cmd("GET").arg(keys.format());
    let mut answers = link.send(Lane::Pooled, &commands).await?.into_iter();
    let marked = read::<Value>(answers.next().unwrap_or(Value::Nil));
    let stored: Option<String> = read(answers.next().unwrap_or(Value::Nil))?;
    let Some(stored) = stored else { return marked.map(drop) };
    match stored.parse::<u32>() {
        // It was there, so nothing was to be written; whether anything can be is seen all the same.
        Ok(format) if (1..=FORMAT).contains(&format) => match marked {
            Err(full @ StoreError::Full(_)) => Err(full),
            Ok(_) | Err(_) => Ok(()),
        },
        Ok(format) => Err(StoreError::Unusable(format!(
            "the store is of format {format}, this program reads up to {FORMAT}: update the program, \
             or choose another prefix than `{}`",
            keys.prefix()
        ))),
        Err(_) => Err(StoreError::Unusable(format!(
            "the key `{}` holds something that is not ours: choose another prefix than `{}`",
            keys.format(),
            keys.prefix()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_judged_by_what_they_tell() {
        let sound =
            "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";
        for (change, to, expected) in [
            ("", "", "Ok([])"),
            (":noeviction", ":volatile-lru", "Ok([])"),
            (":noeviction", ":allkeys-lru", "set it to noeviction"),
            (":noeviction", ":allkeys-random", "allkeys-random"),
            ("aof_enabled:1", "aof_enabled:0", "Ok([\"the Redis server keeps no append-only file"),
            (":7.0.15", ":6.2.1", "Ok([\"the Redis server is of version 6.2.1"),
            (":7.0.15", ":10.0.0", "Ok([])"),
            ("role:master", "role:slave", "Ok([\"the Redis server is a replica"),
            ("# Server", "cluster_enabled:1", "Unusable(\"the Redis server is in cluster mode"),
            ("maxmemory_policy", "x", "Ok([\"the Redis server does not tell its maxmemory-policy"),
        ] {
            let judged = format!("{:?}", judge(&facts(&sound.replacen(change, to, 1))));
            assert!(judged.contains(expected), "{change} as {to}: {judged}");
        }
        assert_eq!(judge(&HashMap::new()).unwrap().len(), 3, "a server that tells nothing can be used");
    }
}
