//! Reads the gateway's requests: small ones as the rest of the API reads its own, and those to publish, which may be
//! large, within a budget for all of them together.

use std::sync::Arc;

use axum::extract::Request;
use phasework_broker::gateway::wire::MAX_REQUEST_BYTES;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::error::ApiError;
use super::super::extract;

/// How many bytes of requests may be under way.
#[derive(Clone, Debug)]
pub(super) struct Budget(pub(super) Arc<Semaphore>);

impl Budget {
    /// Reads a request's body. What has come of it counts, from when it came, for as long as what comes along is kept: who
    /// announces much and sends nothing takes nothing away from others.
    pub(super) async fn read(&self, request: Request) -> Result<(Vec<u8>, OwnedSemaphorePermit), ApiError> {
        let no_room = |_| ApiError::unavailable("too much is being published at once; try again in a moment".into());
        let mut kept = Arc::clone(&self.0).try_acquire_many_owned(0).map_err(no_room)?;
        let body = extract::read_body_while(request, MAX_REQUEST_BYTES, |bytes| {
            kept.merge(Arc::clone(&self.0).try_acquire_many_owned(bytes as u32).map_err(no_room)?);
            Ok(())
        });
        let body = body.await?;
        Ok((body, kept))
    }
}

/// Reads a JSON object of one shape.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().starts_with(b"[") {
        // Read as they stand, the items of a list would pass for the members of an object.
        return Err(ApiError::malformed("the body must be a JSON object, not a list".into()));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::malformed_json(&error))
}
