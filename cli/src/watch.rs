//! Shows what a server answers: once, or again and again. On a terminal what is shown is drawn anew in its place; in a
//! log it is printed when it has changed; as JSON lines, each item that is new or has changed. Asks nothing itself.

use std::collections::BTreeMap;
use std::time::Duration;

use console::truncate_str;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};
use crate::interrupt::Interrupts;
use crate::length::stamp;
use crate::output::{Format, Stream, note, say, say_items, say_json};
use crate::session::{Session, Times, WatchedForm};

/// What a server answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The document that `--output json` prints.
    pub(crate) whole: Value,
    /// The items that `--output jsonl` prints, for a list; nothing when the document is the only one.
    pub(crate) items: Option<Vec<Value>>,
    /// Whether it will not change any more.
    pub(crate) is_final: bool,
}

/// What a person is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// The answer, in words.
    pub(crate) text: String,
    /// What is said in place of a list that is empty.
    pub(crate) note: Option<String>,
    /// That there is more than was asked for; said whatever the form, so that nobody takes a part for the whole.
    pub(crate) more: Option<String>,
}

/// Asks, and shows the answer in the form that is wanted; with `--watch` until Ctrl-C, or until nothing can change any
/// more. `key` is the field that names an item.
pub(crate) async fn show(
    session: &Session,
    form: &WatchedForm,
    key: &str,
    ask: impl AsyncFn() -> Result<Answer, Failure>,
    tell: impl Fn(&Answer, Times) -> Result<Page, Failure>,
) -> Outcome {
    let format = session.format(&form.form)?;
    let Some(every) = form.watch else {
        let answer = ask().await?;
        let page = tell(&answer, session.times())?;
        match (&answer.items, format) {
            (_, Format::Table) => {
                say(&page.text)?;
                page.note.iter().for_each(|words| note(words));
            }
            (Some(items), format) => say_items(&answer.whole, items, format)?,
            (None, format) => say_json(&answer.whole, format)?,
        }
        page.more.iter().for_each(|words| note(words));
        return Ok(Exit::Good);
    };
    let mut screen = match format {
        Format::Json => {
            let failure = Failure::usage("--watch does not go with one JSON document");
            return Err(failure.hint("--output jsonl prints what is new or has changed, a line each"));
        }
        Format::Jsonl => Screen::Changes(Changes::new(key)),
        Format::Table if Stream::Out.is_terminal() => Screen::Terminal { drawn: 0, last: String::new() },
        Format::Table => Screen::Log { last: String::new() },
    };
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        biased;
        _ = interrupts.next() => Ok(Exit::Interrupted),
        outcome = watch(&mut screen, session, every, ask, tell) => outcome,
    }
}

async fn watch(
    screen: &mut Screen<'_>,
    session: &Session,
    every: Duration,
    ask: impl AsyncFn() -> Result<Answer, Failure>,
    tell: impl Fn(&Answer, Times) -> Result<Page, Failure>,
) -> Outcome {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut is_first, mut is_away) = (true, false);
    loop {
        ticks.tick().await;
        match ask().await {
            // Who is not there at first may never be; who goes away while somebody watches is waited for.
            Err(failure) if failure.exit == Exit::Unreachable && !is_first => {
                screen.away(&failure.message, is_away)?;
                is_away = true;
            }
            answer => {
                let answer = answer?;
                (is_first, is_away) = (false, false);
                screen.draw(&answer, every, || tell(&answer, session.times()))?;
                if answer.is_final {
                    return Ok(Exit::Good);
                }
            }
        }
    }
}

/// Where what is watched is shown.
#[derive(Debug)]
enum Screen<'a> {
    /// Drawn anew in its place.
    Terminal {
        /// How many lines stand there.
        drawn: usize,
        last: String,
    },
    /// Printed whole when it has changed.
    Log { last: String },
    /// As JSON lines.
    Changes(Changes<'a>),
}

