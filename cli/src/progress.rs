//! Shows live how far a run is, on stderr: a bar for each handler where a person watches, a line for each step where a
//! log is kept. Asks nobody; it is told.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use phasework_workflows::time::{Millis, Timestamp};

use crate::length::words;
use crate::output::{Paint, Stream, note};
use crate::table::one_line;
use crate::timeline::{News, Timeline, Visit};
use crate::views::{HandlerView, RunView};

/// How often a line tells of progress within a phase.
const LINE_EVERY: Millis = Millis::from_secs(2);

/// After how long without progress it is told what the run waits for.
const STANDS_AFTER: Millis = Millis::from_secs(2);

/// How wide names are shown, so that what follows them is aligned.
const NAME_WIDTH: usize = 16;

/// Shows how far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    screen: Screen,
    /// How much of the news has been told.
    told: usize,
    /// What the run looked like when something last changed, and when that was.
    moved: Option<(RunView, Timestamp)>,
    paint: Paint,
}

#[derive(Debug)]
enum Screen {
    Bars(Bars),
    Lines(Lines),
}

impl Progress {
    /// In the way that suits stderr.
    pub(crate) fn new() -> Self {
        let screen =
            if Stream::Err.is_terminal() { Screen::Bars(Bars::new()) } else { Screen::Lines(Lines::default()) };
        Self { screen, told: 0, moved: None, paint: Stream::Err.paint() }
    }

    /// Shows how far the run is now.
    pub(crate) fn show(&mut self, run: &RunView, timeline: &Timeline, now: Timestamp) {
        for news in timeline.news.iter().skip(self.told) {
            self.say(&told(news, self.paint));
        }
        self.told = timeline.news.len();
        let waits = self.waits(run, now);
        match &mut self.screen {
            Screen::Bars(bars) => bars.show(run, waits, self.paint),
            Screen::Lines(lines) => lines.show(run, waits, now),
        }
    }

    /// What the run waits for, once it stands still.
    fn waits<'r>(&mut self, run: &'r RunView, now: Timestamp) -> Option<&'r str> {
        match &self.moved {
            Some((before, since)) if is_alike(before, run) => {
                run.waiting_for.as_deref().filter(|_| now.since(*since) >= STANDS_AFTER)
            }
            _ => {
                self.moved = Some((run.clone(), now));
                None
            }
        }
    }

    /// Says something above what moves.
    pub(crate) fn say(&self, line: &str) {
        match &self.screen {
            Screen::Bars(bars) => bars.multi.suspend(|| note(line)),
            Screen::Lines(_) => note(line),
        }
    }

    /// Leaves only what was said.
    fn clear(&mut self) {
        if let Screen::Bars(bars) = &mut self.screen {
            bars.clear();
        }
    }
}

impl Drop for Progress {
    /// Whoever stops watching leaves nothing that moves behind.
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether nothing has moved between two looks at a run.
fn is_alike(before: &RunView, after: &RunView) -> bool {
    (&before.state, before.entry, &before.handlers) == (&after.state, after.entry, &after.handlers)
}

/// News on one line, whoever gave a reason.
fn told(news: &News, paint: Paint) -> String {
    match news {
        News::Left(visit) => left(visit, paint),
        News::Happened(words) => format!("{} {}", paint.yellow("•"), one_line(words)),
    }
}

/// A phase that was left, on one line.
fn left(visit: &Visit, paint: Paint) -> String {
    let mark = match visit.status.as_deref() {
        Some("failed") => paint.red("✘"),
        Some("abandoned") => paint.yellow("–"),
        _ => paint.green("✔"),
    };
    let took = visit.took().map(words).unwrap_or_default();
    let tallies: Vec<_> = visit.tallies.iter().map(HandlerView::words).collect();
    let line = format!("{mark} {:<NAME_WIDTH$} {took:>7}  {}", visit.phase, tallies.join("; "));
    line.trim_end().to_owned()
}

/// Bars on a terminal: one for the phase, one for each of its handlers.
#[derive(Debug)]
struct Bars {
    multi: MultiProgress,
    phase: Option<ProgressBar>,
    handlers: Vec<ProgressBar>,
    entry: u32,
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { multi, phase: None, handlers: Vec::new(), entry: 0 }
    }

