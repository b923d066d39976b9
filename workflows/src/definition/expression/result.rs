//! Turns what an expression gives into JSON. Lists in minijinja can be lazy, so what is short to write can be endless
//! to write out: bytes, items and depth are counted while it is written.

use minijinja::value::{Value as Inner, ValueKind};
use serde_json::{Map, Number, Value};

use super::error::ExpressionError;

/// The largest value that an expression may give, in bytes of JSON.
pub const MAX_RESULT_BYTES: usize = 64 * 1024 * 1024;

/// The most items in a list that an expression gives.
pub const MAX_LIST_ITEMS: usize = 1_000_000;

/// The deepest nesting of a value that an expression gives.
pub const MAX_RESULT_DEPTH: usize = 100;

/// How many bytes may still be written.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    of: usize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes, of: bytes }
    }

    /// Takes `bytes` of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(ExpressionError::new(format!("the result is larger than {} bytes", self.of))),
        }
        Ok(())
    }
}

/// `value` as JSON, within `room`.
pub(super) fn to_json(value: &Inner, room: &mut Room) -> Result<Value, ExpressionError> {
    write(value, room, 0)
}

fn write(value: &Inner, room: &mut Room, depth: usize) -> Result<Value, ExpressionError> {
    if depth > MAX_RESULT_DEPTH {
        return Err(ExpressionError::new(format!("the result is nested more than {MAX_RESULT_DEPTH} deep")));
    }
    room.take(1)?;
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(ExpressionError::new("the result is undefined")),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => {
            let number = number(value)?;
            room.take(number_length(&number))?;
            Value::Number(number)
        }
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            room.take(text_length(text))?;
            Value::String(text.to_owned())
        }
        ValueKind::Seq | ValueKind::Iterable => list(value, room, depth)?,
        ValueKind::Map => map(value, room, depth)?,
        ValueKind::Invalid => return Err(invalid(value)),
        ValueKind::Plain if value.as_object().is_some() => {
            return Err(ExpressionError::new("the result is a function; call it: `range(10)`"));
        }
        kind => return Err(ExpressionError::new(format!("a value of type {kind} is no JSON"))),
    })
}

fn list(value: &Inner, room: &mut Room, depth: usize) -> Result<Value, ExpressionError> {
    let too_long = || ExpressionError::new(format!("the list has more than {MAX_LIST_ITEMS} items"));
    let length = value.len().unwrap_or(0);
    if length > MAX_LIST_ITEMS {
        return Err(too_long());
    }
    let mut items = Vec::with_capacity(length);
    for item in value.try_iter().map_err(|error| ExpressionError::from_inner(&error))? {
        if items.len() == MAX_LIST_ITEMS {
            return Err(too_long());
        }
        items.push(write(&item, room, depth + 1)?);
    }
    Ok(Value::Array(items))
}

fn map(value: &Inner, room: &mut Room, depth: usize) -> Result<Value, ExpressionError> {
    let mut members = Map::with_capacity(value.len().unwrap_or(0).min(64));
    for (key, member) in value.as_object().and_then(minijinja::value::DynObject::try_iter_pairs).into_iter().flatten() {
        let name = match key.kind() {
            ValueKind::String | ValueKind::Number | ValueKind::Bool => key.to_string(),
            kind => return Err(ExpressionError::new(format!("a value of type {kind} is no key of a JSON object"))),
        };
        room.take(text_length(&name) + 1)?;
        members.insert(name, write(&member, room, depth + 1)?);
    }
    Ok(Value::Object(members))
}

/// How many bytes `text` takes as a JSON string.
pub(super) fn text_length(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 1,
        0..=0x1f => 5,
        _ => 0,
    });
    text.len() + 2 + escapes.sum::<usize>()
}

/// How many bytes `number` takes at most.
fn number_length(number: &Number) -> usize {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number.checked_ilog10().map_or(1, |digits| digits as usize + 1),
        (_, Some(number)) => number.unsigned_abs().ilog10() as usize + 2,
        _ => 24,
    }
}

/// Whole numbers stay whole; what JSON cannot say is an error rather than a null.
fn number(value: &Inner) -> Result<Number, ExpressionError> {
    if value.is_integer() {
        let whole = i128::try_from(value.clone()).ok().and_then(Number::from_i128);
        return whole.ok_or_else(|| ExpressionError::new("the number is too large for a 64-bit integer"));
    }
    let float = f64::try_from(value.clone()).ok().and_then(Number::from_f64);
    float.ok_or_else(|| ExpressionError::new(format!("the number is {value}, which JSON cannot say")))
}

fn invalid(value: &Inner) -> ExpressionError {
    match value.try_iter() {
        Err(error) => ExpressionError::from_inner(&error),
        Ok(_) => ExpressionError::new("the result is not valid"),
    }
}

/// `value` as it appears in the middle of a text: a text as it is, anything else as JSON.
pub(super) fn to_text(value: &Inner, room: &mut Room) -> Result<String, ExpressionError> {
    match value.as_str() {
        Some(text) => {
            room.take(text.len())?;
            Ok(text.to_owned())
        }
        None => Ok(to_json(value, room)?.to_string()),
    }
}
