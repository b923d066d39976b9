//! Gets pages of text from the web, with limits to size, time and redirects. Says of each failure whether trying again
//! may help. Never runs scripts, keeps no cookies, and follows no links by itself.

use std::time::Duration;

use phasework_sdk::HandlerError;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use url::Url;

/// The largest page that is read, in bytes.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// How long a request may take, from the connection to the last byte.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A client of the web. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Web {
    http: Client,
}

/// A page as it was served.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where it is, after redirects.
    pub url: Url,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is none that can be fetched.
    #[error("`{0}` is no web address")]
    Address(String),
    /// The server could not be reached, or the answer broke off.
    #[error("cannot fetch {0}")]
    Network(Url, #[source] reqwest::Error),
    /// The server said no.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It is a picture, a film, a program.
    #[error("{0} is {1}, not a page of text")]
    NotText(Url, String),
    /// It is larger than a page should be.
    #[error("{0} is larger than {MAX_PAGE_BYTES} bytes")]
    TooLarge(Url),
}

impl WebError {
    /// What a handler says of it: a server in trouble may recover, a missing page will not appear.
    pub fn into_handler_error(self) -> HandlerError {
        match self {
            Self::Status { retry_after: Some(wait), .. } => HandlerError::retry_after(self, wait),
            Self::Status { status, .. } if status.is_server_error() => HandlerError::retry(self),
            Self::Status { status: StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, .. } => {
                HandlerError::retry(self)
            }
            Self::Network(_, ref cause) if cause.is_redirect() => HandlerError::fail(self),
            Self::Network(..) => HandlerError::retry(self),
            Self::Address(_) | Self::Status { .. } | Self::NotText(..) | Self::TooLarge(_) => HandlerError::fail(self),
        }
    }
}

impl Web {
    /// A client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        // The program may have installed a provider of its own, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = Client::builder()
            .user_agent(concat!("phasework-example-search/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::limited(MAX_REDIRECTS))
            .connect_timeout(Duration::from_secs(5))
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        Ok(Self { http })
    }

    /// Reads an address.
    ///
    /// # Errors
    /// When it is not one of a page on the web.
    pub fn address(text: &str) -> Result<Url, WebError> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| WebError::Address(text.to_owned()))
    }

    /// Gets a page.
    ///
    /// # Errors
    /// When there is none, or it is not a text of reasonable size.
    pub async fn get(&self, url: &Url) -> Result<Fetched, WebError> {
        let network = |cause| WebError::Network(url.clone(), cause);
        let mut response = self.http.get(url.clone()).send().await.map_err(network)?;
        check(url, &response)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if bytes.len() + chunk.len() > MAX_PAGE_BYTES {
                return Err(WebError::TooLarge(url.clone()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched { url: response.url().clone(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }
}

fn check(url: &Url, response: &Response) -> Result<(), WebError> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status();
    if !status.is_success() {
        let retry_after = header(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        return Err(WebError::Status { url: url.clone(), status, retry_after });
    }
    let kind = header(CONTENT_TYPE).unwrap_or("text/html");
    let is_text = kind.starts_with("text/") || kind.starts_with("application/xhtml") || kind.contains("xml");
    if is_text { Ok(()) } else { Err(WebError::NotText(url.clone(), kind.to_owned())) }
}
