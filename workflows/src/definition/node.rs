//! A document as a tree in which every key and value knows where it stands in the text. JSON is read into it;
//! another syntax needs only a reader of its own.

use std::ops::Range;

use super::problem::{Place, Report};

/// A value of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    /// A number as it was written, so that nothing is lost of it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// What this is, for the sentence "this is …".
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::Null => "null".to_owned(),
            Content::Bool(value) => value.to_string(),
            Content::Number(text) => format!("the number {}", shortened(text)),
            Content::Text(text) => format!("the text \"{}\"", shortened(text).escape_debug()),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "an object".to_owned(),
        }
    }

    /// The value as compact JSON, every number as it was written.
    pub(super) fn write_json(&self, out: &mut String) {
        match &self.content {
            Content::Null => out.push_str("null"),
            Content::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Content::Number(text) => out.push_str(text),
            Content::Text(text) => out.push_str(&quoted(text)),
            Content::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write_json(out);
                }
                out.push(']');
            }
            Content::Map(members) => {
                out.push('{');
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&quoted(&member.key));
                    out.push(':');
                    member.value.write_json(out);
                }
                out.push('}');
            }
        }
    }
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `text`, or its beginning when it is long.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A value together with its place in the document.
#[derive(Clone, Debug)]
pub(super) struct Located<'n> {
    pub(super) pointer: String,
    pub(super) node: &'n Node,
}

impl<'n> Located<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { pointer: String::new(), node }
    }

    pub(super) fn place(&self) -> Place {
        Place { pointer: self.pointer.clone(), span: self.node.span.clone() }
    }

    /// The value of `member`, which is one of this object's.
    pub(super) fn member(&self, member: &'n Member) -> Self {
        Self { pointer: pointer_to(&self.pointer, &member.key), node: &member.value }
    }

    /// The place of a member's key.
    pub(super) fn key_place(&self, member: &Member) -> Place {
        Place { pointer: pointer_to(&self.pointer, &member.key), span: member.key_span.clone() }
    }

    /// The members, if this is an object.
    pub(super) fn members(&self, what: &str, report: &mut Report<'_>) -> Option<&'n [Member]> {
        match &self.node.content {
            Content::Map(members) => Some(members),
            _ => self.mismatch(what, "an object", report),
        }
    }

    /// The items, if this is a list.
    pub(super) fn items(&self, what: &str, report: &mut Report<'_>) -> Option<Vec<Self>> {
        match &self.node.content {
            Content::List(_) => Some(self.children().collect()),
            _ => self.mismatch(what, "a list", report),
        }
    }

    /// The text, if this is one.
    pub(super) fn text(&self, what: &str, report: &mut Report<'_>) -> Option<&'n str> {
        match &self.node.content {
            Content::Text(text) => Some(text),
            _ => self.mismatch(what, "a text in quotes", report),
        }
    }

    /// The truth value, if this is one.
    pub(super) fn boolean(&self, what: &str, report: &mut Report<'_>) -> Option<bool> {
        match &self.node.content {
            Content::Bool(value) => Some(*value),
            _ => self.mismatch(what, "true or false", report),
        }
    }

    /// The whole number, if this is one within `range`.
    pub(super) fn integer(
        &self,
        what: &str,
        range: std::ops::RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let expected = format!("a whole number from {least} to {most}");
        match &self.node.content {
            Content::Number(text) => match text.parse() {
                Ok(number) if range.contains(&number) => Some(number),
                _ => self.mismatch(what, &expected, report),
            },
            _ => self.mismatch(what, &expected, report),
        }
    }

    /// Reports that this is not what was expected.
    pub(super) fn mismatch<T>(&self, what: &str, expected: &str, report: &mut Report<'_>) -> Option<T> {
        report.error(&self.place(), format!("`{what}` must be {expected}; this is {}", self.node.describe()));
        None
    }

    /// The values in this list or object.
    pub(super) fn children(&self) -> impl Iterator<Item = Self> {
        let (items, members): (&[Node], &[Member]) = match &self.node.content {
            Content::List(items) => (items, &[]),
            Content::Map(members) => (&[], members),
            _ => (&[], &[]),
        };
        let items = items.iter().enumerate().map(|(at, node)| (at.to_string(), node));
        let members = members.iter().map(|member| (member.key.clone(), &member.value));
        let pointer = self.pointer.clone();
        items.chain(members).map(move |(step, node)| Self { pointer: pointer_to(&pointer, &step), node })
    }

    /// The value at the relative JSON pointer `path`.
    pub(super) fn descend(&self, path: &str) -> Self {
        let mut here = self.clone();
        for step in path.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &here.node.content {
                Content::Map(members) => members.iter().find(|member| member.key == step).map(|member| &member.value),
                Content::List(items) => step.parse().ok().and_then(|at: usize| items.get(at)),
                _ => None,
            };
            let Some(node) = next else { break };
            here = Self { pointer: pointer_to(&here.pointer, &step), node };
        }
        here
    }

    /// The place of the bytes `within` the text of this string (after its escapes were resolved).
    pub(super) fn within(&self, within: &Range<usize>, report: &Report<'_>) -> Place {
        if report.is_full() {
            return self.place();
        }
        let literal = &report.text[self.node.span.clone()];
        let offset = |decoded| self.node.span.start + literal_offset(literal, decoded);
        Place { pointer: self.pointer.clone(), span: offset(within.start)..offset(within.end) }
    }
}

/// `pointer`, one step further.
pub(super) fn pointer_to(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Where in the JSON string `literal` (with its quotes) the byte `decoded` of its text is written.
fn literal_offset(literal: &str, decoded: usize) -> usize {
    let (mut written, mut read) = (1, 0);
    let bytes = literal.as_bytes();
    while read < decoded && written + 1 < bytes.len() {
        let (width, meant) = match (bytes[written], bytes.get(written + 1)) {
            (b'\\', Some(b'u')) => escaped_unit(literal, written),
            (b'\\', _) => (2, 1),
            _ => {
                let width = literal[written..].chars().next().map_or(1, char::len_utf8);
                (width, width)
            }
        };
        written += width;
        read += meant;
    }
    written.min(literal.len())
}

/// The length of the `\u` escape at `at`, and of the UTF-8 that it stands for.
fn escaped_unit(literal: &str, at: usize) -> (usize, usize) {
    let unit = |at: usize| literal.get(at + 2..at + 6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match unit(at) {
        Some(0xd800..=0xdbff) => (12, 4), // a pair of surrogates
        Some(code) => (6, char::from_u32(code).map_or(3, char::len_utf8)),
        None => (6, 3),
    }
}
