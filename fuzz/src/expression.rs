//! Any text as an expression, as a template, and as a version requirement. Evaluating ends soon and within bounds,
//! which the fuzzer's own limits on time and memory watch; what comes out keeps the limits and is the same every time.

use phasework_workflows::Payload;
use phasework_workflows::definition::{
    Expression, ExpressionError, MAX_EXPRESSION_BYTES, MAX_RENDERED_BYTES, MAX_RESULT_BYTES, Scope, Template,
    VersionRequirement,
};
use semver::Version;
use serde_json::{Value, json};

/// Reads `bytes` as each of them.
pub fn expression(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let scope = scope();
    match Expression::parse(&text) {
        Ok(expression) => {
            assert!(text.len() <= MAX_EXPRESSION_BYTES && expression.source() == text);
            check(&text, || expression.evaluate(&scope), MAX_RESULT_BYTES);
        }
        Err(error) => check_error(&text, &error),
    }
    check_template(Value::from(&*text), &scope);
    if let Ok(template) = serde_json::from_str(&text) {
        check_template(template, &scope);
    }
    check_requirement(&text);
}

fn check_template(source: Value, scope: &Scope) {
    let text = source.to_string();
    match Template::parse(source) {
        Ok(template) => check(&text, || template.render(scope), MAX_RENDERED_BYTES),
        Err(error) => assert!(!error.message().is_empty(), "{text}"),
    }
}

/// What comes out is within bounds and no matter of chance.
fn check(text: &str, evaluate: impl Fn() -> Result<Value, ExpressionError>, most: usize) {
    let first = evaluate();
    match &first {
        Ok(value) => assert!(value.to_string().len() <= most, "{text} gives more than {most} bytes"),
        Err(error) => assert!(!error.message().is_empty(), "{text}"),
    }
    let second = evaluate();
    assert_eq!(first.ok(), second.ok(), "{text} gives different values");
}

/// What is wrong stands in the text.
fn check_error(text: &str, error: &ExpressionError) {
    assert!(!error.message().is_empty(), "{text}");
    if let Some(range) = error.range() {
        assert!(range.start <= range.end && range.end <= text.len(), "{error} at {range:?} of {text:?}");
        assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end), "{range:?} of {text:?}");
    }
}

/// What is read is written as it is read, and decides alike.
fn check_requirement(text: &str) {
    let Ok(requirement) = VersionRequirement::parse(text) else { return };
    let again = VersionRequirement::parse(requirement.as_str());
    assert_eq!(again.as_ref(), Ok(&requirement), "{text} is written as {}", requirement.as_str());
    let versions = versions();
    let highest = requirement.highest(&versions);
    assert!(highest.is_none_or(|version| requirement.matches(version)), "{text}: {highest:?}");
    if let Ok(version) = Version::parse(text) {
        assert!(requirement.matches(&version), "{text} does not match itself");
    }
}

fn versions() -> Vec<Version> {
    let version = |text| Version::parse(text).expect("a version");
    ["0.0.0", "0.0.1", "0.1.0", "1.0.0-alpha.1", "1.0.0", "1.0.0+build", "1.2.3", "2.0.0", "10.20.30"]
        .map(version)
        .to_vec()
}

fn scope() -> Scope {
    let data = json!({
        "a": 1, "b": -2.5, "n": null, "yes": true, "text": "grün\n \"x\"", "list": [3, 1, 2, 1], "big": u64::MAX,
        "map": { "k": [{ "id": 1, "tags": ["x"] }, { "id": 2, "tags": [] }], "with-dash": "v" },
    });
    let outputs = json!({ "searching": { "Searcher": { "urls": ["https://a.example", "https://b.example"] } } });
    let run = json!({ "id": "r", "workflow": "w", "phase": "p", "entry": 1 });
    Scope::new(&Payload::from(data), outputs, run).with_item(7, json!({ "url": "https://a.example" }))
}
