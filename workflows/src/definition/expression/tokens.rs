//! Splits an expression into tokens as minijinja's lexer does, each with its place. Judges nothing: what is no
//! expression, minijinja refuses when it compiles.

use std::ops::Range;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name; which part it plays, the tokens around it tell.
    Name(Role),
    Text,
    Number,
    Symbol,
}

/// The part that a name plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A variable or a function.
    Value,
    /// `true`, `false` or `none`.
    Constant,
    /// Behind a dot.
    Attribute,
    /// Behind a `|`.
    Filter,
    /// Behind an `is`.
    Test,
    /// Before the `=` of a named argument.
    Argument,
    /// `and`, `or`, `not`, `in`, `is`, `if`, `else`.
    Operator,
}

impl Token {
    /// The token as it was written.
    pub(super) fn text<'s>(&self, source: &'s str) -> &'s str {
        &source[self.span.clone()]
    }

    /// Whether this is the symbol `symbol`.
    pub(super) fn is(&self, symbol: &str, source: &str) -> bool {
        self.kind == Kind::Symbol && self.text(source) == symbol
    }

    /// What a text in quotes says, if it says it without escapes.
    pub(super) fn unescaped<'s>(&self, source: &'s str) -> Option<&'s str> {
        let text = self.text(source);
        let inner = text.get(1..text.len().checked_sub(1)?)?;
        (self.kind == Kind::Text && !inner.contains('\\')).then_some(inner)
    }

    /// Whether this is a sign between two operands, or before one.
    fn is_sign(&self, source: &str) -> bool {
        let signs = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">="];
        self.kind == Kind::Symbol && signs.contains(&self.text(source))
    }

    /// Whether an operand can end with this token.
    pub(super) fn ends_operand(&self, source: &str) -> bool {
        match self.kind {
            Kind::Name(role) => !matches!(role, Role::Operator | Role::Argument),
            Kind::Text | Kind::Number => true,
            Kind::Symbol => matches!(self.text(source), ")" | "]" | "}"),
        }
    }
}

/// The tokens of `source`.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut found: Vec<Token> = scan(source).collect();
    assign_roles(&mut found, source);
    found
}

/// The tokens of `source`, one at a time; the roles of names are not known yet.
pub(super) fn scan(source: &str) -> impl Iterator<Item = Token> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (kind, length) = next(source, at)?;
            let span = at..at + length;
            at = span.end;
            if let Some(kind) = kind {
                return Some(Token { kind, span });
            }
        }
    })
}

