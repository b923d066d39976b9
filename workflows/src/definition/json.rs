//! Reads strict JSON into [`Node`]s. Size and depth are checked by one linear scan before anything recurses, so that
//! no text can exhaust the stack. What is JSON and what is not, serde_json decides; where things stand, jsonc-parser.

use std::collections::HashMap;
use std::ops::Range;

use jsonc_parser::ast;

use super::node::{Content, Located, Member, Node};
use super::problem::{Place, Report};

/// The longest definition, in bytes.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;

/// The deepest nesting of lists and objects in a definition.
pub const MAX_DEFINITION_DEPTH: usize = 64;

/// The document in `text`; without one, `report` says why.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    if text.len() > MAX_DEFINITION_BYTES {
        let message =
            format!("a definition has at most {MAX_DEFINITION_BYTES} bytes; this one has {} bytes", text.len());
        let hint = "give large data when the run is started, or pass a reference to it".to_owned();
        report.error_with_hint(&document(0..0), message, Some(hint));
        return None;
    }
    if text.starts_with('\u{feff}') {
        report.error(&document(0..0), "the file starts with a byte order mark; save it as UTF-8 without one");
        return None;
    }
    if let Some(at) = too_deep(text) {
        let message = format!("lists and objects are nested more than {MAX_DEFINITION_DEPTH} deep here");
        report.error(&document(at..at + 1), message);
        return None;
    }
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        syntax_error(text, &error, report);
        return None;
    }
    let parsed = match jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &strict()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let range = error.range();
            report.error(&document(range.start..range.end), format!("this is not JSON: {}", error.kind()));
            return None;
        }
    };
    let node = parsed.value.map(convert)?;
    duplicates(&Located::root(&node), report);
    Some(node)
}

fn document(span: Range<usize>) -> Place {
    Place { pointer: String::new(), span }
}

fn strict() -> jsonc_parser::ParseOptions {
    jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// The first bracket that opens one level too many.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEFINITION_DEPTH {
                    return Some(at);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Puts serde_json's complaint in place: it counts lines from 1, and columns in bytes.
fn syntax_error(text: &str, error: &serde_json::Error, report: &mut Report<'_>) {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    let place = document(at..at);
    if text.trim().is_empty() {
        report.error(&place, "the document is empty; a definition is a JSON object");
        return;
    }
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    let message = match message {
        "EOF while parsing a value" => "the text ends where a value is expected",
        "EOF while parsing a string" => "the text ends within a string: expected `\"`",
        "EOF while parsing an object" => "the text ends within an object: expected `,` or `}`",
        "EOF while parsing a list" => "the text ends within a list: expected `,` or `]`",
        "trailing characters" => "the document ends here: expected nothing more",
        "trailing comma" => "expected another element after the comma",
        "expected value" => "expected a value: an object, a list, a text in quotes, a number, true, false or null",
        "key must be a string" => "expected a key in double quotes",
        other => other,
    };
    report.error_with_hint(&place, format!("this is not JSON: {message}"), syntax_hint(&text[floor(text, at)..]));
}

/// What the author may have had in mind who wrote `rest` where something else was expected.
fn syntax_hint(rest: &str) -> Option<String> {
    let hint = match rest.chars().next()? {
        '/' | '#' => "JSON has no comments; put them into `description`",
        '\'' => "JSON takes double quotes only",
        ']' | '}' => "JSON allows no comma before a closing bracket",
        'N' | 'T' | 'F' => "JSON writes null, true and false in small letters",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn convert(value: ast::Value<'_>) -> Node {
    let span = |range: jsonc_parser::common::Range| range.start..range.end;
    match value {
        ast::Value::NullKeyword(null) => Node { span: span(null.range), content: Content::Null },
        ast::Value::BooleanLit(lit) => Node { span: span(lit.range), content: Content::Bool(lit.value) },
        ast::Value::NumberLit(lit) => Node { span: span(lit.range), content: Content::Number(lit.value.to_owned()) },
        ast::Value::StringLit(lit) => Node { span: span(lit.range), content: Content::Text(lit.value.into_owned()) },
        ast::Value::Array(array) => {
            let items = array.elements.into_iter().map(convert).collect();
            Node { span: span(array.range), content: Content::List(items) }
        }
        ast::Value::Object(object) => {
            let members = object.properties.into_iter().map(|property| {
                let (key, key_range) = match property.name {
                    ast::ObjectPropName::String(lit) => (lit.value.into_owned(), lit.range),
                    ast::ObjectPropName::Word(word) => (word.value.to_owned(), word.range),
                };
                Member { key, key_span: span(key_range), value: convert(property.value) }
            });
            Node { span: span(object.range), content: Content::Map(members.collect()) }
        }
    }
}

/// Reports every key that an object has twice.
fn duplicates(here: &Located<'_>, report: &mut Report<'_>) {
    if let Content::Map(members) = &here.node.content {
        let mut seen = HashMap::new();
        for member in members {
            if let Some(first) = seen.insert(member.key.as_str(), member.key_span.start) {
                let line = report.line(first);
                let message = format!("the key `{}` is here twice; the first is on line {line}", member.key);
                report.error(&here.key_place(member), message);
            }
        }
    }
    here.children().for_each(|child| duplicates(&child, report));
}
