//! What a handler says when it could not do its job: try again, try again later, or give up.
//! It never decides how often; that is the workflow's `retry`.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use phasework_workflows::message::outcome::JobError;
use phasework_workflows::time::Millis;

/// The longest message that is reported, in bytes; the rest is cut off.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Why a handler could not do its job, and whether trying again may help.
///
/// Any error turns into one that is tried again, so `?` works in handlers. Say [`HandlerError::fail`] when trying
/// again is of no use. (It is no [`std::error::Error`] itself; that is what makes the conversion possible.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    kind: &'static str,
    message: String,
    retry: bool,
    retry_after: Option<Duration>,
}

impl HandlerError {
    /// Try again, after the wait that the workflow's `retry` gives. Takes an error or a text.
    pub fn retry(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: "error", message: whole_message(&*cause.into()), retry: true, retry_after: None }
    }

    /// Try again, but not before `wait` has passed.
    pub fn retry_after(cause: impl Into<Box<dyn Error + Send + Sync>>, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::retry(cause) }
    }

    /// Failed for good: trying again does not help.
    pub fn fail(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { retry: false, ..Self::retry(cause) }
    }

    /// The input, or the run's data, is not what the handler takes. For good.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { kind: "input", message: message.into(), retry: false, retry_after: None }
    }

    /// The output cannot be reported. For good.
    pub(crate) fn output(message: impl Into<String>) -> Self {
        Self { kind: "output", message: message.into(), retry: false, retry_after: None }
    }

    /// A list is asked for, and the handler does not make any. For good.
    pub(crate) fn no_list(message: impl Into<String>) -> Self {
        Self { kind: "enumerate", message: message.into(), retry: false, retry_after: None }
    }

    /// The handler panicked.
    pub(crate) fn panic(message: impl Into<String>) -> Self {
        Self { kind: "panic", message: message.into(), retry: true, retry_after: None }
    }

    /// The handler took too long.
    pub(crate) fn timeout(allowed: Millis) -> Self {
        Self { kind: "timeout", message: format!("not done within {allowed}"), retry: true, retry_after: None }
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        self.retry
    }

    /// What kind of failure it is: `error`, `input`, `output`, `enumerate`, `panic`, `timeout`.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// As it is reported.
    pub(crate) fn into_job_error(mut self) -> JobError {
        if self.message.len() > MAX_MESSAGE_BYTES {
            let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&at| self.message.is_char_boundary(at)).unwrap_or(0);
            self.message.truncate(end);
            self.message.push('…');
        }
        let retry_after = self.retry_after.map(Millis::from);
        JobError { kind: self.kind.into(), message: self.message, retry: self.retry, retry_after }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(cause: E) -> Self {
        Self::retry(cause)
    }
}

/// The error's message and those of its sources, each once: many errors repeat their source's text in their own.
pub(crate) fn whole_message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !text.is_empty() && !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot fetch the page")]
    struct Silent(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot fetch the page: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let cause = || std::io::Error::other("connection refused");
        for error in [HandlerError::from(Silent(cause())), HandlerError::from(Repeating(cause()))] {
            assert_eq!(error.to_string(), "cannot fetch the page: connection refused");
            assert!(error.is_retryable());
        }
    }

    #[test]
    fn the_question_mark_keeps_what_a_handler_decided() {
        fn inner() -> Result<(), HandlerError> {
            Err(HandlerError::fail("404 Not Found"))
        }
        fn outer() -> Result<u8, HandlerError> {
            inner()?;
            Ok("7".parse::<u8>()?)
        }
        assert_eq!(outer().unwrap_err().into_job_error(), JobError::new("error", "404 Not Found").for_good());
    }

    #[test]
    fn a_wait_is_reported_and_a_long_message_is_cut() {
        let error = HandlerError::retry_after("busy", Duration::from_secs(2)).into_job_error();
        assert_eq!((error.retry, error.retry_after), (true, Some(Millis(2000))));
        let long = HandlerError::retry("é".repeat(MAX_MESSAGE_BYTES)).into_job_error().message;
        assert_eq!(long.len(), MAX_MESSAGE_BYTES + "…".len());
    }
}
