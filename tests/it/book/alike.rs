//! Whether a command wrote what the page says. `…` stands for anything: within a line, as a line for any number of lines,
//! and in JSON for any value, any other items, any other fields. Any id is like any other, and so is any time and any nonce; what the
//! page's ids were this time is told, for the commands that name them. JSON may be laid out in any way.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands for anything.
const ANYTHING: &str = "…";

/// What the ids of a page were this time.
pub(super) type Renamed = BTreeMap<String, String>;

/// Whether `written` is what is `expected`.
pub(super) fn is_answer(written: &[&str], expected: &[&str], renamed: &mut Renamed) -> bool {
    let (head, body) = split(expected);
    let (written_head, written_body) = split(written);
    match (read(&completed(&body)), read(&written_body)) {
        (Some(body), Some(written)) => {
            are_like(&written_head, &head, renamed) && is_value_like(&written, &body, renamed)
        }
        _ => are_like(written, expected, renamed),
    }
}

/// The lines before the first that begins JSON, and all from there on.
fn split<'l>(lines: &[&'l str]) -> (Vec<&'l str>, String) {
    let at = lines.iter().position(|line| line.starts_with(['{', '['])).unwrap_or(lines.len());
    (lines[..at].to_vec(), lines[at..].join("\n"))
}

fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// JSON with `…` in it, as JSON: for a value, an item or a field there stands a text or a field of that name.
fn completed(text: &str) -> String {
    let mut out = String::new();
    let mut within = Vec::new();
    let (mut is_text, mut is_escaped, mut last) = (false, false, ' ');
    for c in text.chars() {
        if is_text {
            (is_text, is_escaped) = (is_escaped || c != '"', !is_escaped && c == '\\');
            out.push(c);
        } else if c == '…' {
            let is_field = within.last() == Some(&'{') && last != ':';
            out += if is_field { "\"…\": \"…\"" } else { "\"…\"" };
        } else {
            match c {
                '"' => is_text = true,
                '{' | '[' => within.push(c),
                '}' | ']' => drop(within.pop()),
                _ => {}
            }
            out.push(c);
        }
        if !c.is_whitespace() {
            last = c;
        }
    }
    out
}

fn is_value_like(written: &Value, expected: &Value, renamed: &mut Renamed) -> bool {
    match (written, expected) {
        (_, Value::String(text)) if text == ANYTHING => true,
        (Value::String(written), Value::String(expected)) => is_line_like(written, expected, renamed),
        (Value::Array(written), Value::Array(expected)) => are_items_like(written, expected, renamed),
        (Value::Object(written), Value::Object(expected)) => {
            let is_whole = !expected.contains_key(ANYTHING);
            let named = || expected.iter().filter(|(name, _)| *name != ANYTHING);
            (!is_whole || written.len() == expected.len())
                && named().all(|(name, value)| {
                    written.get(name).is_some_and(|written| is_value_like(written, value, renamed))
                })
        }
        (Value::Number(written), Value::Number(expected)) if is_nonce(written) && is_nonce(expected) => {
            renamed.insert(expected.to_string(), written.to_string());
            true
        }
        _ => written == expected,
    }
}

/// So large a number was drawn at random.
fn is_nonce(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|number| number > 1_000_000_000_000)
}

fn are_items_like(written: &[Value], expected: &[Value], renamed: &mut Renamed) -> bool {
    match expected.split_first() {
        None => written.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=written.len()).any(|at| are_items_like(&written[at..], rest, renamed))
        }
        Some((first, rest)) => written.split_first().is_some_and(|(written, more)| {
            is_value_like(written, first, renamed) && are_items_like(more, rest, renamed)
        }),
    }
}

/// Whether lines are what is expected.
fn are_like(lines: &[&str], expected: &[&str], renamed: &mut Renamed) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&ANYTHING, rest)) => (0..=lines.len()).any(|at| are_like(&lines[at..], rest, renamed)),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, more)| is_line_like(line, first, renamed) && are_like(more, rest, renamed)),
    }
}

fn is_line_like(written: &str, expected: &str, renamed: &mut Renamed) -> bool {
    let (written, ids) = without_ids(&without_columns(written));
    let (expected, names) = without_ids(&without_columns(expected));
    let is_like = is_like(&written, &expected) || is_like(written.trim_end(), expected.trim_end());
    if is_like && ids.len() == names.len() {
        renamed.extend(names.into_iter().zip(ids));
    }
    is_like
}

