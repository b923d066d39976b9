//! Shows what is wrong with a definition where it is wrong: the line, a mark under the place, and what would be right.
//! Finds no problems itself.

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity, SourceSpan,
    ThemeCharacters, ThemeStyles,
};

use crate::output::Stream;
use crate::views::{PositionView, ProblemView};

/// Longest shown line of a definition: a mark under column 40,000 of a one-line file helps nobody.
const LONGEST_LINE: usize = 400;

/// Every problem of the definition `text`, called `name`, one below the other.
pub(crate) fn render_all(name: &str, text: &str, problems: &[ProblemView], stream: Stream) -> String {
    let handler = handler(stream);
    problems.iter().map(|problem| render(&handler, name, text, problem)).collect()
}

fn handler(stream: Stream) -> GraphicalReportHandler {
    let styles = if stream.paint().0 { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let width = stream.width().map_or(120, usize::from).clamp(40, 120);
    GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false)
        .with_context_lines(1)
        .without_syntax_highlighting()
}

fn render(handler: &GraphicalReportHandler, name: &str, text: &str, problem: &ProblemView) -> String {
    let mut diagnostic = MietteDiagnostic::new(&problem.message);
    let severity = if problem.is_warning() { Severity::Warning } else { Severity::Error };
    diagnostic = diagnostic.with_severity(severity);
    if let Some(hint) = &problem.hint {
        diagnostic = diagnostic.with_help(hint);
    }
    let span = span(text, problem);
    if let Some(span) = span {
        diagnostic = diagnostic.with_label(LabeledSpan::underline(span));
    }
    let report = Report::new(diagnostic);
    let mut shown = String::new();
    let rendered = match span {
        Some(_) => {
            let report = report.with_source_code(NamedSource::new(name, text.to_owned()));
            handler.render_report(&mut shown, report.as_ref())
        }
        None => handler.render_report(&mut shown, report.as_ref()),
    };
    match rendered {
        Ok(()) if span.is_some() => shown + "\n",
        Ok(()) => format!("{name}:{}:{}\n{shown}\n", problem.line, problem.column),
        Err(_) => format!("{name}: {}\n", problem.line()),
    }
}

/// Where a problem is, in bytes; nothing where showing it would not help.
fn span(text: &str, problem: &ProblemView) -> Option<SourceSpan> {
    let start = PositionView { line: problem.line, column: problem.column };
    let line = text.lines().nth(start.line.checked_sub(1)?)?;
    if line.len() > LONGEST_LINE {
        return None;
    }
    let from = offset(text, start)?;
    // A mark that spans lines hides what it points at: only its first line is marked.
    let line_end = from + line.len() - (from - offset(text, PositionView { column: 1, ..start })?);
    let to = problem.end.and_then(|end| offset(text, end)).unwrap_or_else(|| word_end(text, from));
    let to = to.clamp(from, line_end);
    Some((from, (to - from).max(usize::from(from < line_end))).into())
}

/// The end of what starts at a byte: a quoted text, a number or a word, or else one character.
fn word_end(text: &str, from: usize) -> usize {
    let rest = &text[from..];
    let quoted = rest.strip_prefix('"').and_then(|rest| rest.find('"')).map(|length| length + 2);
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let first = rest.chars().next().map_or(0, char::len_utf8);
    from + quoted.unwrap_or(word.max(first))
}

/// The byte at a place.
fn offset(text: &str, place: PositionView) -> Option<usize> {
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number + 1 == place.line {
            let column = place.column.checked_sub(1)?;
            let inside =
                line.char_indices().nth(column).map_or(line.trim_end_matches(['\n', '\r']).len(), |(at, _)| at);
            return Some(start + inside);
        }
        start += line.len();
    }
    (place.line == 1 || text.ends_with('\n')).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, column: usize, end: Option<(usize, usize)>) -> ProblemView {
        ProblemView {
            pointer: String::new(),
            line,
            column,
            end: end.map(|(line, column)| PositionView { line, column }),
            message: "no".into(),
            hint: Some("did you mean `yes`?".into()),
            severity: None,
        }
    }

    #[test]
    fn places_become_bytes() {
        let text = "{\n  \"ä\": 1,\n  \"b\": [\n 2]\n}\n";
        for (line, column, end, expected) in [
            (1, 1, None, Some((0, 1))),
            (2, 3, None, Some((4, 4))),
            (2, 8, None, Some((10, 1))),
            (2, 3, Some((2, 6)), Some((4, 4))),
            (3, 8, Some((4, 4)), Some((20, 1))),
            (5, 1, Some((9, 9)), Some((26, 1))),
            (6, 1, None, None),
            (0, 0, None, None),
        ] {
            let span = span(text, &problem(line, column, end)).map(|span| (span.offset(), span.len()));
            assert_eq!(span, expected, "{line}:{column}");
        }
    }

    #[test]
    fn the_line_the_mark_and_the_hint_are_shown() {
        let shown = render_all("w.json", "{\n  \"b\": no\n}", &[problem(2, 8, Some((2, 10)))], Stream::Err);
        for expected in ["no", "[w.json:2:8]", "\"b\": no", "did you mean `yes`?"] {
            assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_to_help_is_not_shown() {
        let shown = render_all("w.json", &"x".repeat(9000), &[problem(1, 8000, None)], Stream::Err);
        assert!(shown.len() < 200 && shown.contains("w.json:1:8000"), "{shown}");
    }
}
