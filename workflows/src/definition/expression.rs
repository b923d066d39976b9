//! Expressions and templates.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    source: String,
}

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    source: serde_json::Value,
}
