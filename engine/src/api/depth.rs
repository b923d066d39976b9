//! How deep a JSON value is nested: what is too deep could be stored, but not be read by those it is meant for.

use phasework_workflows::Payload;

use super::error::ApiError;

/// The deepest nesting of lists and objects in a run's data.
pub const MAX_DATA_DEPTH: usize = 100;

/// Refuses data that is nested too deep.
pub(super) fn check(data: &Payload) -> Result<(), ApiError> {
    let depth = depth(data.as_json());
    if depth > MAX_DATA_DEPTH {
        let words = format!("`data` is nested {depth} deep; at most {MAX_DATA_DEPTH} is taken");
        return Err(ApiError::invalid(words));
    }
    Ok(())
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
