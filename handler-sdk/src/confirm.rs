//! Publishing until it is confirmed. Gives up only on what can never succeed, and when the worker leaves.

use std::time::Duration;

use phasework_broker::{Message, PublishError, SharedBroker};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A message that is larger than the broker takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) size: usize,
    pub(crate) limit: usize,
}

/// Publishes each message, again and again until it is confirmed; one result for each, in order. `None` when `leave`
/// came first: then any of them may or may not have been published.
pub(crate) async fn publish(
    broker: &SharedBroker,
    messages: Vec<Message>,
    leave: &CancellationToken,
) -> Option<Vec<Result<(), TooLarge>>> {
    let mut results = vec![Ok(()); messages.len()];
    let mut open: Vec<(usize, Message)> = messages.into_iter().enumerate().collect();
    let mut wait = FIRST_WAIT;
    loop {
        let batch = open.iter().map(|(_, message)| message.clone()).collect();
        let published = tokio::select! {
            biased;
            () = leave.cancelled() => return None,
            published = broker.publish(batch) => published,
        };
        let mut cause = None;
        open = open
            .into_iter()
            .zip(published)
            .filter_map(|((at, message), result)| match result {
                Ok(()) => None,
                Err(PublishError::TooLarge { size, limit }) => {
                    results[at] = Err(TooLarge { size, limit });
                    None
                }
                // A durable queue is made again by the next publish.
                Err(error @ (PublishError::Unroutable(_) | PublishError::Unconfirmed(_))) => {
                    cause = Some(error);
                    Some((at, message))
                }
            })
            .collect();
        let Some(cause) = cause else { return Some(results) };
        tracing::warn!(messages = open.len(), %cause, "not published yet; trying again in {wait:?}");
        tokio::select! {
            biased;
            () = leave.cancelled() => return None,
            () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}
