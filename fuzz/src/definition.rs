//! Any text as a definition: it is read, or told with places what is wrong with it. What is read means the same once it
//! was written down in its canonical form.

use phasework_workflows::definition::{MAX_PROBLEMS, Problem, Severity, parse};

/// Reads `bytes` as a definition.
pub fn definition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let document = match parse(&text) {
        Ok(document) => document,
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity == Severity::Error), "refused without an error");
            assert!(problems.problems.len() <= 2 * MAX_PROBLEMS);
            return problems.iter().for_each(|problem| check_place(&text, problem));
        }
    };
    for warning in &document.warnings {
        assert_eq!(warning.severity, Severity::Warning);
        check_place(&text, warning);
    }
    let canonical = document.workflow.to_canonical_json();
    let again = parse(&canonical).unwrap_or_else(|problems| panic!("{canonical} is not read: {problems}")).workflow;
    assert_eq!(again, document.workflow, "{canonical}");
    assert_eq!(again.revision, document.workflow.revision, "{canonical}");
    assert_eq!(again.to_canonical_json(), canonical);
}

/// A problem stands in the text, and says what it is.
fn check_place(text: &str, problem: &Problem) {
    let start = (problem.line, problem.column);
    assert!(stands_in(text, start), "{problem} at {start:?} is not in the text");
    if let Some(end) = problem.end {
        let end = (end.line, end.column);
        assert!(stands_in(text, end) && start <= end, "{problem} from {start:?} to {end:?}");
    }
    assert!(problem.pointer.is_empty() || problem.pointer.starts_with('/'), "{problem}");
    assert!(!problem.message.is_empty() && problem.hint.as_deref() != Some(""), "{problem:?}");
}

/// Whether there is such a line, and such a column in it or just behind it. Line ends count as part of their line.
fn stands_in(text: &str, (line, column): (usize, usize)) -> bool {
    let written = line.checked_sub(1).and_then(|line| text.split('\n').nth(line));
    written.is_some_and(|written| (1..=written.chars().count() + 1).contains(&column))
}
