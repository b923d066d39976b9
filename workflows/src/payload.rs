//! A JSON value that nobody in between needs to read: run data, job inputs, job outputs.
//! It keeps its text as it came, so big numbers and key order survive, and it is cheap to clone.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON value, kept as the text it came as.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// The payload that `value` serialises to.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON (a map whose keys are no strings, say).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| Self(raw.into()))
    }

    /// The payload with the text `json`.
    ///
    /// # Errors
    /// When `json` is not one JSON value.
    pub fn from_json(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(|raw| Self(raw.into()))
    }

    /// `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.as_json() == "null"
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// For `#[serde(deserialize_with)]` of an optional payload that tells a `null` that is there from none.
    ///
    /// # Errors
    /// When the value is no JSON.
    pub(crate) fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.as_json().len()
    }

    /// Never: the shortest JSON text has a character.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// When the value has another shape.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_json())
    }

    /// Reads it as a generic JSON value.
    pub fn to_value(&self) -> Value {
        self.read().unwrap_or(Value::Null) // the text was checked when the payload was made; only depth can refuse
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::from_json(value.to_string()).unwrap_or_else(|_| Self::null())
    }
}

impl PartialEq for Payload {
    /// Equal when the texts are.
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}
