//! The filters, tests and functions of expressions: those of minijinja that only compute, each within a budget.
//! What makes much out of little (padding, repeating) is left out, or measured before it is made.

use std::fmt::Display;
use std::sync::LazyLock;

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, filters, functions, tests};

use super::guard;
use super::result::{Room, to_text};

/// How many instructions one evaluation may take. Expressions have no loops, so few take a hundred.
const FUEL: u64 = 10_000;

/// How many steps the filters and tests of one evaluation may take: roughly, how many items they look at.
const STEPS: u64 = 8_000_000;

/// How many bytes of text the filters and operators of one evaluation may make.
const TEXT_BYTES: u64 = 16 * 1024 * 1024;

/// Where expressions are compiled and evaluated.
pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    for (name, filter) in plain_filters() {
        environment.add_filter(name, counted(filter));
    }
    for (name, test) in plain_tests() {
        environment.add_test(name, counted(test));
    }
    environment.add_filter("batch", batch);
    environment.add_filter("flatten", flatten);
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("string", as_text);
    environment.add_filter("sum", sum);
    environment.add_filter("tojson", as_json);
    environment.add_filter(guard::FACTOR, factor);
    environment.add_filter(guard::TEXT, text);
    environment.add_filter(guard::TERM, term);
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment
});

/// The functions that an expression may call.
pub(super) const FUNCTIONS: [&str; 2] = ["dict", "range"];

/// The filters of our own; the others are in [`plain_filters`].
const OWN_FILTERS: [&str; 7] = ["batch", "flatten", "join", "replace", "string", "sum", "tojson"];

/// The names of all filters that a definition may use.
pub(super) static FILTERS: LazyLock<Vec<&str>> =
    LazyLock::new(|| plain_filters().into_iter().map(|(name, _)| name).chain(OWN_FILTERS).collect());

/// The names of all tests that a definition may use.
pub(super) static TESTS: LazyLock<Vec<&str>> =
    LazyLock::new(|| plain_tests().into_iter().map(|(name, _)| name).collect());

