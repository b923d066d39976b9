//! Who may ask. With a token: who shows it. Without one: programs on this machine, but not web pages that a browser on
//! this machine has open. Whether the program is alive and ready may be asked by everybody.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::Api;
use super::error::ApiError;

/// The paths that need no token.
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];

/// An address that must not be listened on as things are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// Other machines can reach it, and nothing keeps them out.
    #[error(
        "{0} can be reached from other machines, and without a token everybody could run everything; \
         set a token, or listen on a loopback address such as 127.0.0.1:{port}", port = .0.port()
    )]
    NoToken(SocketAddr),
    /// The token is no secret, or cannot be sent.
    #[error("the token must not be empty and must have visible ASCII characters only, without spaces")]
    BadToken,
}

/// Refuses to serve everybody on the network: an address that other machines can reach needs a token.
///
/// # Errors
/// When there is none, or it cannot be one. The words say what to do.
pub fn check_exposure(address: SocketAddr, token: Option<&str>) -> Result<(), ExposureError> {
    match token {
        Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(ExposureError::BadToken)
        }
        Some(_) => Ok(()),
        None if address.ip().to_canonical().is_loopback() => Ok(()),
        None => Err(ExposureError::NoToken(address)),
    }
}

pub(super) async fn check(State(api): State<Api>, request: Request, next: Next) -> Result<Response, ApiError> {
    if !OPEN.contains(&request.uri().path()) {
        match &api.config.token {
            Some(token) => check_token(token, request.headers())?,
            None => check_is_no_web_page(request.headers())?,
        }
    }
    Ok(next.run(request).await)
}

fn check_token(token: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(shown) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized("a token is needed: send `Authorization: Bearer <token>`".into()));
    };
    let shown = shown.as_bytes();
    let scheme = shown.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let is_right = scheme.is_some_and(|(_, shown)| bool::from(shown.trim_ascii().ct_eq(token.as_bytes())));
    if is_right { Ok(()) } else { Err(ApiError::unauthorized("this is not the token".into())) }
}

/// Without a token a browser must not be made to ask for somebody else: by a page of another origin, or by one whose
/// name was made to point at this machine.
fn check_is_no_web_page(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host");
    let is_foreign = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, authority)| authority) != host,
        (None, None) => false,
    };
    if is_foreign {
        return Err(ApiError::forbidden("web pages may not use the API unless it has a token".into()));
    }
    match host {
        Some(host) if !is_literal(host) => Err(ApiError::forbidden(format!(
            "without a token the API answers only to `localhost` and to IP addresses, not to `{host}`; set a token to use \
             it under a name"
        ))),
        _ => Ok(()),
    }
}

/// Whether `authority` is an IP address or `localhost`, with or without a port: nothing that a name server could have
/// been asked for.
fn is_literal(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_a_token() {
        for (address, token, allowed) in [
            ("127.0.0.1:7180", None, true),
            ("127.9.9.9:7180", None, true),
            ("[::1]:7180", None, true),
            ("[::ffff:127.0.0.1]:7180", None, true),
            ("0.0.0.0:7180", None, false),
            ("[::]:7180", None, false),
            ("192.168.1.5:7180", None, false),
            ("0.0.0.0:7180", Some("s3cret"), true),
            ("0.0.0.0:7180", Some(""), false),
            ("127.0.0.1:7180", Some(" "), false),
            ("127.0.0.1:7180", Some("two words"), false),
        ] {
            let checked = check_exposure(address.parse().unwrap(), token);
            assert_eq!(checked.is_ok(), allowed, "{address} {token:?}: {checked:?}");
        }
        let error = check_exposure("0.0.0.0:7180".parse().unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("set a token") && error.contains("127.0.0.1:7180"), "{error}");
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_token_opens() {
        for (shown, right) in [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("Bearer  s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3cretx", false),
            ("Bearer", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
            ("", false),
        ] {
            assert_eq!(check_token("s3cret", &headers(&[("authorization", shown)])).is_ok(), right, "{shown:?}");
        }
        assert!(check_token("s3cret", &HeaderMap::new()).is_err());
    }

    #[test]
    fn web_pages_are_told_from_programs() {
        let local = ("host", "127.0.0.1:7180");
        for (lines, allowed) in [
            (&[][..], true),
            (&[local][..], true),
            (&[("host", "localhost")], true),
            (&[("host", "[::1]:7180")], true),
            (&[("host", "[::1]")], true),
            (&[("host", "evil.example:7180")], false),
            (&[("host", "127.0.0.1.evil.example")], false),
            (&[local, ("origin", "http://127.0.0.1:7180")], true),
            (&[local, ("origin", "http://127.0.0.1:9999")], false),
            (&[local, ("origin", "https://evil.example")], false),
            (&[local, ("origin", "null")], false),
            (&[local, ("sec-fetch-site", "cross-site")], false),
            (&[local, ("sec-fetch-site", "same-site")], false),
            (&[local, ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:7180")], true),
            (&[local, ("sec-fetch-site", "none")], true),
        ] {
            assert_eq!(check_is_no_web_page(&headers(lines)).is_ok(), allowed, "{lines:?}");
        }
    }
}
