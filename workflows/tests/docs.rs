//! What the documentation shows is what the language takes: definitions, expressions, version requirements, limits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use phasework_workflows::definition::{
    self, Document, Expression, MAX_DEFINITION_BYTES, MAX_DEFINITION_DEPTH, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH,
    MAX_EXPRESSION_TOKENS, MAX_FOR_EACH_COUNT, MAX_HANDLERS, MAX_LIST_ITEMS, MAX_PHASES, MAX_PROBLEMS,
    MAX_RENDERED_BYTES, MAX_RESULT_BYTES, MAX_RESULT_DEPTH, MAX_TEMPLATE_EXPRESSIONS, Scope, VersionRequirement, parse,
};
use phasework_workflows::id::MAX_NAME_BYTES;
use phasework_workflows::message::MAX_PAYLOAD_BYTES;
use phasework_workflows::run::MAX_ENTRIES;
use phasework_workflows::{Payload, Version};
use serde_json::Value;

const REFERENCE: &str = include_str!("../../docs/definition.md");
const README: &str = include_str!("../../README.md");

/// The code blocks of `text` in this language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let opening = format!("\n```{language}\n");
    let rest = text.split(&opening).skip(1);
    rest.map(|rest| rest.split_once("\n```").expect("every block is closed").0).collect()
}

fn definitions(text: &str) -> Vec<Document> {
    let with_phases = blocks(text, "json").into_iter().filter(|block| block.contains("\"phases\""));
    with_phases.map(|block| parse(block).unwrap_or_else(|problems| panic!("{problems}\n{block}"))).collect()
}

/// What stands between backquotes in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The part of the reference between two texts that are each in it once.
fn part(from: &str, to: &str) -> &'static str {
    assert_eq!(REFERENCE.matches(from).count(), 1, "{from}");
    REFERENCE.split_once(from).unwrap().1.split_once(to).unwrap_or_else(|| panic!("{to} does not follow {from}")).0
}

#[test]
fn every_definition_is_valid_and_has_no_warnings() {
    for (text, at_least) in [(REFERENCE, 6), (README, 1)] {
        let documents = definitions(text);
        assert!(documents.len() >= at_least, "{} definitions", documents.len());
        for document in documents {
            assert_eq!(document.warnings, [], "{}", document.workflow.name);
        }
    }
}

#[test]
fn both_spellings_are_one_workflow() {
    let documents = definitions(REFERENCE);
    assert_eq!(documents[0].workflow, documents[1].workflow);
    assert!(documents[1].data.is_some());
}

#[test]
fn every_expression_gives_what_stands_beside_it() {
    let values = blocks(REFERENCE, "json").into_iter().find(|block| block.contains("\"item\"")).unwrap();
    let values: Value = serde_json::from_str(values).unwrap();
    let scope = Scope::new(&Payload::from(values["data"].clone()), values["outputs"].clone(), values["run"].clone());
    let scope = scope.with_item(values["index"].as_u64().unwrap(), values["item"].clone());
    let rows: Vec<_> = blocks(REFERENCE, "text").into_iter().flat_map(str::lines).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let (expression, expected) = row.split_once('→').unwrap_or_else(|| panic!("{row}"));
        let found = Expression::parse(expression.trim()).and_then(|expression| expression.evaluate(&scope));
        let found = found.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(found, serde_json::from_str::<Value>(expected).unwrap(), "{row}");
    }
}

#[test]
fn every_filter_and_test_exists() {
    for (from, to, begin) in
        [("- **Filters**: ", "They are minijinja's", "data | "), ("- **Tests**: ", "- **Functions**", "data is ")]
    {
        let names: Vec<_> = quoted(part(from, to)).collect();
        assert!(names.len() > 30);
        for name in names {
            // `is not` is an operator, and a name that stands alone may lack its arguments: only its absence is asked.
            let error = Expression::parse(&format!("{begin}{name}")).err().map(|error| error.to_string());
            assert!(!error.as_ref().is_some_and(|error| error.contains("there is no")), "{name}: {error:?}");
        }
    }
}