    fn show(&mut self, run: &RunView, waits: Option<&str>, paint: Paint) {
        if run.is_over() {
            return self.clear();
        }
        if run.entry != self.entry || run.handlers.len() != self.handlers.len() {
            self.begin(run);
        }
        if let Some(phase) = &self.phase {
            let waits = waits.map(|waits| paint.yellow(&format!("waits for {waits}")));
            phase.set_message(waits.unwrap_or_default());
        }
        for (bar, handler) in self.handlers.iter().zip(&run.handlers) {
            if let Some(total) = handler.total {
                bar.set_length(total);
            }
            bar.set_position(handler.done + handler.failed);
            bar.set_message(remarks(handler, paint));
        }
    }

    fn begin(&mut self, run: &RunView) {
        self.clear();
        self.entry = run.entry;
        let phase = self.multi.add(ProgressBar::new_spinner());
        phase.set_style(style("{spinner:.cyan} {prefix:16!} {elapsed:>7}  {msg}"));
        phase.set_prefix(run.phase.clone());
        phase.enable_steady_tick(Duration::from_millis(100));
        self.phase = Some(phase);
        for handler in &run.handlers {
            let bar = self.multi.add(ProgressBar::new(handler.total.unwrap_or(0)));
            bar.set_style(style("  {prefix:24!} {bar:28.cyan/dim} {pos:>4}/{len:<4}  {msg}").progress_chars("━╸─"));
            bar.set_prefix(title(handler));
            self.handlers.push(bar);
        }
    }

    fn clear(&mut self) {
        for bar in self.handlers.drain(..).chain(self.phase.take()) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is sound").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

fn title(handler: &HandlerView) -> String {
    let version = handler.version.as_ref().map(|version| format!(" {version}"));
    format!("{}{}", handler.name, version.unwrap_or_default())
}

/// What is out of the ordinary among a handler's jobs.
fn remarks(handler: &HandlerView, paint: Paint) -> String {
    let HandlerView { retried, failed, leased, .. } = handler;
    let listed = handler.listed.map(|listed| format!("lists its jobs, {listed} so far"));
    let retried = (*retried > 0).then(|| paint.yellow(&format!("{retried} retried")));
    let failed = (*failed > 0).then(|| paint.red(&format!("{failed} failed")));
    let leased = (*leased > 0).then(|| paint.dim(&format!("{leased} leased")));
    [listed, retried, failed, leased].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Lines in a log.
#[derive(Debug, Default)]
struct Lines {
    entry: u32,
    last_at: Option<Timestamp>,
    last: String,
    waits: Option<String>,
}

impl Lines {
    fn show(&mut self, run: &RunView, waits: Option<&str>, now: Timestamp) {
        if run.is_over() {
            return;
        }
        if run.entry != self.entry {
            *self = Self { entry: run.entry, last_at: Some(now), ..Self::default() };
            note(&format!("> {}", run.phase));
        }
        if let Some(waits) = waits.filter(|&waits| self.waits.as_deref() != Some(waits)) {
            note(&format!("  {} waits for {waits}", run.phase));
            self.waits = Some(waits.to_owned());
        }
        if self.last_at.is_some_and(|last| now.since(last) < LINE_EVERY) {
            return;
        }
        let tallies: Vec<_> = run.handlers.iter().map(HandlerView::words).collect();
        let line = tallies.join("; ");
        if !line.is_empty() && line != self.last {
            note(&format!("  {}: {line}", run.phase));
            (self.last, self.last_at) = (line, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_nothing_to_the_terminal() {
        let paused = News::Happened("paused: a\x1b[2J\n✔ b".into());
        assert_eq!(told(&paused, Paint(false)), "• paused: a [2J ✔ b");
    }

    #[test]
    fn a_phase_that_was_left_is_one_line() {
        let tally = |failed| HandlerView {
            name: "H".into(),
            total: Some(3),
            done: 3 - failed,
            failed,
            retried: 2,
            ..HandlerView::default()
        };
        let visit = |status: &str, tallies| Visit {
            entry: 1,
            phase: "fetching".into(),
            on_error: false,
            entered_at: Timestamp::from_millis(1000),
            left_at: Some(Timestamp::from_millis(2500)),
            status: Some(status.into()),
            tallies,
        };
        for (visit, expected) in [
            (visit("succeeded", vec![]), "✔ fetching            1.5s"),
            (visit("succeeded", vec![tally(0)]), "✔ fetching            1.5s  H 3/3, 2 retried"),
            (visit("failed", vec![tally(1)]), "✘ fetching            1.5s  H 2/3, 1 failed, 2 retried"),
            (visit("abandoned", vec![tally(0)]), "– fetching            1.5s  H 3/3, 2 retried"),
        ] {
            assert_eq!(left(&visit, Paint(false)), expected);
        }
    }
}
