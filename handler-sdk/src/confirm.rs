//! Publishing until it is confirmed. Gives up only on what can never succeed, and when the worker leaves. Every address
//! stands for itself: one that confirms nothing holds up nobody who has something for another.

use std::time::Duration;

use futures::future::join_all;
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

/// Publishes messages for one address, again and again until each is confirmed. As soon as what became of one is known,
/// `known` is told, with what came along. `None` when `leave` came first: then any that it was not told of may or may
/// not have been published.
pub(crate) async fn publish<T>(
    broker: &SharedBroker,
    messages: Vec<(Message, T)>,
    leave: &CancellationToken,
    mut known: impl FnMut(T, Result<(), TooLarge>),
) -> Option<()> {
    let mut open = messages;
    let mut wait = FIRST_WAIT;
    loop {
        let batch = open.iter().map(|(message, _)| message.clone()).collect();
        let published = tokio::select! {
            biased;
            () = leave.cancelled() => return None,
            published = broker.publish(batch) => published,
        };
        let (mut again, mut cause) = (Vec::new(), None);
        for ((message, with), result) in open.into_iter().zip(published) {
            match result {
                Ok(()) => known(with, Ok(())),
                Err(PublishError::TooLarge { size, limit }) => known(with, Err(TooLarge { size, limit })),
                // A durable queue is made again by the next publish.
                Err(error @ (PublishError::Unroutable(_) | PublishError::Unconfirmed(_))) => {
                    cause = Some((error, message.to.clone()));
                    again.push((message, with));
                }
            }
        }
        open = again;
        let Some((cause, to)) = cause else { return Some(()) };
        tracing::warn!(messages = open.len(), ?to, %cause, "not published yet; trying again in {wait:?}");
        tokio::select! {
            biased;
            () = leave.cancelled() => return None,
            () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
}

/// Publishes each message by itself until all are confirmed; one result for each, in order. `None` as above.
pub(crate) async fn publish_all(
    broker: &SharedBroker,
    messages: Vec<Message>,
    leave: &CancellationToken,
) -> Option<Vec<Result<(), TooLarge>>> {
    let each = messages.into_iter().map(|message| async {
        let mut result = Ok(());
        publish(broker, vec![(message, ())], leave, |(), known| result = known).await?;
        Some(result)
    });
    join_all(each).await.into_iter().collect()
}
