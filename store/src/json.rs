//! What is stored as JSON, and read again.

use phasework_workflows::Payload;
use serde::de::DeserializeOwned;

use crate::StoreError;

pub(crate) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("what is stored is plain data")
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

pub(crate) fn payload(json: Vec<u8>) -> Result<Payload, StoreError> {
    let text = String::from_utf8(json).map_err(|error| StoreError::Corrupt(format!("payload: {error}")))?;
    Payload::from_json(text).map_err(|error| StoreError::Corrupt(format!("payload: {error}")))
}
