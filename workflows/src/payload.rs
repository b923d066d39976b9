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
    /// The deepest nesting that is taken: what is deeper could be stored, but not be read by those it is meant for.
    pub const MAX_DEPTH: usize = 100;

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

    /// How deep its lists and objects are nested.
    pub fn depth(&self) -> usize {
        depth(self.as_json())
    }

    /// Whether it keeps the limits: at most `max_bytes` long, nested at most [`MAX_DEPTH`](Self::MAX_DEPTH) deep.
    ///
    /// # Errors
    /// What is wrong, in words that follow the name of the thing.
    pub fn check(&self, max_bytes: usize) -> Result<(), String> {
        if self.len() > max_bytes {
            return Err(format!("is {} bytes long; at most {max_bytes} are taken", self.len()));
        }
        let depth = self.depth();
        if depth > Self::MAX_DEPTH {
            return Err(format!("is nested {depth} deep; at most {} is taken", Self::MAX_DEPTH));
        }
        Ok(())
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

/// The nesting of `json`, which is sound JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_texts() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{}],"b":[[1]]}"#, 3),
            (r#""[[[""#, 0),
            (r#"["\"[", "\\", "["]"#, 1),
            (r#"[{"]":"\\\""},[2]]"#, 2),
        ] {
            assert_eq!(depth(json), expected, "{json}");
        }
    }
}
