//! What an expression reads: which variables, and which paths below them. Found in the text alone, so that a
//! definition can be checked, and the engine loads no output that nobody reads.

use std::collections::BTreeSet;
use std::ops::Range;

use super::tokens::{Kind, Role, Token};

/// A variable that an expression reads, and the path below it as far as the text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::definition) struct Read {
    pub(in crate::definition) root: String,
    pub(in crate::definition) span: Range<usize>,
    pub(in crate::definition) steps: Vec<Step>,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::definition) struct Step {
    pub(in crate::definition) name: String,
    pub(in crate::definition) span: Range<usize>,
}

/// `.name`, or `['na-me']` where the dot would not do.
pub(in crate::definition) fn accessor(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) { format!(".{name}") } else { format!("['{name}']") }
}

/// The variables that the expression with these tokens reads. A name before a parenthesis is a function, not one.
pub(super) fn reads(tokens: &[Token], source: &str) -> Vec<Read> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_call = tokens.get(at + 1).is_some_and(|next| next.is("(", source));
        if token.kind == Kind::Name(Role::Value) && !is_call {
            let steps = steps(&tokens[at + 1..], source);
            found.push(Read { root: token.text(source).to_owned(), span: token.span.clone(), steps });
        }
    }
    found
}

fn steps(mut tokens: &[Token], source: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let (name, span, rest) = match tokens {
            [dot, name, rest @ ..] if dot.is(".", source) && name.kind == Kind::Name(Role::Attribute) => {
                (name.text(source), name.span.clone(), rest)
            }
            [open, text, close, rest @ ..] if open.is("[", source) && close.is("]", source) => {
                let Some(name) = text.unescaped(source) else { return steps };
                (name, text.span.clone(), rest)
            }
            _ => return steps,
        };
        steps.push(Step { name: name.to_owned(), span });
        tokens = rest;
    }
}

/// What an expression or a template reads of its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reads {
    /// The run's data.
    pub data: bool,
    /// The facts about the run.
    pub run: bool,
    /// The item of a list or its index.
    pub item: bool,
    /// Outputs of earlier phases.
    pub outputs: OutputReads,
}

/// Which outputs are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputReads {
    /// These only: a phase with one of its handlers, or with all of them when there is none. Empty: no outputs.
    Only(BTreeSet<(String, Option<String>)>),
    /// Which ones, only the evaluation tells.
    All,
}

impl Default for OutputReads {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl OutputReads {
    /// Whether no outputs are read.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(paths) if paths.is_empty())
    }

    /// Whether those of `handler` in `phase` may be read.
    pub fn includes(&self, phase: &str, handler: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(paths) => paths.iter().any(|(a_phase, a_handler)| {
                a_phase == phase && a_handler.as_deref().is_none_or(|a_handler| a_handler == handler)
            }),
        }
    }
}

impl Reads {
    /// What these reads and the `other` ones need together.
    pub fn and(mut self, other: Self) -> Self {
        self.data |= other.data;
        self.run |= other.run;
        self.item |= other.item;
        self.outputs = match (self.outputs, other.outputs) {
            (OutputReads::Only(mut paths), OutputReads::Only(more)) => {
                paths.extend(more);
                OutputReads::Only(paths)
            }
            _ => OutputReads::All,
        };
        self
    }

    pub(super) fn of<'a>(reads: impl IntoIterator<Item = &'a Read>) -> Self {
        let mut all = Self::default();
        for read in reads {
            match read.root.as_str() {
                "data" => all.data = true,
                "run" => all.run = true,
                "item" | "index" => all.item = true,
                "outputs" => all.outputs.add(&read.steps),
                _ => {}
            }
        }
        all
    }
}

impl OutputReads {
    fn add(&mut self, steps: &[Step]) {
        match (steps, self) {
            ([phase, rest @ ..], Self::Only(paths)) => {
                paths.insert((phase.name.clone(), rest.first().map(|handler| handler.name.clone())));
            }
            ([], all) => *all = Self::All,
            _ => {}
        }
    }
}
