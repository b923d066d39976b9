//! Tables for people: a row a line, never more. Where a terminal is too narrow, columns are shortened with `…`, those
//! that matter least first, and left out before what matters more is cut. Elsewhere everything is there in full.

use console::{measure_text_width, truncate_str};

use crate::output::{Paint, Stream};

/// What stands between two columns.
const GAP: &str = "  ";

/// A column, and what becomes of it where there is little room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// How much it matters: the column with the lowest number gives way first.
    keep: u8,
    /// How narrow it can be and still tell something; narrower it is left out. None is never shortened.
    least: Option<usize>,
    is_right: bool,
}

/// A column that is never shortened, and left out after all others.
pub(crate) const fn column(title: &'static str) -> Column {
    Column { title, keep: u8::MAX, least: None, is_right: false }
}

impl Column {
    /// Matters this much.
    pub(crate) const fn keep(mut self, keep: u8) -> Self {
        self.keep = keep;
        self
    }

    /// May be shortened to this many characters.
    pub(crate) const fn least(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }

    /// Aligned to the right.
    pub(crate) const fn right(mut self) -> Self {
        self.is_right = true;
        self
    }
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Bad,
    Odd,
    Busy,
    Faint,
}

/// What stands in a row under a title.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

/// Plain text. Line breaks and other control characters become spaces: a row is a line.
#[expect(clippy::needless_pass_by_value, reason = "texts, numbers and references alike, without a mark at each")]
pub(crate) fn field(content: impl ToString) -> Field {
    Field { text: one_line(&content.to_string()), tone: Tone::Plain }
}

/// A text that stays on its line and says nothing to the terminal, whoever wrote it: control characters become spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text that keeps its lines and says nothing else to the terminal.
pub(crate) fn with_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

impl Field {
    const fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// All is well.
    pub(crate) const fn good(self) -> Self {
        self.tone(Tone::Good)
    }

    /// Something is wrong.
    pub(crate) const fn bad(self) -> Self {
        self.tone(Tone::Bad)
    }

    /// Worth a look.
    pub(crate) const fn odd(self) -> Self {
        self.tone(Tone::Odd)
    }

    /// Not what matters.
    pub(crate) const fn faint(self) -> Self {
        self.tone(Tone::Faint)
    }

    fn painted(&self, text: &str, paint: Paint) -> String {
        match self.tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => paint.green(text),
            Tone::Bad => paint.red(text),
            Tone::Odd => paint.yellow(text),
            Tone::Busy => paint.cyan(text),
            Tone::Faint => paint.dim(text),
        }
    }
}

/// The state of a run, in its colour.
pub(crate) fn state_field(state: &str) -> Field {
    field(state).tone(match state {
        "succeeded" => Tone::Good,
        "failed" | "damaged" => Tone::Bad,
        "halted" | "paused" | "newer" => Tone::Odd,
        "running" => Tone::Busy,
        _ => Tone::Plain,
    })
}

/// How many failed for good.
pub(crate) fn failed_field(count: u64) -> Field {
    if count > 0 { field(count).bad() } else { field(count) }
}

/// How many were tried again.
pub(crate) fn retried_field(count: u64) -> Field {
    if count > 0 { field(count).odd() } else { field(count) }
}