#[test]
fn every_requirement_takes_and_refuses_what_stands_beside_it() {
    let rows: Vec<Vec<_>> = part("## Versions", "Mind that").lines().map(|line| line.split('|').collect()).collect();
    let rows: Vec<_> = rows.into_iter().filter(|cells| cells.len() == 6 && cells[1].contains('`')).collect();
    assert!(rows.len() > 10);
    for cells in rows {
        for requirement in quoted(cells[1]) {
            let parsed = VersionRequirement::parse(requirement).unwrap();
            let matches = |text: &str| parsed.matches(&text.parse::<Version>().unwrap());
            assert!(quoted(cells[3]).all(matches), "`{requirement}` refuses one of {}", cells[3]);
            assert!(!quoted(cells[4]).any(matches), "`{requirement}` takes one of {}", cells[4]);
        }
    }
}

/// A number as the documentation writes it: 1,048,576.
fn written(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn limits_are_those_of_the_code() {
    let rows: Vec<&str> = part("## Limits", "An expression also").lines().collect();
    for (what, limits) in [
        ("| a definition |", vec![MAX_DEFINITION_BYTES, MAX_DEFINITION_DEPTH]),
        ("| phases in a workflow |", vec![MAX_PHASES]),
        ("| handlers in a phase |", vec![MAX_HANDLERS]),
        ("| a name |", vec![MAX_NAME_BYTES]),
        ("| phases that one run enters |", vec![MAX_ENTRIES as usize]),
        ("| an expression |", vec![MAX_EXPRESSION_BYTES, MAX_EXPRESSION_TOKENS, MAX_EXPRESSION_DEPTH]),
        ("| expressions in a template |", vec![MAX_TEMPLATE_EXPRESSIONS]),
        ("| what an expression gives |", vec![MAX_RESULT_BYTES, MAX_RESULT_DEPTH, MAX_LIST_ITEMS]),
        ("| what a template gives |", vec![MAX_RENDERED_BYTES]),
        ("| jobs from a number in `for_each` |", vec![usize::try_from(MAX_FOR_EACH_COUNT).unwrap()]),
        ("| run data, an input, an output, a result |", vec![MAX_PAYLOAD_BYTES]),
        ("| problems that are listed |", vec![MAX_PROBLEMS]),
    ] {
        let row = rows.iter().find(|row| row.starts_with(what)).unwrap_or_else(|| panic!("no row {what}"));
        let numbers =
            row[what.len()..].split(|c: char| !c.is_ascii_digit() && c != ',').map(|word| word.trim_matches(','));
        let numbers: Vec<_> = numbers.filter(|word| !word.is_empty()).collect();
        for limit in limits {
            assert!(numbers.contains(&written(limit as u64).as_str()), "{limit} is not in: {row}");
        }
    }
    let (default, most) = (definition::DEFAULT_TIMEOUT.to_string(), definition::MAX_TIMEOUT.0 / 86_400_000);
    let row = REFERENCE.lines().find(|line| line.starts_with("| `timeout` | length")).unwrap();
    assert!(row.contains(&format!("`\"{default}\"`")) && row.contains(&format!("{most} days")), "{row}");
}

#[test]
fn what_is_not_supported_yet_is_refused_as_such() {
    let rows = part("## What is not supported yet", "So there are no");
    let mut count = 0;
    for row in rows.lines().filter(|line| line.starts_with("| a ")) {
        for key in quoted(row) {
            let extra = |here: &str| if row.starts_with(here) { format!("\"{key}\": 1, ") } else { String::new() };
            let (workflow, phase, handler) = (extra("| a workflow"), extra("| a phase"), extra("| a handler"));
            let text = format!(
                r#"{{ {workflow}"name": "w", "phases": [
                    {{ {phase}"name": "p", "is_initial": true, "is_final": true, "handlers": [{{ {handler}"name": "H" }}] }}] }}"#
            );
            let problems = parse(&text).unwrap_err().to_string();
            assert!(problems.contains(&format!("`{key}` is not supported yet")), "{row}: {problems}");
            count += 1;
        }
    }
    assert_eq!(count, 23);
}
