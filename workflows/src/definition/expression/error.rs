//! Why an expression or a template cannot be used, and where in it.

use std::fmt;
use std::ops::Range;

/// Why an expression or a template cannot be compiled or evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    message: String,
    hint: Option<String>,
    source: String,
    /// Where in the text, in bytes.
    range: Option<Range<usize>>,
    /// Where in the template the text stands, as a JSON pointer.
    pointer: String,
}

impl ExpressionError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, source: String::new(), range: None, pointer: String::new() }
    }

    pub(super) fn from_inner(error: &minijinja::Error) -> Self {
        use minijinja::ErrorKind::{InvalidOperation, OutOfFuel, SyntaxError, UndefinedError};
        let message = match (error.kind(), error.detail()) {
            (OutOfFuel, _) => "the expression takes too many steps".to_owned(),
            (UndefinedError, None) => "a value is undefined".to_owned(),
            (SyntaxError, Some(detail)) => format!("this is no expression: {detail}"),
            (InvalidOperation | UndefinedError, Some(detail)) => detail.to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        Self { range: error.range(), ..Self::new(message) }
    }

    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(super) fn at(mut self, range: Range<usize>) -> Self {
        self.range = Some(range);
        self
    }

    pub(super) fn map_range(mut self, map: impl Fn(usize) -> usize) -> Self {
        self.range = self.range.map(|range| map(range.start)..map(range.end));
        self
    }

    /// Names the text in which it happened, unless that is known already.
    pub(super) fn in_source(mut self, source: &str) -> Self {
        if self.source.is_empty() {
            source.clone_into(&mut self.source);
            self.range = self.range.map(|range| whole_characters(source, range));
        }
        self
    }

    /// Says that the text begins at `offset` of a longer one.
    pub(super) fn moved(mut self, offset: usize, longer: &str) -> Self {
        longer.clone_into(&mut self.source);
        self.map_range(|at| at + offset)
    }

    pub(super) fn at_pointer(mut self, pointer: &str) -> Self {
        pointer.clone_into(&mut self.pointer);
        self
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where in the expression, or in the template's text, in bytes.
    pub fn range(&self) -> Option<Range<usize>> {
        self.range.clone()
    }

    /// Which text of the template, as a JSON pointer; empty for an expression.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Line and column (in characters) in the expression, or in the template's text, both from 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let before = self.source.get(..self.range.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

/// `range` widened to whole characters of `source`: minijinja may point at a single byte of one.
fn whole_characters(source: &str, range: Range<usize>) -> Range<usize> {
    let is_boundary = |&at: &usize| source.is_char_boundary(at);
    let start = (0..=range.start.min(source.len())).rev().find(is_boundary).unwrap_or(0);
    let end = (range.end.max(start)..=source.len()).find(is_boundary).unwrap_or(source.len());
    start..end
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if !self.source.is_empty() {
            write!(f, ", in `{}`", crate::definition::node::shortened(&self.source))?;
        }
        match self.line_column() {
            Some((1, column)) => write!(f, " at column {column}")?,
            Some((line, column)) => write!(f, " at line {line}, column {column}")?,
            None => {}
        }
        if !self.pointer.is_empty() {
            write!(f, " [at {}]", self.pointer)?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpressionError {}
