//! What leaves an owner: the messages that outboxes come to, and the answers to who asked. And what follows from their
//! having left: published versions are cleared from the store.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, Message, PublishError};
use phasework_workflows::message::event::{Accepted, Refused, ReplyTo};
use phasework_workflows::message::lease::LeasesAnswered;
use phasework_workflows::message::{Body, encode};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::owner::{Owner, Stopped};

impl Owner {
    /// Publishes, and again what was not confirmed, until all of it is.
    pub(super) async fn publish(
        &self,
        mut messages: Vec<Message>,
        shutdown: &CancellationToken,
    ) -> Result<(), Stopped> {
        let mut wait = Duration::from_millis(50);
        while !messages.is_empty() {
            let results = self.engine.parts.broker.publish(messages.clone()).await;
            let mut again = Vec::new();
            for (message, result) in messages.into_iter().zip(results) {
                match result {
                    Ok(()) => {}
                    Err(PublishError::Unconfirmed(_)) => again.push(message),
                    Err(error) => tracing::error!(to = ?message.to, %error, "a message cannot be published"),
                }
            }
            messages = again;
            if !messages.is_empty() {
                tracing::warn!(queue = self.queue, messages = messages.len(), "not confirmed; publishing again");
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Err(Stopped::Asked),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
                }
            }
        }
        Ok(())
    }

    pub(super) async fn answer(&self, answers: Vec<(ReplyTo, Answer)>) {
        let broker = &self.engine.parts.broker;
        let replies = answers.into_iter().map(|(reply, answer)| async move {
            let (kind, body) = match answer {
                Answer::Accepted(accepted) => (Accepted::KIND, encode(&accepted)),
                Answer::Refused(refused) => (Refused::KIND, encode(&refused)),
                Answer::Leases(leases) => (LeasesAnswered::KIND, encode(&leases)),
            };
            let mut message = Message::new(Address::Private(Arc::clone(&reply.queue)), kind, body);
            message.correlation_id = reply.correlation_id;
            if let Err(error) = broker.reply(&reply.queue, message).await {
                tracing::debug!(%error, "an answer could not be delivered; whoever asked asks again");
            }
        });
        futures::future::join_all(replies).await;
    }

    /// Clears published versions that no commit has cleared on its way.
    pub(super) async fn clear_published(&mut self) {
        let mut published = std::mem::take(&mut self.cleared);
        for hot in self.hot.iter_mut().filter(|hot| !hot.published.is_empty()) {
            published.push((hot.run.head.id, std::mem::take(&mut hot.published)));
        }
        if published.is_empty() {
            return;
        }
        if let Err(error) = self.engine.parts.store.published(published).await {
            // They are published once more some time, which does no harm.
            tracing::debug!(queue = self.queue, %error, "outboxes could not be cleared");
        }
    }
}
