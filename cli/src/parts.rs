//! Makes the parts of an engine out of the addresses in the settings. What cannot be reached yet is waited for, and
//! whoever asks is told why; what will never work ends the wait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{BrokerError, SharedBroker};
use phasework_store::memory::MemoryStore;
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_store::{SharedStore, StoreError};
use phasework_workflows::id::SystemIds;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::settings::{BrokerUrl, Settings, StoreUrl};

/// The first wait between two attempts.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why the engine cannot work yet, by the part that is missing. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Reasons {
    /// The reasons now.
    pub(crate) fn get(&self) -> Vec<String> {
        self.lock().iter().map(|(part, why)| format!("{part}: {why}")).collect()
    }

    fn set(&self, part: &'static str, why: String) {
        self.lock().insert(part, why);
    }

    fn clear(&self, part: &'static str) {
        self.lock().remove(part);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one attempt to use a part came to.
enum Attempt<T> {
    /// It can be used.
    There(T),
    /// Trying again may help.
    NotYet(String),
    /// It will not.
    Never(String),
}

/// The store, or what the attempt to open it came to. One on a server connects when it is first needed.
async fn open(settings: &Settings) -> Result<SharedStore, Attempt<SharedStore>> {
    match &settings.store {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreUrl::Sqlite(dir) => {
            let options = SqliteOptions::new(dir);
            // It waits for its disk, and for whoever has it.
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&options, &SystemIds)).await;
            match opened.unwrap_or_else(|ended| Err(StoreError::Unavailable(ended.to_string()))) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                    Err(Attempt::NotYet(error.to_string()))
                }
                Err(error) => Err(Attempt::Never(error.to_string())),
            }
        }
        StoreUrl::Redis(url) => {
            let options = RedisOptions { prefix: settings.prefix.clone(), ..RedisOptions::new(url.as_str()) };
            match RedisStore::connect(&options) {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => Err(Attempt::Never(error.to_string())),
            }
        }
    }
}

/// The store and the broker, once the first can be used and the second can be reached. `None` when told to stop before.
pub(crate) async fn wait(
    settings: &Settings,
    reasons: &Reasons,
    shutdown: &CancellationToken,
) -> Result<Option<(SharedStore, SharedBroker)>, Failure> {
    let opened = OnceCell::new();
    let hint = match settings.store {
        StoreUrl::Sqlite(_) => Some("--state DIR, or --store sqlite:DIR, names the directory"),
        StoreUrl::Memory | StoreUrl::Redis(_) => None,
    };
    let usable = until_there("store", &settings.store, hint, reasons, || async {
        let store: &SharedStore = match opened.get_or_try_init(|| open(settings)).await {
            Ok(store) => store,
            Err(attempt) => return attempt,
        };
        match store.check().await {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| tracing::warn!("store: {warning}"));
                Attempt::There(Arc::clone(store))
            }
            // What can be done without room is done: runs can be looked at, and removed when they have had their time.
            Err(error @ StoreError::Full(_)) => {
                tracing::warn!("{error}");
                Attempt::There(Arc::clone(store))
            }
            Err(StoreError::Unusable(why)) => Attempt::Never(why),
            Err(error) => Attempt::NotYet(error.to_string()),
        }
    });
    let broker = until_there("broker", &settings.broker, None, reasons, || async {
        match connect(settings).await {
            Ok(broker) => Attempt::There(broker),
            Err(BrokerError::Unavailable(why)) => Attempt::NotYet(why),
            Err(error) => Attempt::Never(error.to_string()),
        }
    });
    let both = async { tokio::try_join!(usable, broker) };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(None),
        both = both => both.map(Some),
    }
}

/// Tries until `part` can be used, and tells why it cannot yet; `hint` is for when it never will.
async fn until_there<T, Trying: Future<Output = Attempt<T>>>(
    part: &'static str,
    address: &impl fmt::Debug,
    hint: Option<&str>,
    reasons: &Reasons,
    attempt: impl Fn() -> Trying,
) -> Result<T, Failure> {
    let mut wait = SHORTEST_WAIT;
    reasons.set(part, format!("connecting to {address:?}"));
    loop {
        match attempt().await {
            Attempt::There(there) => {
                reasons.clear(part);
                return Ok(there);
            }
            Attempt::Never(why) => {
                let failure = Failure::usage(format!("{part} {address:?}: {why}"));
                return Err(Failure { hint: hint.map(str::to_owned), ..failure });
            }
            Attempt::NotYet(why) => {
                tracing::warn!(?address, why, "the {part} is not there yet; trying again");
                reasons.set(part, why);
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// The heartbeat of coordinators: one that freezes or vanishes is to be replaced soon. They run nobody else's code, which
/// could hold up their own, so it can be half of what workers have.
const HEARTBEAT: Duration = Duration::from_secs(5);

async fn connect(settings: &Settings) -> Result<SharedBroker, BrokerError> {
    let BrokerUrl::Rabbit(url) = &settings.broker else { return Ok(Arc::new(MemoryBroker::new())) };
    let options = RabbitOptions {
        prefix: settings.prefix.clone(),
        connection_name: format!("phasework {}", settings.engine.name),
        heartbeat: HEARTBEAT,
        ..RabbitOptions::new(url)
    };
    Ok(Arc::new(RabbitMq::connect(options).await?))
}