/// Filters whose results are no larger than what they are given, by a small factor.
fn plain_filters() -> [(&'static str, Value); 35] {
    [
        ("abs", Value::from_function(filters::abs)),
        ("attr", Value::from_function(filters::attr)),
        ("bool", Value::from_function(filters::bool)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("count", Value::from_function(filters::length)),
        ("d", Value::from_function(filters::default)),
        ("default", Value::from_function(filters::default)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("groupby", Value::from_function(filters::groupby)),
        ("int", Value::from_function(filters::int)),
        ("items", Value::from_function(filters::items)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("round", Value::from_function(filters::round)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
        ("urlencode", Value::from_function(filters::urlencode)),
        ("zip", Value::from_function(filters::zip)),
    ]
}

/// Tests; all of them only look.
fn plain_tests() -> [(&'static str, Value); 31] {
    [
        ("boolean", Value::from_function(tests::is_boolean)),
        ("defined", Value::from_function(tests::is_defined)),
        ("divisibleby", Value::from_function(tests::is_divisibleby)),
        ("endingwith", Value::from_function(tests::is_endingwith)),
        ("eq", Value::from_function(tests::is_eq)),
        ("equalto", Value::from_function(tests::is_eq)),
        ("even", Value::from_function(tests::is_even)),
        ("false", Value::from_function(tests::is_false)),
        ("float", Value::from_function(tests::is_float)),
        ("ge", Value::from_function(tests::is_ge)),
        ("greaterthan", Value::from_function(tests::is_gt)),
        ("gt", Value::from_function(tests::is_gt)),
        ("in", Value::from_function(tests::is_in)),
        ("int", Value::from_function(tests::is_integer)),
        ("integer", Value::from_function(tests::is_integer)),
        ("iterable", Value::from_function(tests::is_iterable)),
        ("le", Value::from_function(tests::is_le)),
        ("lessthan", Value::from_function(tests::is_lt)),
        ("lt", Value::from_function(tests::is_lt)),
        ("mapping", Value::from_function(tests::is_mapping)),
        ("ne", Value::from_function(tests::is_ne)),
        ("none", Value::from_function(tests::is_none)),
        ("number", Value::from_function(tests::is_number)),
        ("odd", Value::from_function(tests::is_odd)),
        ("sequence", Value::from_function(tests::is_sequence)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
        ("string", Value::from_function(tests::is_string)),
        ("true", Value::from_function(tests::is_true)),
        ("undefined", Value::from_function(tests::is_undefined)),
        ("lower", Value::from_function(tests::is_lower)),
        ("upper", Value::from_function(tests::is_upper)),
    ]
}

/// What is left to one evaluation.
struct Budget {
    steps: u64,
    text_bytes: u64,
}

/// Takes `steps` and `text_bytes` out of the budget of the evaluation that `state` belongs to.
fn spend(state: &mut State<'_, '_>, steps: u64, text_bytes: u64) -> Result<(), Error> {
    let budget = state.get_or_insert_extension_with(|| Budget { steps: STEPS, text_bytes: TEXT_BYTES });
    let left =
        |left: u64, taken, what| left.checked_sub(taken).ok_or_else(|| refused(format!("the expression {what}")));
    budget.steps = left(budget.steps, steps, "takes too many steps")?;
    budget.text_bytes = left(budget.text_bytes, text_bytes, "makes too much text")?;
    Ok(())
}

fn refused(message: impl Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}

/// The steps that it takes to look at `value`, and the bytes of its text.
fn size(value: &Value) -> (u64, u64) {
    match value.as_str() {
        Some(text) => (1, text.len() as u64),
        None => (1 + value.len().unwrap_or(0) as u64, 0),
    }
}

/// A filter or a test, paid for by what it is given or what it gives, whichever is more.
fn counted(function: Value) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error> {
    move |state, arguments| {
        let arguments = arguments.into_values();
        let given = arguments.iter().map(|value| size(value).0).sum();
        spend(state, given, 0)?;
        let result = function.call(state, &arguments)?;
        let (steps, text_bytes) = size(&result);
        spend(state, steps.saturating_sub(given), text_bytes)?;
        Ok(result)
    }
}

fn factor(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => {
            Err(refused("`*` multiplies numbers only; it does not repeat texts or lists"))
        }
        _ => Ok(value.clone()),
    }
}

fn text(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            Err(refused("`~` joins texts and numbers; turn a list or an object into text with `join` or `tojson`"))
        }
        ValueKind::Bool | ValueKind::None => text_of(state, value).map(Value::from),
        _ => term(state, value),
    }
}

fn term(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let (steps, text_bytes) = size(value);
    spend(state, steps, text_bytes)?;
    Ok(value.clone())
}

/// The text of `value` within a longer text, paid for.
fn text_of(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    let room = usize::try_from(TEXT_BYTES).unwrap_or(usize::MAX);
    let text = to_text(value, &mut Room::new(room)).map_err(|error| refused(error.message()))?;
    spend(state, 1 + text.len() as u64 / 16, text.len() as u64)?;
    Ok(text)
}

fn as_text(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    text_of(state, value)
}

fn as_json(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => text_of(state, &Value::from(text)).map(|text| crate::definition::node::quoted(&text)),
        None => text_of(state, value),
    }
}

fn join(state: &mut State<'_, '_>, list: &Value, separator: Option<&str>) -> Result<String, Error> {
    let separator = separator.unwrap_or("");
    let mut joined = String::new();
    for (at, item) in list.try_iter()?.enumerate() {
        if at > 0 {
            spend(state, 0, separator.len() as u64)?;
            joined.push_str(separator);
        }
        joined.push_str(&text_of(state, &item)?);
    }
    Ok(joined)
}

fn replace(state: &mut State<'_, '_>, text: &str, from: &str, to: &str) -> Result<String, Error> {
    spend(state, 1 + text.len() as u64 / 16, text.len() as u64)?;
    let times = text.matches(from).count() as u64;
    spend(state, times, times.saturating_mul(to.len() as u64))?;
    Ok(text.replace(from, to))
}

fn batch(state: &mut State<'_, '_>, list: &Value, size: usize) -> Result<Value, Error> {
    if size == 0 {
        return Err(refused("`batch` needs the number of items in a batch, at least 1"));
    }
    let items: Vec<Value> = collect(state, list)?;
    Ok(items.chunks(size).map(|chunk| Value::from(chunk.to_vec())).collect())
}

fn flatten(state: &mut State<'_, '_>, list: &Value) -> Result<Value, Error> {
    let mut flat = Vec::new();
    for inner in collect(state, list)? {
        flat.extend(collect(state, &inner)?);
    }
    Ok(Value::from(flat))
}

fn sum(state: &mut State<'_, '_>, list: &Value) -> Result<Value, Error> {
    let numbers = Value::from(collect(state, list)?);
    Value::from_function(filters::sum).call(state, &[numbers])
}

/// The items of `list`, paid for one by one, as the list may be lazy.
fn collect(state: &mut State<'_, '_>, list: &Value) -> Result<Vec<Value>, Error> {
    if list.kind() == ValueKind::String || list.is_undefined() {
        return Err(refused("a list is needed here"));
    }
    let mut items = Vec::new();
    for item in list.try_iter()? {
        spend(state, 1, 0)?;
        items.push(item);
    }
    Ok(items)
}
