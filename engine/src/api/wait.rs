//! `?wait=30s`: answers that wait for the end of a run, no longer than asked, and not past the server's own end.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use phasework_workflows::id::RunId;
use phasework_workflows::time::Millis;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::extract::Params;
use crate::engine::{Engine, EngineError, RunDetail};

/// The longest wait in one request.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Tells request handlers that the server is about to stop.
#[derive(Clone, Debug)]
pub(super) struct Stopping(pub(super) CancellationToken);

/// A wait that was asked for.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) length: Option<Duration>,
    stopping: Option<Stopping>,
}

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Query {
            wait: Option<String>,
        }
        let Params(Query { wait }) = Params::from_request_parts(parts, state).await?;
        let length = wait.map(|text| length(&text)).transpose()?;
        Ok(Self { length, stopping: parts.extensions.get().cloned() })
    }
}

impl Wait {
    /// The run, once it has ended or halted, or when the wait is over.
    pub(super) async fn run(&self, engine: &Engine, run: RunId) -> Result<RunDetail, EngineError> {
        let Some(length) = self.length else { return engine.run(run).await };
        let stopping = async {
            match &self.stopping {
                Some(Stopping(stopping)) => stopping.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            detail = engine.wait(run, length) => detail,
            () = stopping => engine.run(run).await,
        }
    }
}

/// The length of a wait: `500ms`, `30s`, `1m`.
fn length(text: &str) -> Result<Duration, ApiError> {
    let length = text.parse::<Millis>().map_err(|error| ApiError::invalid(format!("`wait`: {error}")))?;
    Some(Duration::from(length)).filter(|&length| length <= MAX_WAIT).ok_or_else(|| {
        let most = MAX_WAIT.as_secs();
        ApiError::invalid(format!("`wait` is at most {most}s, not `{text}`; ask again to wait longer"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1m", Some(60_000)),
            ("60001ms", None),
            ("61s", None),
            ("2m", None),
            ("1h", None),
            ("30", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1.5s", None),
            (" 1s", None),
            ("١s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615m", None),
        ] {
            let read = length(text).ok().map(|length| length.as_millis());
            assert_eq!(read, expected, "{text}");
        }
    }
}