/// Rows under titles.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Field>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One more row: a field for each column; those that are missing at its end are empty.
    pub(crate) fn add(&mut self, mut row: Vec<Field>) {
        row.resize(self.columns.len(), field(""));
        self.rows.push(row);
    }

    /// The text for stdout.
    pub(crate) fn text(&self) -> String {
        self.text_for(Stream::Out.width().map(usize::from), Stream::Out.paint())
    }

    /// The text, no wider than `width`.
    pub(crate) fn text_for(&self, width: Option<usize>, paint: Paint) -> String {
        let widest = |index: usize| {
            let fields = self.rows.iter().map(|row| measure_text_width(&row[index].text));
            fields.chain([self.columns[index].title.len()]).max().unwrap_or_default()
        };
        let natural: Vec<_> = (0..self.columns.len()).map(widest).collect();
        let shown = self.fit(&natural, width);
        let mut text = self.line(&shown, |index| self.columns[index].title.to_owned(), |_, title| paint.bold(title));
        for row in &self.rows {
            text += &self.line(&shown, |index| row[index].text.clone(), |index, cut| row[index].painted(cut, paint));
        }
        text
    }

    /// Which columns are shown, and how wide.
    fn fit(&self, natural: &[usize], width: Option<usize>) -> Vec<(usize, usize)> {
        let mut shown: Vec<_> = natural.iter().copied().enumerate().collect();
        let Some(width) = width else { return shown };
        let least = |&(index, natural): &(usize, usize)| {
            self.columns[index].least.map_or(natural, |least| least.max(self.columns[index].title.len()).min(natural))
        };
        let room = |count: usize| width.saturating_sub(GAP.len() * (count - 1));
        while shown.len() > 1 && shown.iter().map(least).sum::<usize>() > room(shown.len()) {
            let last = (0..shown.len()).rev().min_by_key(|&place| self.columns[shown[place].0].keep);
            shown.remove(last.unwrap_or_default());
        }
        let mut order: Vec<_> = (0..shown.len()).rev().collect();
        order.sort_by_key(|&place| self.columns[shown[place].0].keep);
        let mut excess = shown.iter().map(|(_, width)| width).sum::<usize>().saturating_sub(room(shown.len()));
        for place in order {
            let cut = excess.min(shown[place].1 - least(&shown[place]));
            shown[place].1 -= cut;
            excess -= cut;
        }
        if let [(_, only)] = shown.as_mut_slice() {
            *only = (*only).min(width);
        }
        shown
    }

    fn line(
        &self,
        shown: &[(usize, usize)],
        content: impl Fn(usize) -> String,
        painted: impl Fn(usize, &str) -> String,
    ) -> String {
        let mut line = String::new();
        for (place, &(index, width)) in shown.iter().enumerate() {
            let content = content(index);
            let cut = truncate_str(&content, width, "…");
            let pad = " ".repeat(width.saturating_sub(measure_text_width(&cut)));
            let is_last = place + 1 == shown.len();
            let (before, behind) =
                if self.columns[index].is_right { (pad, String::new()) } else { (String::new(), pad) };
            line.push_str(if place == 0 { "" } else { GAP });
            line.push_str(&before);
            line.push_str(&if cut.is_empty() { String::new() } else { painted(index, &cut) });
            line.push_str(if is_last { "" } else { &behind });
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [
            column("ID"),
            column("WORKFLOW").keep(3).least(8),
            column("STATE").keep(8),
            column("WHY").keep(2).least(6),
            column("TOOK").keep(1).right(),
        ];
        let mut table = Table::new(&columns);
        table.add(vec![
            field("0199a2b3"),
            field("thumbnails-of-everything"),
            state_field("halted"),
            field("a\nb\x1b[1m"),
            field("2m"),
        ]);
        table.add(vec![field("0199a2b4"), field("süß"), state_field("running")]);
        table
    }

    fn check(width: Option<usize>, expected: &str) {
        let text = table().text_for(width, Paint(false));
        assert_eq!(text, expected);
        let widest = text.lines().map(measure_text_width).max().unwrap();
        assert!(width.is_none_or(|width| widest <= width), "{widest} columns of {width:?}");
    }

    #[test]
    fn texts_of_others_say_nothing_to_the_terminal() {
        let text = " a\tb\r\n\x1b]0;c\x07\u{9b}2Jd\n";
        assert_eq!(one_line(text), "a b   ]0;c  2Jd");
        assert_eq!(with_lines(text), " a\tb \n ]0;c  2Jd\n");
    }

    #[test]
    fn what_matters_least_gives_way_first() {
        check(
            None,
            "ID        WORKFLOW                  STATE    WHY      TOOK\n\
             0199a2b3  thumbnails-of-everything  halted   a b [1m    2m\n\
             0199a2b4  süß                       running\n",
        );
        check(
            Some(56),
            "ID        WORKFLOW                 STATE    WHY     TOOK\n\
             0199a2b3  thumbnails-of-everythi…  halted   a b […    2m\n\
             0199a2b4  süß                      running\n",
        );
        check(
            Some(40),
            "ID        WORKFLOW       STATE    WHY\n\
             0199a2b3  thumbnails-o…  halted   a b […\n\
             0199a2b4  süß            running\n",
        );
        check(
            Some(30),
            "ID        WORKFLOW     STATE\n\
             0199a2b3  thumbnails…  halted\n\
             0199a2b4  süß          running\n",
        );
        check(Some(12), "ID\n0199a2b3\n0199a2b4\n");
        check(Some(5), "ID\n0199…\n0199…\n");
    }

    #[test]
    fn colours_take_no_room() {
        let text = table().text_for(Some(40), Paint(true));
        let plain: String = console::strip_ansi_codes(&text).into_owned();
        assert_eq!(plain, table().text_for(Some(40), Paint(false)));
        assert!(text.contains("\x1b[33mhalted\x1b[0m"), "{text:?}");
    }
}
