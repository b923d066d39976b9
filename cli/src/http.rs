//! Speaks to a server's HTTP API: one request, one answer, and what went wrong in words with the right exit code.
//! Knows no resource, prints nothing and never asks twice.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Exit, Failure};
use crate::routes::{self, Route};
use crate::views::{ErrorEnvelope, ErrorView, ReadinessView};

/// How long a server may take to answer, besides the time it is asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: Client,
    base: Url,
    token: Option<String>,
}

/// What a request asks besides its path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    /// The part after `?`.
    pub(crate) query: Vec<(&'a str, String)>,
    /// How long the server is asked to wait before it answers.
    pub(crate) wait: Duration,
}

impl Api {
    /// A server; nothing is sent yet.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let base = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.filter(Url::has_host).ok_or_else(|| {
            Failure::usage("the server's URL is not one").hint("--url and PHASEWORK_API take http://127.0.0.1:7180")
        })?;
        let mut builder = Client::builder().connect_timeout(Duration::from_secs(5)).user_agent("phasework-cli");
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::usage(format!("cannot set up TLS: {}", chain(&error))))?;
        Ok(Self { http, base, token: token.filter(|token| !token.is_empty()).map(str::to_owned) })
    }

    /// The address that the server is asked at.
    pub(crate) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        route: &Route,
        names: &[&str],
        ask: Ask<'_>,
    ) -> Result<T, Failure> {
        let request = self.request(route, names).query(&ask.query).timeout(ANSWER_TIMEOUT + ask.wait);
        self.send(request).await
    }

    /// Reads what is no JSON.
    pub(crate) async fn get_text(&self, route: &Route, names: &[&str]) -> Result<String, Failure> {
        let body = self.body(self.request(route, names)).await?;
        String::from_utf8(body).map_err(|error| self.foreign(&format!("cannot be read: {error}")))
    }

    /// Whether the server can work now. Needs no token.
    pub(crate) async fn readiness(&self) -> Result<ReadinessView, Failure> {
        let request = self.request(&routes::READY, &[]);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let readiness = answer.json::<ReadinessView>().await;
        readiness.map_err(|error| self.foreign(&format!("cannot be read: {}", chain(&error))))
    }

    /// Orders something, with a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        route: &Route,
        names: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(self.request(route, names).json(body)).await
    }

    /// Sends a text to be judged or stored.
    pub(crate) async fn send_text(&self, route: &Route, text: &str) -> Result<Value, Failure> {
        let request = self.request(route, &[]).header("content-type", "application/json");
        self.send(request.body(text.to_owned())).await
    }

    /// Removes.
    pub(crate) async fn delete(&self, route: &Route, names: &[&str]) -> Result<Value, Failure> {
        self.send(self.request(route, names)).await
    }

    fn request(&self, route: &Route, names: &[&str]) -> RequestBuilder {
        let request = self.http.request(route.method.clone(), route.at(&self.base, names)).timeout(ANSWER_TIMEOUT);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let body = self.body(request).await?;
        // Where nothing is said, nothing is missing.
        let body = if body.is_empty() { b"null".as_slice() } else { &body };
        serde_json::from_slice(body).map_err(|error| self.foreign(&format!("cannot be read: {error}")))
    }

    async fn body(&self, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok(body.into());
        }
        match serde_json::from_slice::<ErrorEnvelope>(&body) {
            Ok(envelope) => Err(self.refusal(status, envelope.error)),
            Err(_) => Err(self.foreign(&format!("is {status}"))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let (what, hint) = if error.is_timeout() {
            ("does not answer in time", "is it very busy? `phasework serve` logs what it is doing")
        } else if error.is_connect() {
            (
                "cannot be reached",
                "is it running? `phasework serve` starts one; --url or PHASEWORK_API says where it is",
            )
        } else {
            ("broke off", "what was asked for may have been done; look before asking again")
        };
        Failure::new(Exit::Unreachable, format!("the server at {} {what}: {}", self.address(), chain(error))).hint(hint)
    }

    fn foreign(&self, what: &str) -> Failure {
        let message = format!("the answer of the server at {} {what}", self.address());
        Failure::new(Exit::Unreachable, message).hint("is it phasework? --url or PHASEWORK_API says where it is")
    }

    fn refusal(&self, status: StatusCode, error: ErrorView) -> Failure {
        let (exit, hint) = match status {
            StatusCode::NOT_FOUND => (Exit::NotFound, None),
            StatusCode::UNAUTHORIZED => {
                (Exit::Usage, Some("--token or PHASEWORK_TOKEN gives the token that the server asks for"))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                (Exit::Unreachable, Some("try again; GET /health/ready tells what it waits for"))
            }
            _ if error.code == "damaged" => (
                Exit::Bad,
                Some(
                    "`phasework runs cancel --force` ends such a run if its head can be read; docs/operations.md says more",
                ),
            ),
            status if status.is_client_error() => (Exit::Usage, None),
            _ => (Exit::Unreachable, Some("its log says more")),
        };
        // Of other refusals the message says it all: what is wrong is not in a text that a person wrote.
        let problems = if status == StatusCode::UNPROCESSABLE_ENTITY { error.problems } else { Vec::new() };
        Failure { hint: hint.map(str::to_owned), problems, ..Failure::new(exit, error.message) }
    }
}

/// Reads an answer, or a part of one, for showing it to a person.
pub(crate) fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::new(Exit::Unreachable, format!("the server's answer cannot be read: {error}"))
            .hint("is it of another version? --output json shows the answer as it is")
    })
}

/// Whether an address is on this machine, where no proxy belongs in between.
fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// An error with its causes, none said twice, without the address that is said already.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // The HTTP client's own name for a step says nothing to a person.
        if !text.contains(&words) && !words.starts_with("client error (") {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_between_programs_of_one_machine() {
        for (url, expected) in [
            ("http://127.0.0.1:7180", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:7180", true),
            ("http://localhost:7180", true),
            ("http://10.0.0.1:7180", false),
            ("https://phasework.example", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