/// What begins at `at` (nothing, if it is white space) and how long it is.
fn next(source: &str, at: usize) -> Option<(Option<Kind>, usize)> {
    let rest = source.get(at..).filter(|rest| !rest.is_empty())?;
    let bytes = rest.as_bytes();
    Some(match bytes[0] {
        byte if byte.is_ascii_whitespace() => (None, 1),
        quote @ (b'"' | b'\'') => (Some(Kind::Text), text_length(bytes, quote)),
        byte if byte.is_ascii_digit() => (Some(Kind::Number), number_length(bytes, source[..at].ends_with('.'))),
        byte if is_name_byte(byte) => {
            (Some(Kind::Name(Role::Value)), bytes.iter().take_while(|&&byte| is_name_byte(byte)).count())
        }
        _ => (Some(Kind::Symbol), symbol_length(rest)),
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn text_length(bytes: &[u8], quote: u8) -> usize {
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// A number that stands behind a dot is an index and has no fraction.
fn number_length(bytes: &[u8], is_index: bool) -> usize {
    if matches!(bytes, [b'0', b'b' | b'B' | b'o' | b'O' | b'x' | b'X', ..]) {
        return 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'_').count();
    }
    let digits = |from: usize| {
        from + bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count()
    };
    let mut end = digits(0);
    let starts_exponent = |at: usize| {
        matches!(bytes.get(at), Some(b'e' | b'E')) && matches!(bytes.get(at + 1), Some(b'+' | b'-' | b'0'..=b'9'))
    };
    if bytes.get(end) == Some(&b'.') && !is_index {
        let attribute = bytes.get(end + 1).is_some_and(|byte| is_name_byte(*byte) && !byte.is_ascii_digit());
        if attribute && !starts_exponent(end + 1) {
            return end;
        }
        end = digits(end + 1);
    }
    if starts_exponent(end) { digits(end + 2) } else { end }
}

fn symbol_length(rest: &str) -> usize {
    match rest.get(..2) {
        Some("**" | "//" | "==" | "!=" | "<=" | ">=") => 2,
        _ => rest.chars().next().map_or(1, char::len_utf8),
    }
}

fn assign_roles(tokens: &mut [Token], source: &str) {
    for at in 0..tokens.len() {
        if !matches!(tokens[at].kind, Kind::Name(_)) {
            continue;
        }
        let role = role(tokens, at, source);
        tokens[at].kind = Kind::Name(role);
    }
}

/// The role of the name at `at`; those of the names before it are known.
fn role(tokens: &[Token], at: usize, source: &str) -> Role {
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    let operator = |token: Option<&Token>, name: &str| {
        token.is_some_and(|token| token.kind == Kind::Name(Role::Operator) && token.text(source) == name)
    };
    if before(1).is_some_and(|token| token.is(".", source)) {
        return match before(2).map(|token| token.kind) {
            Some(Kind::Name(role @ (Role::Filter | Role::Test))) => role,
            _ => Role::Attribute,
        };
    }
    if before(1).is_some_and(|token| token.is("|", source)) {
        return Role::Filter;
    }
    let name = tokens[at].text(source);
    if operator(before(1), "is") && name != "not" || operator(before(1), "not") && operator(before(2), "is") {
        return Role::Test;
    }
    if tokens.get(at + 1).is_some_and(|token| token.is("=", source)) {
        return Role::Argument;
    }
    let behind_operand = before(1).is_some_and(|token| token.ends_operand(source));
    let behind_test = before(1).is_some_and(|token| token.kind == Kind::Name(Role::Test));
    let behind_sign = before(1).is_some_and(|token| token.is_sign(source)) || operator(before(1), "in");
    let is_operator = match name {
        // Where an operand has to follow, minijinja takes any word for a variable.
        "not" => !behind_test && !behind_sign,
        "in" => behind_operand && !behind_test || operator(before(1), "not"),
        "if" => behind_operand && !behind_test,
        "and" | "or" | "is" | "else" => behind_operand,
        _ => false,
    };
    match name {
        _ if is_operator => Role::Operator,
        "true" | "True" | "false" | "False" | "none" | "None" => Role::Constant,
        _ => Role::Value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(source: &str) -> Vec<(&str, Kind)> {
        tokens(source).iter().map(|token| (token.text(source), token.kind)).collect()
    }

    #[test]
    fn names_play_parts() {
        use Role::{Argument, Attribute, Constant, Filter, Operator, Test, Value};
        let roles = |source| {
            let names = tokens(source).into_iter().filter_map(|token| match token.kind {
                Kind::Name(role) => Some(role),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        for (source, expected) in [
            ("data.in.x", vec![Value, Attribute, Attribute]),
            ("a|map(attribute='b')|list", vec![Value, Filter, Argument, Filter]),
            ("a is not defined and b", vec![Value, Operator, Operator, Test, Operator, Value]),
            ("a is in b", vec![Value, Operator, Test, Value]),
            ("a not in none", vec![Value, Operator, Operator, Constant]),
            ("x if y else z", vec![Value, Operator, Value, Operator, Value]),
            ("f(a == b)", vec![Value, Value, Value]),
        ] {
            assert_eq!(roles(source), expected, "{source}");
        }
    }

    #[test]
    fn tokens_end_where_minijinja_ends_them() {
        for (source, expected) in [
            ("a.1.0", vec!["a", ".", "1", ".", "0"]),
            ("1.5|x", vec!["1.5", "|", "x"]),
            ("1.real", vec!["1", ".", "real"]),
            ("1.e5", vec!["1.e5"]),
            ("2e-3+0x1F", vec!["2e-3", "+", "0x1F"]),
            ("1_000//2**3", vec!["1_000", "//", "2", "**", "3"]),
            (r#"'a\'b' ~ "é""#, vec![r"'a\'b'", "~", "\"é\""]),
            ("'open", vec!["'open"]),
            ("a ≠ b", vec!["a", "≠", "b"]),
        ] {
            let found: Vec<_> = split(source).into_iter().map(|(text, _)| text).collect();
            assert_eq!(found, expected, "{source}");
        }
    }
}
