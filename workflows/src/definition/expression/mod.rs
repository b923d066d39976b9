//! What a definition computes. An expression is one of minijinja's, without statements, macros or anything that
//! depends on time, chance or the world; filters, tests and functions are those that `environment.rs` lists. However
//! short it is written, it ends soon and within bounds: steps, bytes, items and depth are limited.

mod environment;
mod error;
mod guard;
#[cfg(test)]
mod properties;
mod reads;
mod result;
mod scope;
mod template;
mod tokens;

use std::fmt;
use std::sync::Arc;

use minijinja::value::Value as Inner;
use serde_json::Value;

pub use error::ExpressionError;
pub use reads::{OutputReads, Reads};
pub(in crate::definition) use reads::{Read, accessor};
pub use result::{MAX_LIST_ITEMS, MAX_RESULT_BYTES, MAX_RESULT_DEPTH};
pub(in crate::definition) use scope::VARIABLES;
pub use scope::{RUN_FACTS, Scope};
pub(in crate::definition) use template::Placed;
pub use template::{MAX_RENDERED_BYTES, MAX_TEMPLATE_EXPRESSIONS, Template};

use environment::ENVIRONMENT;
use guard::Guarded;
use result::{Room, to_json};
use tokens::{Kind, Role, Token};

/// The longest expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;

/// The most words, numbers, texts and signs in an expression. It bounds how deep compiling it recurses.
pub const MAX_EXPRESSION_TOKENS: usize = 300;

/// The deepest nesting of brackets in an expression.
pub const MAX_EXPRESSION_DEPTH: usize = 30;

/// An expression over [`Scope`]: `outputs.searching.GoogleSearcher.urls`. Compiled once, cheap to clone.
///
/// - Values: `data`, `outputs.<phase>.<handler>`, `run.<fact>`, and in the input of a job of a list `item` and `index`.
///   A name with `-` or `:` in it is written in brackets: `outputs['fetching-pages'].PageDownloader`. What is not there
///   is an error, unless `default` or `is defined` provides for it.
/// - Operators: `+ - * / // % **`, `~` (joins texts), `== != < <= > >=`, `in`, `not in`, `and`, `or`, `not`,
///   `a if condition else b`, `is <test>`, `| <filter>`, `[…]`, `{…}`, `list[1:3]`.
/// - Filters: `abs` `attr` `batch` `bool` `capitalize` `count` `d` `default` `dictsort` `first` `flatten` `float`
///   `groupby` `int` `items` `join` `last` `length` `lines` `list` `lower` `map` `max` `min` `reject` `rejectattr`
///   `replace` `reverse` `round` `select` `selectattr` `sort` `split` `string` `sum` `title` `tojson` `trim` `unique`
///   `upper` `urlencode` `zip`. They are minijinja's, except that `flatten` makes one list of a list of lists, and that
///   `join`, `string` and `tojson` write what is no text as JSON.
/// - Tests: `boolean` `defined` `divisibleby` `endingwith` `eq` `equalto` `even` `false` `float` `ge` `greaterthan` `gt`
///   `in` `int` `integer` `iterable` `le` `lessthan` `lower` `lt` `mapping` `ne` `none` `number` `odd` `sequence`
///   `startingwith` `string` `true` `undefined` `upper`.
/// - Functions: `range` (up to 100,000 items; a count of jobs is a number), `dict`.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    guarded: Guarded,
    program: minijinja::Expression<'static, 'static>,
    reads: Vec<Read>,
    expects_missing: bool,
}

impl Expression {
    /// Compiles `source`.
    ///
    /// # Errors
    /// When `source` is no expression, or names a filter, a test or a function that there is not.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        Self::compile(source).map_err(|error| error.in_source(source))
    }

    fn compile(source: &str) -> Result<Self, ExpressionError> {
        let tokens = limited_tokens(source)?;
        let guarded = guard::guard(source, &tokens);
        let program = ENVIRONMENT.compile_expression_owned(guarded.source.clone()).map_err(|error| {
            ExpressionError::from_inner(&error).map_range(|at| guarded.original(at)).with_hint(syntax_hint(source))
        })?;
        check_names(&tokens, source)?;
        let reads = reads::reads(&tokens, source);
        let expects_missing = tokens.iter().any(|token| {
            let role = matches!(token.kind, Kind::Name(Role::Filter | Role::Test));
            role && matches!(token.text(source), "d" | "default" | "defined" | "undefined")
        });
        Ok(Self(Arc::new(Compiled { source: source.into(), guarded, program, reads, expects_missing })))
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What evaluating it needs of a scope.
    pub fn reads(&self) -> Reads {
        Reads::of(&self.0.reads)
    }

    pub(in crate::definition) fn paths(&self) -> &[Read] {
        &self.0.reads
    }

    /// Whether it says what holds when something is not there.
    pub(in crate::definition) fn expects_missing(&self) -> bool {
        self.0.expects_missing
    }

    /// The value of this expression in `scope`: at most [`MAX_RESULT_BYTES`] of JSON.
    ///
    /// # Errors
    /// When a value that it uses is not there or of another type, or it goes beyond a limit.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        self.run(&scope.root(), |value| to_json(value, &mut Room::new(MAX_RESULT_BYTES)))
    }

    /// Evaluates to a value of minijinja's and lets `finish` use it; all errors get their place.
    fn run<T>(
        &self,
        root: &Inner,
        finish: impl FnOnce(&Inner) -> Result<T, ExpressionError>,
    ) -> Result<T, ExpressionError> {
        let evaluated = self
            .0
            .program
            .eval(root.clone())
            .map_err(|error| ExpressionError::from_inner(&error).map_range(|at| self.0.guarded.original(at)));
        let finished = evaluated.and_then(|value| finish(&value));
        finished.map_err(|error| self.name_the_missing(error, root).in_source(self.source()))
    }

    /// Says which path was undefined, where the text tells.
    fn name_the_missing(&self, error: ExpressionError, root: &Inner) -> ExpressionError {
        if !error.message().contains("undefined") {
            return error;
        }
        let missing = self.0.reads.iter().find_map(|read| missing_part(read, root));
        match missing {
            Some((message, range)) => ExpressionError::new(message).at(range),
            None => error,
        }
    }
}

