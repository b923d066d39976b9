//! What leaves an owner: the messages that outboxes come to, and the answers to who asked. And what follows from their
//! having left: published versions are cleared from the store.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, Message, PublishError};
use phasework_workflows::message::event::{Accepted, Refused, ReplyTo};
use phasework_workflows::message::lease::LeasesAnswered;
use phasework_workflows::message::listing::ListAnswered;
use phasework_workflows::message::{Body, encode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::owner::{Owner, Stopped};
use super::unsent::{Unsent, patience};

impl Owner {
    /// Publishes, and again what was not confirmed. While the broker is away that takes as long as it is; but a message
    /// that it does not confirm though it is well is given up for now, and so is what else goes to that address.
    pub(super) async fn publish(
        &mut self,
        messages: Vec<Message>,
        shutdown: &CancellationToken,
    ) -> Result<Unsent, Stopped> {
        let broker = Arc::clone(&self.engine.parts.broker);
        let now = self.engine.parts.clock.now();
        let held = |message: &Message| self.clogged.holds(&broker.name_of(&message.to), now);
        let (stuck, mut messages): (Vec<_>, Vec<_>) = messages.into_iter().partition(held);
        let mut unsent = Unsent { stuck, refused: Vec::new() };
        let patience: Duration = patience(self.engine.parts.config.tick).into();
        let (mut waited, mut wait) = (Duration::ZERO, Duration::from_millis(50));
        while !messages.is_empty() {
            let began = Instant::now();
            let results = broker.publish(messages.clone()).await;
            let mut again = Vec::new();
            for (message, result) in messages.into_iter().zip(results) {
                match result {
                    Ok(()) => {}
                    Err(PublishError::Unconfirmed(_)) => again.push(message),
                    Err(error) => unsent.refused.push((message, error)),
                }
            }
            messages = again;
            if messages.is_empty() {
                break;
            }
            tracing::warn!(queue = self.queue, messages = messages.len(), "not confirmed; publishing again");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Stopped::Asked),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(Duration::from_secs(5));
            waited = if broker.health().is_ok() { waited + began.elapsed() } else { Duration::ZERO };
            if waited >= patience {
                self.give_up(&messages);
                unsent.stuck.append(&mut messages);
            }
        }
        Ok(unsent)
    }

    /// Leaves the addresses of messages alone for a while.
    fn give_up(&mut self, messages: &[Message]) {
        let parts = &self.engine.parts;
        let until = parts.clock.now().plus(patience(parts.config.tick));
        for message in messages {
            let name = parts.broker.name_of(&message.to);
            tracing::error!(to = name, kind = &*message.kind, "not confirmed for long; it stays in its run's outbox");
            self.clogged.insert(name, until);
        }
    }

    pub(super) async fn answer(&self, answers: Vec<(ReplyTo, Answer)>) {
        let broker = &self.engine.parts.broker;
        let replies = answers.into_iter().map(|(reply, answer)| async move {
            let (kind, body) = match answer {
                Answer::Accepted(accepted) => (Accepted::KIND, encode(&accepted)),
                Answer::Refused(refused) => (Refused::KIND, encode(&refused)),
                Answer::Listed(listed) => (ListAnswered::KIND, encode(&listed)),
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
        let published = self.hot.take_published();
        if published.is_empty() {
            return;
        }
        if let Err(error) = self.engine.parts.store.published(published).await {
            // They are published once more some time, which does no harm.
            tracing::debug!(queue = self.queue, %error, "outboxes could not be cleared");
        }
    }
}
