//! Reaching the broker, however long it is away. Gives up only when the broker refuses, or the worker is to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_broker::{BrokerError, SharedBroker};
use tokio::time::sleep;

use crate::settings::Target;
use crate::stop::Stop;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Connects to the broker at `target`; `None` when the worker is told to stop meanwhile.
pub(crate) async fn connect(target: &Target, host: &str, stop: &Stop) -> Result<Option<SharedBroker>, BrokerError> {
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