/// What of `read` is not there.
fn missing_part(read: &Read, root: &Inner) -> Option<(String, std::ops::Range<usize>)> {
    let mut path = read.root.clone();
    let mut value = root.get_attr(&read.root).ok()?;
    if value.is_undefined() {
        return Some((format!("`{path}` is not there"), read.span.clone()));
    }
    for step in &read.steps {
        let next = value.get_attr(&step.name).ok().filter(|next| !next.is_undefined());
        let Some(next) = next else {
            return Some((format!("`{path}` has no `{}`", step.name), step.span.clone()));
        };
        path.push_str(&accessor(&step.name));
        value = next;
    }
    None
}

/// The tokens of `source`, if there are no more and no deeper ones than compiling it can stand.
fn limited_tokens(source: &str) -> Result<Vec<Token>, ExpressionError> {
    let refuse = |message: String| Err(ExpressionError::new(message));
    if source.trim().is_empty() {
        return refuse("the expression is empty".to_owned());
    }
    if source.len() > MAX_EXPRESSION_BYTES {
        let length = source.len();
        return refuse(format!("an expression has at most {MAX_EXPRESSION_BYTES} bytes; this one has {length}"));
    }
    let tokens = tokens::tokens(source);
    if tokens.len() > MAX_EXPRESSION_TOKENS {
        let count = tokens.len();
        return refuse(format!(
            "an expression has at most {MAX_EXPRESSION_TOKENS} words and signs; this one has {count}"
        ));
    }
    let mut depth = 0_usize;
    for token in &tokens {
        match token.text(source) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_EXPRESSION_DEPTH {
            let message = format!("brackets are nested more than {MAX_EXPRESSION_DEPTH} deep here");
            return Err(ExpressionError::new(message).at(token.span.clone()));
        }
    }
    Ok(tokens)
}

fn syntax_hint(source: &str) -> Option<String> {
    let hint = if source.contains("{{") {
        "an expression is written without `{{ }}`"
    } else if source.contains("&&") || source.contains("||") || source.trim_start().starts_with('!') {
        "the words are `and`, `or` and `not`"
    } else if source.contains('$') {
        "a path begins with a variable: `outputs.search.Searcher.urls`"
    } else if source.contains('?') {
        "a choice is written `a if condition else b`"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Checks that every filter, test and function exists.
fn check_names(tokens: &[Token], source: &str) -> Result<(), ExpressionError> {
    for (at, token) in tokens.iter().enumerate() {
        let is_call = tokens.get(at + 1).is_some_and(|next| next.is("(", source));
        let (what, known): (_, &[&str]) = match token.kind {
            Kind::Name(Role::Filter) => ("filter", &environment::FILTERS),
            Kind::Name(Role::Test) => ("test", &environment::TESTS),
            Kind::Name(Role::Value) if is_call => ("function", &environment::FUNCTIONS),
            Kind::Name(Role::Attribute) if is_call => {
                let message = format!("values have no methods, so `.{}(…)` cannot be called", token.text(source));
                let hint = Some("filters do such work: `text | upper`".to_owned());
                return Err(ExpressionError::new(message).with_hint(hint).at(token.span.clone()));
            }
            _ => continue,
        };
        let name = token.text(source);
        if !known.contains(&name) {
            let hint = crate::definition::problem::did_you_mean(name, known.iter().copied());
            let error = ExpressionError::new(format!("there is no {what} `{name}`"));
            return Err(error.with_hint(hint).at(token.span.clone()));
        }
    }
    Ok(())
}

impl PartialEq for Expression {
    /// Equal when the texts are.
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.source())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.source())
    }
}
