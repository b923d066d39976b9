//! Keeps `*`, `~` and `+` from making much out of little: `'x' * 100000000` costs minijinja one unit of fuel. Before an
//! expression is compiled, a filter that passes its value on, or refuses, is put behind each operand. A filter binds
//! tighter than all three operators, so the meaning stays.

use super::tokens::{Kind, Role, Token};

/// Refuses what is no number: an operand of `*`.
pub(super) const FACTOR: &str = "__factor";

/// Refuses lists and objects, spells true, false and none as JSON does, and counts the bytes of texts: an operand of `~`.
pub(super) const TEXT: &str = "__text";

/// Counts the bytes of texts and the items of lists: an operand of `+`.
pub(super) const TERM: &str = "__term";

/// An expression with guards in it.
#[derive(Debug, PartialEq)]
pub(super) struct Guarded {
    pub(super) source: String,
    /// Where the guards begin in `source`, and how long each is.
    insertions: Vec<(usize, usize)>,
}

impl Guarded {
    /// Where in the expression as it was written the byte `offset` of the guarded one stands.
    pub(super) fn original(&self, offset: usize) -> usize {
        let inserted = self.insertions.iter().map_while(|&(at, length)| (at < offset).then(|| length.min(offset - at)));
        offset - inserted.sum::<usize>()
    }
}

/// Puts the guards into `source`.
pub(super) fn guard(source: &str, tokens: &[Token]) -> Guarded {
    let mut wanted: Vec<(usize, &str)> = Vec::new();
    for (at, token) in tokens.iter().enumerate().skip(1) {
        let filter = match (token.kind, token.text(source)) {
            (Kind::Symbol, "*") => FACTOR,
            (Kind::Symbol, "~") => TEXT,
            (Kind::Symbol, "+") => TERM,
            _ => continue,
        };
        let left = &tokens[at - 1];
        if !left.ends_operand(source) {
            continue; // a sign, or the star of `f(*list)`
        }
        // Behind the name of a test, minijinja takes some operators for an argument. Its result is no text anyway.
        if left.kind != Kind::Name(Role::Test) {
            wanted.push((left.span.end, filter));
        }
        wanted.extend(operand_end(&tokens[at + 1..], source).map(|end| (end, filter)));
    }
    // The one that refuses texts comes last: what another has turned into a text must not be repeated either.
    wanted.sort_unstable_by_key(|&(at, filter)| (at, filter == FACTOR, filter));
    wanted.dedup();
    let mut guarded =
        Guarded { source: String::with_capacity(source.len() + wanted.len() * 10), insertions: Vec::new() };
    let mut copied = 0;
    for (at, filter) in wanted {
        guarded.source.push_str(&source[copied..at]);
        guarded.insertions.push((guarded.source.len(), filter.len() + 1));
        guarded.source.push('|');
        guarded.source.push_str(filter);
        copied = at;
    }
    guarded.source.push_str(&source[copied..]);
    guarded
}

/// Where the operand ends with which `tokens` begin: a sign, a primary expression, and what is attached to it. None for
/// one that is tested (`x is odd`): it is the test's result that counts then.
fn operand_end(tokens: &[Token], source: &str) -> Option<usize> {
    let signs = tokens.iter().take_while(|token| token.is("-", source)).count();
    let mut end = signs + group_length(&tokens[signs..], source)?;
    loop {
        let rest = &tokens[end..];
        let is = |symbol| rest.first().is_some_and(|token| token.is(symbol, source));
        if is(".") || is("|") {
            end += 2.min(rest.len());
        } else if is("(") || is("[") {
            end += group_length(rest, source)?;
        } else {
            break;
        }
    }
    let is_tested = tokens.get(end).is_some_and(|token| token.text(source) == "is");
    tokens.get(end - 1).filter(|_| !is_tested).map(|token| token.span.end)
}

/// How many tokens the first one takes, with all that is in its brackets.
fn group_length(tokens: &[Token], source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Symbol {
            match token.text(source) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    #[test]
    fn every_operand_has_a_guard() {
        for (source, expected) in [
            ("a.b", "a.b"),
            ("a * b", "a|F * b|F"),
            ("a ** b * c", "a ** b|F * c|F"),
            ("a * b ** c", "a|F * b|F ** c"),
            ("-a * -b[0].c(1)|d(2)", "-a|F * -b[0].c(1)|d(2)|F"),
            ("a * b is odd", "a|F * b is odd"),
            ("a ~ b * c", "a|X ~ b|X|F * c|F"),
            ("a + b + c", "a|T + b|T + c|T"),
            ("(a or b) * [c][0]", "(a or b)|F * [c][0]|F"),
            ("f(*a, **b)", "f(*a, **b)"),
            ("data.in + 1", "data.in|T + 1|T"),
            ("a is odd * b", "a is odd * b|F"),
            ("'*' ~ x", "'*'|X ~ x|X"),
            ("x *", "x|F *"),
            ("* x", "* x"),
        ] {
            let expected = expected.replace("|F", "|__factor").replace("|T", "|__term").replace("|X", "|__text");
            assert_eq!(guard(source, &tokens(source)).source, expected, "{source}");
        }
    }

    #[test]
    fn places_are_found_again() {
        let source = "a * b.x ~ c";
        let guarded = guard(source, &tokens(source));
        for (at, _) in source.char_indices().filter(|(_, c)| c.is_ascii_alphabetic()) {
            let moved = guarded.source.match_indices(&source[at..=at]).map(|(at, _)| at);
            assert!(moved.map(|moved| guarded.original(moved)).any(|found| found == at), "{at}");
        }
    }
}
