//! Who may ask. With a token: who shows it. Without one: programs on this machine, but not web pages that a browser on
//! this machine has open. Whether the program is alive and ready may be asked by everybody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use super::Api;
use super::error::ApiError;
use super::tokens::{Tokens, UNNAMED};

/// The paths that need no token.
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];

/// What the paths begin with that workers may ask for with a token of their own.
const GATEWAY: &str = "/v1/gateway/";

/// As whom workers act that show the token for workers.
const WORKERS: &str = "workers";

/// An address that must not be listened on as things are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// Other machines can reach it, and nothing keeps them out.
    #[error(
        "{0} can be reached from other machines, and without a token everybody could run everything; \
         set a token, or listen on a loopback address such as 127.0.0.1:{port}", port = .0.port()
    )]
    NoToken(SocketAddr),
}

/// Who asks, as the history is to say it.
#[derive(Clone, Debug)]
pub(super) struct Actor(pub(super) Arc<str>);

/// Refuses to serve everybody on the network: an address that other machines can reach needs a token.
///
/// # Errors
/// When there is none. The words say what to do.
pub fn check_exposure(address: SocketAddr, tokens: &Tokens) -> Result<(), ExposureError> {
    if tokens.is_empty() && !address.ip().to_canonical().is_loopback() {
        return Err(ExposureError::NoToken(address));
    }
    Ok(())
}

pub(super) async fn check(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let path = request.uri().path();
    if !OPEN.contains(&path) {
        let actor = if api.config.tokens.is_empty() {
            check_is_no_web_page(request.headers())?;
            UNNAMED.into()
        } else {
            let is_for_workers = path.starts_with(GATEWAY);
            let of_workers = api.gateway.config.token.as_deref();
            check_tokens(&api.config.tokens, of_workers, is_for_workers, request.headers())?
        };
        request.extensions_mut().insert(Actor(actor));
    }
    Ok(next.run(request).await)
}

/// Who asks. With a token for workers, either is good for the gateway, and that one for nothing else.
fn check_tokens(
    tokens: &Tokens,
    of_workers: Option<&str>,
    is_for_workers: bool,
    headers: &HeaderMap,
) -> Result<Arc<str>, ApiError> {
    let shown = shown(headers)?;
    let is_a_workers = of_workers.is_some_and(|of_workers| bool::from(shown.ct_eq(of_workers.as_bytes())));
    match tokens.who(shown) {
        Some(actor) => Ok(actor),
        None if is_a_workers && is_for_workers => Ok(WORKERS.into()),
        None if is_a_workers => {
            Err(ApiError::forbidden("the workers' token is good for the worker gateway only".into()))
        }
        None => Err(ApiError::unauthorized("this is not the token".into())),
    }
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let Some(shown) = headers.get(header::AUTHORIZATION) else {
        return Err(ApiError::unauthorized("a token is needed: send `Authorization: Bearer <token>`".into()));
    };
    let shown = shown.as_bytes();
    let scheme = shown.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let shown = scheme.map(|(_, shown)| shown.trim_ascii());
    shown.ok_or_else(|| ApiError::unauthorized("a token is shown as `Authorization: Bearer <token>`".into()))
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
        ] {
            let tokens = token.map(|token| Tokens::one(token).unwrap()).unwrap_or_default();
            let checked = check_exposure(address.parse().unwrap(), &tokens);
            assert_eq!(checked.is_ok(), allowed, "{address} {token:?}: {checked:?}");
        }
        let error = check_exposure("0.0.0.0:7180".parse().unwrap(), &Tokens::default()).unwrap_err().to_string();
        assert!(error.contains("set a token") && error.contains("127.0.0.1:7180"), "{error}");
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_token_opens() {
        let tokens = Tokens::one("s3cret").unwrap();
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
            let checked = check_tokens(&tokens, None, false, &headers(&[("authorization", shown)]));
            assert_eq!(checked.ok().as_deref(), right.then_some("api"), "{shown:?}");
        }
        assert!(check_tokens(&tokens, None, false, &HeaderMap::new()).is_err());
    }

    #[test]
    fn the_token_of_workers_opens_the_gateway_only() {
        let tokens = Tokens::one("s3cret").unwrap();
        let shown = |token: &str| headers(&[("authorization", &format!("Bearer {token}"))]);
        for (token, is_for_workers, right) in [
            ("s3cret", true, true),
            ("s3cret", false, true),
            ("w0rker", true, true),
            ("w0rker", false, false),
            ("other", true, false),
            ("other", false, false),
        ] {
            let checked = check_tokens(&tokens, Some("w0rker"), is_for_workers, &shown(token));
            assert_eq!(checked.is_ok(), right, "{token} {is_for_workers}");
        }
        assert!(check_tokens(&tokens, None, true, &shown("w0rker")).is_err());
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
