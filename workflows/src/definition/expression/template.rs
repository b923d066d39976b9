//! A JSON value whose texts may hold expressions: `{ "url": "{{ item }}", "note": "page {{ index + 1 }}" }`. A text that
//! is one single expression becomes its value, whatever its type; within a longer text, a value that is no text is
//! written as JSON. Keys are taken as they are. A literal `{{` is written `{{ '{{' }}`.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::result::{Room, text_length, to_json, to_text};
use super::tokens;
use super::{Expression, ExpressionError, Read, Reads, Scope};
use crate::definition::node::pointer_to;

/// The largest value that a template may give, in bytes of JSON.
pub const MAX_RENDERED_BYTES: usize = 1024 * 1024;

/// The most expressions in a template.
pub const MAX_TEMPLATE_EXPRESSIONS: usize = 1000;

/// A JSON value whose texts may hold expressions. Compiled once, cheap to clone.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: Value,
    part: Part,
    expressions: Vec<Placed>,
}

/// An expression of a template, and where it stands.
#[derive(Debug)]
pub(in crate::definition) struct Placed {
    /// Which text of the template.
    pub(in crate::definition) pointer: String,
    /// Where in this text the expression begins.
    pub(in crate::definition) offset: usize,
    pub(in crate::definition) expression: Expression,
}

/// A compiled piece of the template; expressions are named by their number.
enum Part {
    /// A value without expressions, and its size.
    Fixed(Value, usize),
    Value(usize),
    Text(Vec<Piece>),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

enum Piece {
    Fixed(String),
    Expression(usize),
}

impl Part {
    fn fixed(value: &Value) -> Self {
        Self::Fixed(value.clone(), value.to_string().len())
    }

    fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed(..))
    }
}

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    /// When one of its texts holds something that is no expression.
    pub fn parse(source: Value) -> Result<Self, ExpressionError> {
        Self::parse_all(source).map_err(|mut broken| broken.errors.remove(0))
    }

    /// Compiles `source`, or gives everything that is wrong in it.
    pub(in crate::definition) fn parse_all(source: Value) -> Result<Self, Broken> {
        let mut compiler = Broken { expressions: Vec::new(), errors: Vec::new() };
        let part = compiler.part("", &source);
        if compiler.errors.is_empty() {
            Ok(Self(Arc::new(Compiled { source, part, expressions: compiler.expressions })))
        } else {
            Err(compiler)
        }
    }

    /// The template as it was written.
    pub fn source(&self) -> &Value {
        &self.0.source
    }

    /// What rendering it needs of a scope.
    pub fn reads(&self) -> Reads {
        let paths = self.0.expressions.iter().flat_map(|placed| placed.expression.paths());
        Reads::of(paths.collect::<Vec<&Read>>())
    }

    pub(in crate::definition) fn expressions(&self) -> &[Placed] {
        &self.0.expressions
    }

    /// The value of this template in `scope`: at most [`MAX_RENDERED_BYTES`] of JSON.
    ///
    /// # Errors
    /// When one of its expressions cannot be evaluated, or it goes beyond a limit.
    pub fn render(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        self.0.render(&self.0.part, scope, &mut Room::new(MAX_RENDERED_BYTES))
    }
}

impl Compiled {
    fn render(&self, part: &Part, scope: &Scope, room: &mut Room) -> Result<Value, ExpressionError> {
        Ok(match part {
            Part::Fixed(value, size) => {
                room.take(*size)?;
                value.clone()
            }
            Part::Value(number) => self.evaluate(*number, scope, |value| to_json(value, room))?,
            Part::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Fixed(fixed) => {
                            room.take(text_length(fixed))?;
                            text.push_str(fixed);
                        }
                        Piece::Expression(number) => {
                            text.push_str(&self.evaluate(*number, scope, |value| to_text(value, room))?);
                        }
                    }
                }
                Value::String(text)
            }
            Part::List(parts) => {
                let items = parts.iter().map(|part| self.render(part, scope, room));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Part::Map(parts) => {
                let members = parts.iter().map(|(key, part)| Ok((key.clone(), self.render(part, scope, room)?)));
                Value::Object(members.collect::<Result<Map<_, _>, _>>()?)
            }
        })
    }

    fn evaluate<T>(
        &self,
        number: usize,
        scope: &Scope,
        finish: impl FnOnce(&minijinja::Value) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let placed = &self.expressions[number];
        placed.expression.run(&scope.root(), finish).map_err(|error| error.at_pointer(&placed.pointer))
    }
}

