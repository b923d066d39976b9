//! Requests over HTTP/1.1, with connections that are kept. Shows no token and no password.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::exchange::{Exchange, Method, NoAnswer, Request, Response};
use crate::BrokerError;

/// After so long without a word the system asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How long a connection is kept that nobody uses: shorter than what proxies take for idle.
const KEPT: Duration = Duration::from_secs(50);

/// Servers that are reached over HTTP.
pub struct Http {
    client: reqwest::Client,
    servers: Vec<Url>,
}

impl Http {
    /// Servers at these addresses, with commas between; every request shows the token, if there is one.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] for what is no HTTP address, or a token that cannot be sent.
    pub fn new(urls: &str, token: Option<&str>, connect_timeout: Duration) -> Result<Self, BrokerError> {
        let servers = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(server);
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(BrokerError::Refused("no address of a server".to_owned()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            let shown = HeaderValue::try_from(format!("Bearer {token}"));
            let mut shown = shown.map_err(|_| BrokerError::Refused("the token has characters that none has".into()))?;
            shown.set_sensitive(true);
            headers.insert(AUTHORIZATION, shown);
        }
        // The program may have installed a provider of its own, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .pool_idle_timeout(KEPT)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let client = client.map_err(|error| BrokerError::Refused(format!("cannot set up TLS: {error}")))?;
        Ok(Self { client, servers })
    }
}

fn server(text: &str) -> Result<Url, BrokerError> {
    // What is wrong may hold a password, so it is not repeated.
    let wrong = || BrokerError::Refused("not an HTTP address, such as http://127.0.0.1:7180".to_owned());
    let mut url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

#[async_trait]
impl Exchange for Http {
    fn servers(&self) -> usize {
        self.servers.len()
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        let Request { method, path, body } = request;
        let lost = |error: reqwest::Error| NoAnswer::Lost(whole(&error));
        let url = self.servers[server % self.servers.len()].join(path.trim_start_matches('/'));
        let url = url.map_err(|error| NoAnswer::NobodyThere(error.to_string()))?;
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let answer = self
            .client
            .request(method, url)
            .body(body)
            .send()
            .await
            .map_err(|error| if error.is_connect() { NoAnswer::NobodyThere(whole(&error)) } else { lost(error) })?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(lost)?;
        Ok(Response { status, body })
    }
}

impl fmt::Debug for Http {
    /// Without users, passwords and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.servers.iter().map(|url| url.origin().ascii_serialization());
        f.debug_list().entries(shown).finish()
    }
}

/// An error with its causes, without the address that it was about: that may hold a password.
fn whole(error: &reqwest::Error) -> String {
    let mut words =
        if error.is_connect() { "nobody answers there".to_owned() } else { "the answer was lost".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &str) -> Result<Vec<String>, String> {
        let http = Http::new(urls, None, Duration::from_secs(1)).map_err(|error| error.to_string())?;
        Ok(http.servers.iter().map(Url::to_string).collect())
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(servers("http://127.0.0.1:7180").unwrap(), ["http://127.0.0.1:7180/"]);
        let two = servers("https://a.example/phasework, http://[::1]:1/,").unwrap();
        assert_eq!(two, ["https://a.example/phasework/", "http://[::1]:1/"]);
        for wrong in ["", ",", "127.0.0.1:7180", "amqp://h", "http://", "http://a,redis://b"] {
            let error = servers(wrong).unwrap_err();
            assert!(error.contains("address"), "{wrong}: {error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let http = Http::new("http://me:s3cret@127.0.0.1:7180/x", Some("t0ken"), Duration::from_secs(1)).unwrap();
        assert_eq!(format!("{http:?}"), r#"["http://127.0.0.1:7180"]"#);
        let error = Http::new("http://h", Some("two\nlines"), Duration::from_secs(1)).unwrap_err().to_string();
        assert!(!error.contains("two"), "{error}");
    }
}
