//! How things are printed: JSON, prose in columns, colour only where a person sees it. Results go to stdout, everything
//! else to stderr. Knows nothing of what is printed. Lists are tables: see [`table`](crate::table).

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// In which form a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// JSON, one item a line
    Jsonl,
}

impl Format {
    /// As it is written on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR says otherwise; CLICOLOR_FORCE=1 colours elsewhere too
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// What was asked for on the command line; it is said once, before anything is printed.
static COLOR: OnceLock<Color> = OnceLock::new();

impl Color {
    /// Makes this the choice of the whole program.
    pub(crate) fn choose(self) {
        // Whoever is second changes nothing: the first is the command line.
        let _ = COLOR.set(self);
        // The library that draws bars looks for itself otherwise, and knows nothing of the command line.
        console::set_colors_enabled_stderr(Stream::Err.paint().0);
    }

    /// Whether to colour what goes to a stream that is a terminal or not, in this environment.
    fn is_on(self, is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR").is_some() => false,
            Self::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Self::Auto => is_terminal && set("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

/// One of the two streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Stream {
    /// Whether a person watches it.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Out => io::stdout().is_terminal(),
            Self::Err => io::stderr().is_terminal(),
        }
    }

    /// How to colour what goes there.
    pub(crate) fn paint(self) -> Paint {
        let color = COLOR.get().copied().unwrap_or_default();
        Paint(color.is_on(self.is_terminal(), |name| std::env::var(name).ok()))
    }

    /// How many rows and columns it has, if a terminal.
    pub(crate) fn size(self) -> Option<(u16, u16)> {
        let terminal = match self {
            Self::Out => console::Term::stdout(),
            Self::Err => console::Term::stderr(),
        };
        terminal.size_checked().filter(|_| self.is_terminal())
    }

    /// How many columns it has, if a terminal.
    pub(crate) fn width(self) -> Option<u16> {
        self.size().map(|(_, columns)| columns)
    }

    /// Writes to it.
    pub(crate) fn write(self, text: &str) -> io::Result<()> {
        match self {
            Self::Out => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
            Self::Err => io::stderr().lock().write_all(text.as_bytes()),
        }
    }
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What is well.
    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What deserves a look.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What leads on: names, addresses, hints.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    /// What matters most.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What matters least.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// Prints to stdout. A reader that went away (`… | head`) ends the program without a word.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    Stream::Out.write(text).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Good),
        _ => Failure::new(Exit::Bad, format!("cannot write to stdout: {error}")),
    })
}

/// Prints a line to stderr, for the person who watches.
pub(crate) fn note(text: &str) {
    // Nobody may be there to read it, which changes nothing.
    Stream::Err.write(&format!("{text}\n")).ok();
}

/// Prints one JSON document, indented, or on one line.
pub(crate) fn say_json<T: Serialize>(value: &T, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Jsonl => serde_json::to_string(value),
        Format::Table | Format::Json => serde_json::to_string_pretty(value),
    };
    let text = text.map_err(|error| Failure::new(Exit::Bad, format!("cannot be written as JSON: {error}")))?;
    say(&format!("{text}\n"))
}

/// Prints items as JSON: `whole` at once, or each of `items` on a line of its own.
pub(crate) fn say_items<W: Serialize, T: Serialize>(whole: &W, items: &[T], format: Format) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Json => say_json(whole, format),
        Format::Jsonl => items.iter().try_for_each(|item| say_json(item, format)),
    }
}

/// Prose in columns, under a header or none; what does not fit goes on below. Lists are better served by a
/// [`Table`](crate::table::Table).
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// A table with this header, for stdout.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self::fitting(header, Stream::Out.width(), Stream::Out.paint())
    }

    /// A table with this header, this wide at most.
    pub(crate) fn fitting(header: &[&str], width: Option<u16>, paint: Paint) -> Self {
        let mut table = Table::new();
        table.force_no_tty().load_style(comfy_table::presets::NOTHING);
        if let Some(width) = width {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        if paint.0 {
            table.enforce_styling();
        }
        if !header.is_empty() {
            table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        }
        Self { table }
    }

    /// One more row.
    pub(crate) fn add(&mut self, cells: Vec<Cell>) {
        self.table.add_row(cells);
    }

    /// The text, with two spaces between columns and none at the end of a line. `whole` columns are never broken.
    pub(crate) fn text(mut self, whole: &[usize]) -> String {
        let last = self.table.column_count().saturating_sub(1);
        for (index, column) in self.table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
            if whole.contains(&index) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let lines = self.table.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }
}

/// A plain cell.
pub(crate) fn cell(content: impl ToString) -> Cell {
    Cell::new(content)
}

/// A number, aligned to the right.
pub(crate) fn number(content: impl ToString) -> Cell {
    Cell::new(content).set_alignment(CellAlignment::Right)
}

/// The state of a run, in its colour, as text.
pub(crate) fn state_text(state: &str, paint: Paint) -> String {
    match state {
        "succeeded" => paint.green(state),
        "failed" => paint.red(state),
        "halted" | "paused" => paint.yellow(state),
        "running" => paint.cyan(state),
        _ => paint.bold(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<u16>) -> String {
        let mut rows = Rows::fitting(&["RUN", "PHASE"], width, Paint(false));
        rows.add(vec![cell("0199a2b3"), cell("fetching all of the pages")]);
        rows.text(&[0])
    }

    #[test]
    fn a_table_fits_where_it_is_shown() {
        assert_eq!(table(None), "RUN       PHASE\n0199a2b3  fetching all of the pages\n");
        assert_eq!(table(Some(24)), "RUN       PHASE\n0199a2b3  fetching all\n          of the pages\n");
    }

    #[test]
    fn flag_then_environment_then_terminal_say_whether_to_colour() {
        for (color, is_terminal, environment, expected) in [
            (Color::Auto, true, &[][..], true),
            (Color::Auto, false, &[], false),
            (Color::Auto, true, &[("NO_COLOR", "1")], false),
            (Color::Auto, true, &[("NO_COLOR", "")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Color::Auto, true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false),
            (Color::Auto, true, &[("TERM", "dumb")], false),
            (Color::Always, false, &[("NO_COLOR", "1")], true),
            (Color::Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            let variable =
                |name: &str| environment.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).into());
            assert_eq!(color.is_on(is_terminal, variable), expected, "{color:?} {is_terminal} {environment:?}");
        }
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Paint(false).red("x"), "x");
        assert_eq!(Paint(true).red("x"), "\x1b[1;31mx\x1b[0m");
    }
}