/// A template that is being compiled, or that could not be.
#[derive(Debug)]
pub(in crate::definition) struct Broken {
    /// What could be compiled.
    pub(in crate::definition) expressions: Vec<Placed>,
    /// What could not; at least one, once compiling has failed.
    pub(in crate::definition) errors: Vec<ExpressionError>,
}

impl Broken {
    fn part(&mut self, pointer: &str, value: &Value) -> Part {
        match value {
            Value::String(text) if text.contains("{{") || text.contains("{%") => self.text(pointer, text),
            Value::Array(items) => {
                let parts = items.iter().enumerate();
                let parts = parts.map(|(at, item)| self.part(&pointer_to(pointer, &at.to_string()), item));
                let parts: Vec<_> = parts.collect();
                if parts.iter().all(Part::is_fixed) { Part::fixed(value) } else { Part::List(parts) }
            }
            Value::Object(members) => {
                let parts = members.iter().map(|(key, item)| (key.clone(), self.part(&pointer_to(pointer, key), item)));
                let parts: Vec<_> = parts.collect();
                if parts.iter().all(|(_, part)| part.is_fixed()) { Part::fixed(value) } else { Part::Map(parts) }
            }
            _ => Part::fixed(value),
        }
    }

    fn text(&mut self, pointer: &str, text: &str) -> Part {
        match self.pieces(pointer, text) {
            Ok(mut pieces) => match pieces.as_slice() {
                [Piece::Expression(number)] => Part::Value(*number),
                _ => {
                    pieces.retain(|piece| !matches!(piece, Piece::Fixed(text) if text.is_empty()));
                    Part::Text(pieces)
                }
            },
            Err(error) => {
                self.errors.push(error.at_pointer(pointer));
                Part::fixed(&Value::Null)
            }
        }
    }

    fn pieces(&mut self, pointer: &str, text: &str) -> Result<Vec<Piece>, ExpressionError> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find("{{") {
            let start = at + found + 2;
            refuse_statements(text, at..at + found)?;
            if found > 0 {
                pieces.push(Piece::Fixed(text[at..at + found].to_owned()));
            }
            let Some(end) = expression_end(text, start) else {
                let error = ExpressionError::new("this `{{` has no `}}`");
                return Err(error.at(start - 2..start).in_source(text));
            };
            if self.expressions.len() == MAX_TEMPLATE_EXPRESSIONS {
                let message = format!("a template has at most {MAX_TEMPLATE_EXPRESSIONS} expressions");
                return Err(ExpressionError::new(message).at(start - 2..end + 2).in_source(text));
            }
            let expression = Expression::parse(&text[start..end]).map_err(|error| error.moved(start, text))?;
            pieces.push(Piece::Expression(self.expressions.len()));
            self.expressions.push(Placed { pointer: pointer.to_owned(), offset: start, expression });
            at = end + 2;
        }
        refuse_statements(text, at..text.len())?;
        if at < text.len() {
            pieces.push(Piece::Fixed(text[at..].to_owned()));
        }
        Ok(pieces)
    }
}

fn refuse_statements(text: &str, range: std::ops::Range<usize>) -> Result<(), ExpressionError> {
    let Some(found) = text[range.clone()].find("{%") else { return Ok(()) };
    let at = range.start + found;
    let hint = "use filters within `{{ }}`, such as `join` and `map`; a literal `{%` is written `{{ '{%' }}`";
    let error = ExpressionError::new("`{% %}` is not supported").with_hint(Some(hint.to_owned()));
    Err(error.at(at..at + 2).in_source(text))
}

/// Where the `}}` stands that ends the expression that begins at `start`.
fn expression_end(text: &str, start: usize) -> Option<usize> {
    let source = &text[start..];
    let mut depth = 0_usize;
    let mut tokens = tokens::scan(source).peekable();
    while let Some(token) = tokens.next() {
        match token.text(source) {
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 0 => {
                let closes =
                    tokens.peek().is_some_and(|next| next.is("}", source) && next.span.start == token.span.end);
                return closes.then(|| start + token.span.start);
            }
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

impl PartialEq for Template {
    /// Equal when the sources are.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.source())
    }
}
