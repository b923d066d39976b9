//! Makes the parts of an engine out of the addresses in the settings. What cannot be reached yet is waited for, and
//! whoever asks is told why; what will never work ends the wait.

use std::sync::{Arc, Mutex, PoisonError};
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

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why the engine cannot work yet. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reasons(Arc<Mutex<Vec<String>>>);

impl Reasons {
    /// The reasons now.
    pub(crate) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reasons: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reasons;
    }
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

/// The broker, once it can be reached. `None` when told to stop before.
pub(crate) async fn broker(
    settings: &Settings,
    reasons: &Reasons,
    shutdown: &CancellationToken,
) -> Result<Option<SharedBroker>, Failure> {
    let BrokerUrl::Rabbit(url) = &settings.broker else { return Ok(Some(Arc::new(MemoryBroker::new()))) };
    let mut wait = Duration::from_millis(250);
    loop {
        reasons.set(vec![format!("broker: connecting to {:?}", settings.broker)]);
        let connecting = connect(url, settings);
        let connected = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            connected = connecting => connected,
        };
        match connected {
            Ok(broker) => return Ok(Some(broker)),
            Err(BrokerError::Unavailable(why)) => {
                tracing::warn!(broker = ?settings.broker, %why, "the broker is not there yet; trying again");
                reasons.set(vec![format!("broker: {why}")]);
            }
            Err(error) => return Err(Failure::usage(format!("{:?}: {error}", settings.broker))),
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

/// Waits until the store can be reached, and looks whether it can be used. Whether it can; false when told to stop before.
pub(crate) async fn usable_store(
    store: &SharedStore,
    settings: &Settings,
    reasons: &Reasons,
    shutdown: &CancellationToken,
) -> Result<bool, Failure> {
    let mut wait = Duration::from_millis(250);
    loop {
        match store.check().await {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| tracing::warn!(store = ?settings.store, "{warning}"));
                return Ok(true);
            }
            Err(StoreError::Unusable(why)) => return Err(Failure::usage(format!("{:?}: {why}", settings.store))),
            Err(error) => {
                tracing::warn!(store = ?settings.store, %error, "the store is not there yet; trying again");
                reasons.set(vec![format!("store: {error}")]);
            }
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

async fn connect(url: &str, settings: &Settings) -> Result<SharedBroker, BrokerError> {
    let options = RabbitOptions {
        prefix: settings.prefix.clone(),
        connection_name: format!("phasework {}", settings.engine.name),
        ..RabbitOptions::new(url)
    };
    Ok(Arc::new(RabbitMq::connect(options).await?))
}