/// The text with two spaces for any larger gap: how wide the columns of a table are depends on what is in them.
fn without_columns(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("   ") {
        text = text.replace("   ", "  ");
    }
    text
}

/// Whether `text` is what `pattern` says.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split(ANYTHING);
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The text with `<id>` and `<time>` in place of ids and times, and the ids. Ids are UUIDs and revisions.
fn without_ids(text: &str) -> (String, Vec<String>) {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let (mut out, mut ids) = (String::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        let word = &rest[..rest.find(|c| !is_inside(c)).unwrap_or(rest.len())];
        let name = word.trim_end_matches(['.', ':']);
        if is_id(name) {
            ids.push(name.to_owned());
            out = out + "<id>" + &word[name.len()..];
        } else if is_time(name) {
            out = out + "<time>" + &word[name.len()..];
        } else {
            out += word;
        }
        rest = &rest[word.len()..];
        let gap = &rest[..rest.find(is_inside).unwrap_or(rest.len())];
        out += gap;
        rest = &rest[gap.len()..];
    }
    (out, ids)
}

fn is_id(word: &str) -> bool {
    let lengths: Vec<_> = word.split('-').map(str::len).collect();
    word.chars().all(|c| c == '-' || matches!(c, '0'..='9' | 'a'..='f'))
        && (lengths == [8, 4, 4, 4, 12] || lengths == [32])
}

fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    ["0000-00-00T00:00:00.000Z", "0000-00-00T00:00:00Z"].contains(&shape.as_str())
}

#[test]
fn what_a_page_says_is_compared_with_what_is_written() {
    const ID: &str = "f500960e-3b0e-521a-bca5-5b15162919b0";
    const OTHER: &str = "0199e8f2-4c1b-7d10-9c55-0a9a7c3f2b11";
    let alike = |written: &str, expected: &str| {
        let (written, expected): (Vec<_>, Vec<_>) = (written.lines().collect(), expected.lines().collect());
        is_answer(&written, &expected, &mut Renamed::new())
    };
    for (written, expected) in [
        ("x 1\nend", "x …\n…\nend"),
        ("x \na\nb\nend", "x …\n…\nend"),
        ("a b c", "a…c"),
        ("a      b", "a  b"),
        ("at 2026-11-21T21:49:08.001Z.", "at 2026-01-31T12:00:00.000Z."),
        ("{\"a\":1,\"b\":[1,2]}", "{\"a\": …,\n \"b\": [1, …]}"),
        ("{\"a\":1,\"b\":[1,2]}", "{\"b\": […, 2], …}"),
        ("{\"a\":1,\"b\":[{},3]}", "{…}"),
        ("{\"a\":\"it is x\"}", "{\"a\": \"… x\"}"),
        ("HTTP/1.1 201 Created\n\n{\"a\":null}", "HTTP/1.1 201 Created\n…\n{\"a\": null}"),
        ("[\"\\\"\"]", "[\"\\\"\"]"),
    ] {
        assert!(alike(written, expected), "{written} is not {expected}");
    }
    for (written, expected) in [
        ("x 1", "x …\n…\nend"),
        ("y\nend", "x …\nend"),
        ("x\nend\nz", "x…\n…\nend"),
        ("abc", "a…d"),
        ("a   b", "a b"),
        ("{\"a\":1,\"b\":2}", "{\"a\": 1}"),
        ("{\"a\":1}", "{\"a\": 1, \"b\": …}"),
        ("{\"a\":[1,2]}", "{\"a\": [1]}"),
        ("{\"a\":1}", "{\"a\": \"1\"}"),
        ("0 {}", "{}"),
        (ID, "f500960e"),
    ] {
        assert!(!alike(written, expected), "{written} is {expected}");
    }
    let mut renamed = Renamed::new();
    let (written, expected) =
        (format!("[\"{ID}\",{0}7]", "4503599627370"), format!("[\"{OTHER}\", {0}8]", "4503599627370"));
    assert!(is_answer(&[&written], &[&expected], &mut renamed));
    let expected = [("45035996273708", "45035996273707"), (OTHER, ID)];
    let mut expected: Vec<_> = expected.map(|(page, here)| (page.to_owned(), here.to_owned())).into();
    expected.sort();
    assert_eq!(renamed.into_iter().collect::<Vec<_>>(), expected);
}
