//! What a Redis server says of itself, for a person who wants to know whether all is well. Judges nothing and writes
//! nothing.

use std::collections::BTreeMap;

use phasework_workflows::time::Timestamp;
use redis::Value;

use super::RedisStore;
use super::link::{Lane, read};
use crate::StoreError;

/// The settings that are asked for; a managed server may hide them.
const SETTINGS: [&str; 2] = ["maxmemory-policy", "appendfsync"];

/// What a server says of itself. What it does not tell is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The lines of `INFO`, by their names.
    pub info: BTreeMap<String, String>,
    /// Some of its settings.
    pub settings: BTreeMap<String, String>,
    /// The version of the layout that the store says it has; none when it is empty.
    pub format: Option<String>,
    /// What time it is there.
    pub time: Timestamp,
}

impl RedisStore {
    /// Asks the server about itself.
    ///
    /// # Errors
    /// When it cannot be reached, or does not let us in.
    pub async fn server(&self) -> Result<Server, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("TIME");
        commands.cmd("GET").arg(self.keys.format());
        commands.cmd("INFO");
        for setting in SETTINGS {
            commands.cmd("CONFIG").arg("GET").arg(setting);
        }
        let mut answers = self.link.send(Lane::Pooled, &commands).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (seconds, micros) = read::<(u64, u64)>(next())?;
        let format = read::<Option<String>>(next())?;
        // What follows may be refused.
        let info = read::<String>(next()).unwrap_or_default();
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let info = lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let mut settings = BTreeMap::new();
        for _ in SETTINGS {
            settings.extend(read::<BTreeMap<String, String>>(next()).unwrap_or_default());
        }
        let time = Timestamp::from_millis((seconds * 1000 + micros / 1000) as i64);
        Ok(Server { info, settings, format, time })
    }
}