impl Screen<'_> {
    fn draw(
        &mut self,
        answer: &Answer,
        every: Duration,
        tell: impl FnOnce() -> Result<Page, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Terminal { drawn, last } => {
                let page = tell()?;
                let head =
                    Stream::Out.paint().dim(&format!("every {every:?} · {} · Ctrl-C ends", stamp(SystemClock.now())));
                let besides = [page.note, page.more].into_iter().flatten().map(|words| words + "\n");
                *last = [page.text].into_iter().chain(besides).collect();
                redraw(drawn, &format!("{head}\n{last}"))
            }
            Self::Log { last } => {
                let page = tell()?;
                if page.text == *last {
                    return Ok(());
                }
                let gap = if last.is_empty() { "" } else { "\n" };
                say(&format!("{gap}{}", page.text))?;
                *last = page.text;
                Ok(())
            }
            Self::Changes(changes) => {
                let only = [answer.whole.clone()];
                let items = answer.items.as_deref().unwrap_or(&only);
                changes.of(items).into_iter().try_for_each(|item| say_json(item, Format::Jsonl))
            }
        }
    }

    /// Says that the server is away, where that was not said before.
    fn away(&mut self, words: &str, is_said: bool) -> Result<(), Failure> {
        match self {
            Self::Terminal { drawn, last } => {
                let head = Stream::Out.paint().red(&format!("{words}; trying again"));
                redraw(drawn, &format!("{head}\n{last}"))
            }
            Self::Log { .. } | Self::Changes(_) if is_said => Ok(()),
            Self::Log { .. } | Self::Changes(_) => {
                note(&format!("{words}; trying again"));
                Ok(())
            }
        }
    }
}

/// Puts a text where another of `drawn` lines stands. What does not fit on the terminal is cut: lines that are broken or
/// have scrolled away could not be drawn over.
fn redraw(drawn: &mut usize, text: &str) -> Result<(), Failure> {
    let (rows, columns) =
        Stream::Out.size().map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)));
    let up = if *drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
    let cut = fit(text, rows, columns);
    *drawn = cut.len();
    let lines: String = cut.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    say(&format!("{up}\r{lines}\x1b[J"))
}

/// The lines of a text that a terminal of this size has room for, with the cursor below them.
fn fit(text: &str, rows: usize, columns: usize) -> Vec<String> {
    let room = rows.saturating_sub(1).max(1);
    let mut lines: Vec<_> = text.lines().map(|line| truncate_str(line, columns, "…").into_owned()).collect();
    if lines.len() > room {
        let hidden = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(truncate_str(&format!("… {hidden} more lines"), columns, "…").into_owned());
    }
    lines
}

/// What has been printed of a list, to tell what is new.
#[derive(Debug)]
struct Changes<'a> {
    key: &'a str,
    printed: BTreeMap<String, Value>,
}

impl<'a> Changes<'a> {
    const fn new(key: &'a str) -> Self {
        Self { key, printed: BTreeMap::new() }
    }

    /// The items that are new, or are not as they were.
    fn of<'i>(&mut self, items: &'i [Value]) -> Vec<&'i Value> {
        let mut changed = Vec::new();
        for item in items {
            let name = item.get(self.key).map(ToString::to_string).unwrap_or_default();
            if self.printed.get(&name) != Some(item) {
                self.printed.insert(name, item.clone());
                changed.push(item);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_new_or_has_changed_is_told_again() {
        let mut changes = Changes::new("run");
        let (a, b) = (json!({ "run": "a", "state": "running" }), json!({ "run": "b", "state": "running" }));
        let ended = json!({ "run": "a", "state": "failed" });
        assert_eq!(changes.of(std::slice::from_ref(&a)), [&a]);
        assert_eq!(changes.of(&[b.clone(), a.clone()]), [&b]);
        assert!(changes.of(&[b.clone(), a]).is_empty());
        assert_eq!(changes.of(&[b, ended.clone()]), [&ended]);
    }

    #[test]
    fn what_is_drawn_anew_fits_the_terminal() {
        assert_eq!(fit("one\ntwo\n", 24, 80), ["one", "two"]);
        assert_eq!(fit("1\n2\n3\n4\n5\n", 4, 80), ["1", "2", "… 3 more lines"]);
        assert_eq!(fit("a line that is long\n", 24, 8), ["a line …"]);
    }
}
