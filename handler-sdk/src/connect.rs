//! Reaching the broker, however long it is away. Gives up only when the broker refuses, or the worker is to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::gateway::{Gateway, GatewayOptions};
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{BrokerError, SharedBroker};
use phasework_workflows::id::SharedIds;
use tokio::time::sleep;

use crate::settings::Target;
use crate::stop::Stop;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How many characters of the host's name a gateway is told.
const LONGEST_NAME: usize = 16; // of up to four bytes each

/// Connects to the broker at `target`, by itself or through an engine; `None` when the worker is told to stop meanwhile.
pub(crate) async fn connect(
    target: &Target,
    host: &str,
    ids: &SharedIds,
    stop: &Stop,
) -> Result<Option<SharedBroker>, BrokerError> {
    if target.is_gateway() {
        let options = || GatewayOptions {
            token: target.token.clone(),
            name: host.chars().filter(|char| !char.is_control()).take(LONGEST_NAME).collect(),
            seed: ids.random(),
            ..GatewayOptions::new(&target.url)
        };
        let connected = reach(stop, || Gateway::connect(options())).await?;
        return Ok(connected.map(|broker| -> SharedBroker { Arc::new(broker) }));
    }
    let options = || RabbitOptions {
        prefix: target.prefix.clone(),
        connection_name: format!("phasework worker on {host}"),
        ..RabbitOptions::new(&target.url)
    };
    let connected = reach(stop, || RabbitMq::connect(options())).await?;
    Ok(connected.map(|broker| -> SharedBroker { Arc::new(broker) }))
}

/// Tries until the broker is available; `None` when the worker is told to stop meanwhile.
pub(crate) async fn reach<T, Trying>(stop: &Stop, mut attempt: impl FnMut() -> Trying) -> Result<Option<T>, BrokerError>
where
    Trying: Future<Output = Result<T, BrokerError>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        let result = tokio::select! {
            biased;
            () = stop.drain.cancelled() => return Ok(None),
            result = attempt() => result,
        };
        match result {
            Ok(reached) => return Ok(Some(reached)),
            Err(BrokerError::Unavailable(cause)) => tracing::warn!(%cause, "trying again in {wait:?}"),
            Err(error @ (BrokerError::Refused(_) | BrokerError::Closed)) => return Err(error),
        }
        tokio::select! {
            biased;
            () = stop.drain.cancelled() => return Ok(None),
            () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}
