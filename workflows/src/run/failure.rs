//! How much is kept of what others say about failures and orders. They may say anything, at any length.

use std::sync::Arc;

use crate::message::outcome::JobError;

/// The longest kind of error that is kept, in bytes.
const MAX_KIND_BYTES: usize = 100;

/// The longest message that is kept with a failed job, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// The longest message that is kept in a run's head, which is written with every commit, in bytes.
pub(super) const MAX_HEAD_MESSAGE_BYTES: usize = 2 * 1024;

/// The longest name that is kept of who ordered something, in bytes.
pub(super) const MAX_ACTOR_BYTES: usize = 100;

/// `error` with at most `bytes` of its message.
pub(super) fn shortened(error: &JobError, bytes: usize) -> JobError {
    let kind = match beginning(&error.kind, MAX_KIND_BYTES) {
        whole if whole.len() == error.kind.len() => Arc::clone(&error.kind),
        part => part.into(),
    };
    JobError { kind, message: beginning(&error.message, bytes).to_owned(), ..*error }
}

/// The beginning of `text`, at most `bytes` long.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_kept_whole() {
        for (message, bytes, kept) in [("", 3, ""), ("abc", 3, "abc"), ("abcd", 3, "abc"), ("aé", 2, "a"), ("é", 0, "")]
        {
            let error = JobError::new("error", message).for_good();
            assert_eq!(shortened(&error, bytes), JobError::new("error", kept).for_good(), "{message}");
        }
    }
}
