//! Reads requests: bodies, queries and path segments, each refused in the one error envelope. No body is held that is
//! larger than the limit.

use std::time::Duration;

use axum::RequestPartsExt;
use axum::body::BodyDataStream;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::request::Parts;
use futures::StreamExt as _;
use phasework_workflows::id::RunId;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long a caller may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a refused body is passed over, in bytes, and for how long.
const LINGER_BYTES: usize = 128 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(5);

/// A body as text.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let body = read_body(request, MAX_BODY_BYTES).await?;
        let text = String::from_utf8(body).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            ApiError::malformed(format!("the body is no UTF-8 text: byte {at} cannot be read"))
        })?;
        Ok(Self(text))
    }
}

/// Reads a body of at most so many bytes.
pub(super) async fn read_body(request: Request, most: usize) -> Result<Vec<u8>, ApiError> {
    read_body_while(request, most, |_| Ok(())).await
}

/// Reads a body of at most so many bytes, for as long as there is room for the next so many of them.
pub(super) async fn read_body_while(
    request: Request,
    most: usize,
    has_room: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Vec<u8>, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let asks_first = request.headers().contains_key(EXPECT);
    let mut chunks = request.into_body().into_data_stream();
    if announced.is_some_and(|length: u64| length > most as u64) {
        if !asks_first {
            linger(chunks);
        }
        return Err(too_large(most));
    }
    match tokio::time::timeout(BODY_TIMEOUT, read(&mut chunks, most, has_room)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::Refused(refusal))) => {
            linger(chunks);
            Err(refusal)
        }
        Ok(Err(Unread::Broken(error))) => Err(ApiError::malformed(format!("the body ended early: {error}"))),
        Err(_) => Err(ApiError::timeout(format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()))),
    }
}

/// Why there is no body.
enum Unread {
    /// It is not wanted.
    Refused(ApiError),
    /// It did not come.
    Broken(axum::Error),
}

/// Reads a body, and stops as soon as it is too large, or there is no room for it.
async fn read(
    chunks: &mut BodyDataStream,
    most: usize,
    mut has_room: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Vec<u8>, Unread> {
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(Unread::Broken)?;
        if read.len() + chunk.len() > most {
            return Err(Unread::Refused(too_large(most)));
        }
        has_room(chunk.len()).map_err(Unread::Refused)?;
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

/// Lets what is on its way come for a while after the answer: a caller whose connection is closed while it sends does
/// not see why. It holds nothing and ends by itself.
fn linger(mut chunks: BodyDataStream) {
    let pass_over = async move {
        let mut passed = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            passed += chunk.len();
            if passed > LINGER_BYTES {
                return;
            }
        }
    };
    tokio::spawn(tokio::time::timeout(LINGER, pass_over));
}

fn too_large(most: usize) -> ApiError {
    ApiError::too_large(format!("a request's body may have {most} bytes at most; this one has more"))
}

/// A body as a JSON object of one shape.
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Text(text) = Text::from_request(request, state).await?;
        if is_blank(&text) {
            return Err(ApiError::malformed("the body is empty; it must be a JSON object".into()));
        }
        read_object(&text).map(Self)
    }
}

/// A body as a JSON object of one shape, or none.
pub(super) struct MaybeJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Text(text) = Text::from_request(request, state).await?;
        if is_blank(&text) { Ok(Self(T::default())) } else { read_object(&text).map(Self) }
    }
}

fn is_blank(text: &str) -> bool {
    text.trim_ascii().is_empty()
}

fn read_object<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    if text.trim_ascii_start().starts_with('[') {
        // Read as they stand, the items of a list would pass for the members of an object.
        return Err(ApiError::malformed("the body must be a JSON object, not a list".into()));
    }
    serde_json::from_str(text).map_err(|error| ApiError::malformed_json(&error))
}

/// The query of a request.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
            let whole = error.body_text();
            let why = whole.rsplit_once("query string: ").map_or(whole.as_str(), |(_, why)| why);
            ApiError::malformed(format!("the query cannot be read: {why}"))
        })?;
        Ok(Self(query))
    }
}

/// The one variable segment of a path.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let path = parts.extract::<Path<String>>().await;
        let Path(segment) = path.map_err(|error| ApiError::malformed(error.body_text()))?;
        Ok(Self(segment))
    }
}

/// The run that a path names.
pub(super) struct RunOfPath(pub(super) RunId);

impl<S: Send + Sync> FromRequestParts<S> for RunOfPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segment(id) = Segment::from_request_parts(parts, state).await?;
        Ok(Self(id.parse()?))
    }
}

/// A page's length that was asked for.
///
/// # Errors
/// When it is nothing, or more than `most`.
pub(super) fn page_length(asked: Option<usize>, default: usize, most: usize) -> Result<usize, ApiError> {
    match asked.unwrap_or(default) {
        length if (1..=most).contains(&length) => Ok(length),
        length => Err(ApiError::invalid(format!("`limit` must be 1 to {most}, not {length}"))),
    }
}
