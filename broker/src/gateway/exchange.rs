//! One request and its answer, whatever carries them; and what it means when there is none. Knows nothing of sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::wire::{Envelope, NO_SESSION};
use crate::BrokerError;

/// Carries requests to servers and answers back. HTTP does; tests have others, that lose some.
#[async_trait]
pub trait Exchange: fmt::Debug + Send + Sync + 'static {
    /// How many servers there are to choose from; at least one.
    fn servers(&self) -> usize;

    /// Asks a server, by its place. Given up by dropping it.
    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer>;
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The path, from the root of the server.
    pub path: String,
    /// The body; empty for none.
    pub body: Bytes,
}

/// The methods that the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Looks.
    Get,
    /// Has something done.
    Post,
    /// Has something be there.
    Put,
    /// Has something be gone.
    Delete,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody was there to be asked: it was surely not carried out.
    NobodyThere(String),
    /// It may or may not have been carried out.
    Lost(String),
}

/// Why a request did not succeed, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody was there, so nothing was done. A process that is not there has no sessions either.
    NobodyThere(String),
    /// Nothing was done. It may be done later, or by another server.
    NotNow(String),
    /// It may or may not have been done.
    Unknown(String),
    /// The session has ended.
    NoSession(String),
    /// It is too large.
    TooLarge(String),
    /// The server will not do it, however often it is asked.
    Refused(String),
}

impl Failure {
    pub(super) fn words(&self) -> &str {
        match self {
            Self::NobodyThere(words)
            | Self::NotNow(words)
            | Self::Unknown(words)
            | Self::NoSession(words)
            | Self::TooLarge(words)
            | Self::Refused(words) => words,
        }
    }

    pub(super) fn broker_error(&self) -> BrokerError {
        match self {
            Self::TooLarge(words) | Self::Refused(words) => BrokerError::Refused(words.clone()),
            _ => BrokerError::Unavailable(self.words().to_owned()),
        }
    }
}

/// Asks, and judges the answers.
#[derive(Clone, Debug)]
pub(super) struct Door(pub(super) Arc<dyn Exchange>);

impl Door {
    /// What a server answers, if it does so in time and it is a success.
    pub(super) async fn ask(&self, server: usize, request: Request, patience: Duration) -> Result<Bytes, Failure> {
        let (method, path) = (request.method, request.path.clone());
        match timeout(patience, self.0.exchange(server, request)).await {
            Ok(Ok(Response { status, body })) => judge(status, body),
            Ok(Err(NoAnswer::NobodyThere(why))) => Err(Failure::NobodyThere(why)),
            Ok(Err(NoAnswer::Lost(why))) => Err(Failure::Unknown(why)),
            Err(_) => Err(Failure::Unknown(format!("no answer to {method:?} {path} within {patience:?}"))),
        }
    }
}

fn judge(status: u16, body: Bytes) -> Result<Bytes, Failure> {
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let told = serde_json::from_slice::<Envelope>(&body).map(|envelope| envelope.error);
    let (code, words) = match told {
        Ok(told) => (told.code, format!("{} ({status})", told.message)),
        Err(_) => (String::new(), format!("the answer was {status}")),
    };
    Err(match (status, code.as_str()) {
        (404, NO_SESSION) => Failure::NoSession(words),
        (404, "") => Failure::Refused("there is no worker gateway at this address".to_owned()),
        (413, _) => Failure::TooLarge(words),
        (408 | 429 | 503, _) => Failure::NotNow(words),
        (500.., _) => Failure::Unknown(words),
        _ => Failure::Refused(words),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_something() {
        let body = |code: &str| Bytes::from(format!(r#"{{"error": {{"code": "{code}", "message": "why"}}}}"#));
        let why = |status: u16| format!("why ({status})");
        for (status, code, expected) in [
            (404, NO_SESSION, Failure::NoSession(why(404))),
            (404, "not-found", Failure::Refused(why(404))),
            (401, "unauthorized", Failure::Refused(why(401))),
            (403, "forbidden", Failure::Refused(why(403))),
            (413, "too-large", Failure::TooLarge(why(413))),
            (429, "too-many", Failure::NotNow(why(429))),
            (503, "unavailable", Failure::NotNow(why(503))),
            (500, "internal", Failure::Unknown(why(500))),
        ] {
            assert_eq!(judge(status, body(code)), Err(expected));
        }
        assert_eq!(judge(204, Bytes::new()), Ok(Bytes::new()));
        assert_eq!(judge(502, "<html>".into()), Err(Failure::Unknown("the answer was 502".into())));
        assert!(matches!(judge(404, "<html>".into()), Err(Failure::Refused(_))));
    }
}
