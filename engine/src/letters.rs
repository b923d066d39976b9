//! Dead letters as people handle them: look at them, put them back, drop them.

use phasework_broker::Message;
use phasework_workflows::message::notice::DeadLetter;

use crate::engine::{Engine, EngineError};

impl Engine {
    /// Dead letters, newest first.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn dead_letters(&self, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, EngineError> {
        Ok(self.parts.store.dead(skip, limit).await?)
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    /// As [`EngineError`] says.
    pub async fn dead_count(&self) -> Result<u64, EngineError> {
        Ok(self.parts.store.dead_count().await?)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such letter.
    pub async fn dead_letter(&self, id: &str) -> Result<DeadLetter, EngineError> {
        let letter = self.parts.store.dead_letter(id).await?;
        letter.ok_or_else(|| EngineError::NotFound(format!("there is no dead letter {id}")))
    }

    /// Puts a dead letter back on the queue it came from. It is gone from the dead letters only once the broker has it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such letter, [`EngineError::Invalid`] when its body was cut short.
    pub async fn requeue_dead_letter(&self, id: &str) -> Result<(), EngineError> {
        let letter = self.dead_letter(id).await?;
        if !letter.is_whole() {
            let words =
                "its body was not kept whole (too large, or not UTF-8), so it cannot be put back; drop it instead";
            return Err(EngineError::Invalid(words.into()));
        }
        let to = crate::dead::address_of(&letter.queue)
            .ok_or_else(|| EngineError::Invalid(format!("its queue `{}` is not one of ours", letter.queue)))?;
        let message = Message::new(to, &letter.kind, letter.body.into_bytes());
        let published = self.parts.broker.publish(vec![message]).await;
        for result in published {
            result.map_err(|error| EngineError::Unavailable(error.to_string()))?;
        }
        self.drop_dead_letter(id).await
    }

    /// Removes a dead letter.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such letter.
    pub async fn drop_dead_letter(&self, id: &str) -> Result<(), EngineError> {
        if self.parts.store.remove_dead(id).await? {
            Ok(())
        } else {
            Err(EngineError::NotFound(format!("there is no dead letter {id}")))
        }
    }
}
