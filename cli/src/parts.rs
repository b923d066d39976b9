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
use phasework_store::{SharedStore, StoreError};
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

/// The store. It connects when it is first needed.
pub(crate) fn store(settings: &Settings) -> Result<SharedStore, Failure> {
    match &settings.store {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreUrl::Redis(url) => {
            let options = RedisOptions { prefix: settings.prefix.clone(), ..RedisOptions::new(url.as_str()) };
            let store = RedisStore::connect(&options);
            let store = store.map_err(|error| Failure::usage(format!("{:?}: {error}", settings.store)))?;
            Ok(Arc::new(store))
        }
    }
}

/// The broker, once it can be reached and the store can be used. `None` when told to stop before.
pub(crate) async fn wait(
    settings: &Settings,
    store: &SharedStore,
    reasons: &Reasons,
    shutdown: &CancellationToken,
) -> Result<Option<SharedBroker>, Failure> {
    let usable = until_there("store", &settings.store, reasons, || async {
        match store.check().await {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| tracing::warn!("store: {warning}"));
                Attempt::There(())
            }
            Err(StoreError::Unusable(why)) => Attempt::Never(why),
            Err(error) => Attempt::NotYet(error.to_string()),
        }
    });
    let broker = until_there("broker", &settings.broker, reasons, || async {
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
        both = both => both.map(|((), broker)| Some(broker)),
    }
}

/// Tries until `part` can be used, and tells why it cannot yet.
async fn until_there<T, Trying: Future<Output = Attempt<T>>>(
    part: &'static str,
    address: &impl fmt::Debug,
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
            Attempt::Never(why) => return Err(Failure::usage(format!("{part} {address:?}: {why}"))),
            Attempt::NotYet(why) => {
                tracing::warn!(?address, why, "the {part} is not there yet; trying again");
                reasons.set(part, why);
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn connect(settings: &Settings) -> Result<SharedBroker, BrokerError> {
    let BrokerUrl::Rabbit(url) = &settings.broker else { return Ok(Arc::new(MemoryBroker::new())) };
    let options = RabbitOptions {
        prefix: settings.prefix.clone(),
        connection_name: format!("phasework {}", settings.engine.name),
        ..RabbitOptions::new(url)
    };
    Ok(Arc::new(RabbitMq::connect(options).await?))
}
