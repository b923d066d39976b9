//! What is wrong with a definition, and where: a JSON pointer, a line and a column, and what to do about it.
//! Never stops at the first problem: everything found in one reading is reported together.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::id::MAX_NAME_BYTES;

/// The most errors, and the most warnings, that one reading lists; the rest are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// How much comparing of names one reading does, in pairs of characters: a thousand wrong names among a thousand long
/// ones would take seconds.
const MAX_HINT_WORK: usize = 10_000_000;

/// Whether a problem keeps the definition from being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The definition cannot be used.
    Error,
    /// The definition can be used, but probably does not do what its author thinks.
    Warning,
}

/// A place in a text: both numbers start at 1, and columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the document, as a JSON pointer (RFC 6901); empty for the document itself.
    pub pointer: String,
    /// The line on which it starts, from 1.
    pub line: usize,
    /// The column at which it starts, from 1, in characters.
    pub column: usize,
    /// Just behind its last character, when it has an extent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if !self.pointer.is_empty() {
            write!(f, " [at {}]", self.pointer)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a definition, in the order of the text; at least one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The problems, [`MAX_PROBLEMS`] of each severity at most.
    pub problems: Vec<Problem>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Problems {
    /// Each problem in turn.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([problem], 0) = (self.problems.as_slice(), self.omitted) {
            return problem.fmt(f);
        }
        write!(f, "{} problems:", self.problems.len() + self.omitted)?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n  and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value's place in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pointer: String,
    pub(super) span: Range<usize>,
}

/// Gathers the problems of one text.
#[derive(Debug)]
pub(super) struct Report<'t> {
    pub(super) text: &'t str,
    line_starts: Vec<usize>,
    problems: Vec<(usize, Problem)>,
    errors: usize,
    warnings: usize,
    hint_work: Cell<usize>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, line_starts, problems: Vec::new(), errors: 0, warnings: 0, hint_work: Cell::new(0) }
    }

    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.add(Severity::Error, place, message.into(), None);
    }

    pub(super) fn error_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        self.add(Severity::Error, place, message.into(), hint);
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        self.add(Severity::Warning, place, message.into(), hint);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether no more errors are listed, so that their places need not be found.
    pub(super) fn is_full(&self) -> bool {
        self.errors >= MAX_PROBLEMS
    }

    /// The line of the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// Where the byte at `offset` is, for a reader.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = floor_char_boundary(self.text, offset);
        let line = self.line(offset);
        let start = self.line_starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }

    fn add(&mut self, severity: Severity, place: &Place, message: String, hint: Option<String>) {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count > MAX_PROBLEMS {
            return;
        }
        let Position { line, column } = self.position(place.span.start);
        let end = (place.span.end > place.span.start).then(|| self.position(place.span.end));
        let pointer = place.pointer.clone();
        self.problems.push((place.span.start, Problem { pointer, line, column, end, message, hint, severity }));
    }

    /// What was found, in the order of the text.
    pub(super) fn into_problems(mut self) -> Problems {
        self.problems.sort_by_key(|(offset, _)| *offset);
        let omitted = self.errors + self.warnings - self.problems.len();
        Problems { problems: self.problems.into_iter().map(|(_, problem)| problem).collect(), omitted }
    }

    /// "did you mean `x`?", when one of `candidates` is near enough to `written`.
    pub(super) fn did_you_mean<'a>(
        &self,
        written: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        if self.is_full() {
            return None;
        }
        let affordable = candidates.into_iter().take_while(|candidate| {
            let work = self.hint_work.get() + (written.len() + 1) * candidate.len();
            self.hint_work.set(work);
            work <= MAX_HINT_WORK
        });
        did_you_mean(written, affordable)
    }
}

/// The end of the last whole character that starts before or at `offset`.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// "did you mean `x`?", when one of `candidates` is near enough to `written`.
pub(super) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that `written` was most probably meant to be, if one is near enough.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 4 * MAX_NAME_BYTES {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ':'], "");
    let wanted = plain(written);
    let allowed = (written.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *candidate != written)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
