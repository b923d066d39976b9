//! Draws what `top` shows as lines of text: a summary, and one of three tables, sorted and filtered. Knows no terminal.

use std::cmp::Ordering;

use super::figures::{Figures, HandlerFigures, RunRow, WorkerFigures};
use crate::length::stamp;
use crate::output::Paint;
use crate::session::Times;
use crate::table::{Field, Table, column, failed_field, field, retried_field, state_field};

/// Which table is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Handlers,
    Workers,
    Runs,
}

impl View {
    pub(super) const ALL: [Self; 3] = [Self::Handlers, Self::Workers, Self::Runs];

    /// The next one, or the one before.
    pub(super) fn turned(self, forward: bool) -> Self {
        let place = Self::ALL.iter().position(|view| *view == self).unwrap_or_default();
        Self::ALL[(place + if forward { 1 } else { 2 }) % 3]
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Handlers => "handlers",
            Self::Workers => "workers",
            Self::Runs => "runs",
        }
    }

    /// What it can be sorted by, the usual first.
    const fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Handlers => &["backlog", "name", "in flight", "rate", "failed"],
            Self::Workers => &["name", "busy", "silent"],
            Self::Runs => &["newest", "oldest", "workflow", "left"],
        }
    }
}

/// How a person wants to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) view: View,
    /// The place of the order among those of the view.
    pub(super) order: usize,
    /// What rows have to contain.
    pub(super) filter: String,
    /// Whether the filter is being typed.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    /// How many rows are scrolled away.
    pub(super) scroll: usize,
}

impl Wish {
    /// What it is sorted by.
    pub(super) fn order(&self) -> &'static str {
        let orders = self.view.orders();
        orders[self.order % orders.len()]
    }
}

/// The lines above the table.
pub(super) fn summary(figures: &Figures, paint: Paint) -> Vec<String> {
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}/s"));
    let runs = &figures.runs;
    let waiting = figures.waiting_for.iter().map(|wait| format!("{} for {}", wait.runs, wait.what));
    let waiting: Vec<_> = waiting.collect();
    let looked = match runs.looked_at as u64 {
        looked if looked < runs.live => format!(" (the newest {looked})"),
        _ => String::new(),
    };
    let live = figures.workers.iter().filter(|worker| worker.state != "lost").count();
    let dead = match figures.dead_letters {
        0 => "no dead letters".to_owned(),
        1 => paint.yellow("1 dead letter"),
        count => paint.yellow(&format!("{count} dead letters")),
    };
    let owned = figures.coordinators.iter().filter_map(|coordinator| coordinator.queues_owned).next();
    let owned = owned.map(|owned| format!(" ({owned} queues on this one)")).unwrap_or_default();
    vec![
        format!(
            "runs      {} live, {} ended; started {}, ended {}; jobs {}",
            paint.bold(&runs.live.to_string()),
            runs.ended,
            rate(runs.started_per_s),
            rate(runs.ended_per_s),
            rate(runs.jobs_per_s),
        ),
        format!("waiting   {}{looked}", if waiting.is_empty() { "none".to_owned() } else { waiting.join(", ") }),
        format!(
            "engine    {}{owned}, {}, {dead}",
            counted(figures.coordinators.len(), "coordinator"),
            counted(live, "worker")
        ),
    ]
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A table, whole.
pub(super) fn table(figures: &Figures, wish: &Wish, times: Times) -> Table {
    match wish.view {
        View::Handlers => handlers(figures, wish),
        View::Workers => workers(figures, wish, times),
        View::Runs => runs(figures, wish, times),
    }
}

/// The screen: as many lines as it has room for.
pub(super) fn screen(
    shown: Option<&Figures>,
    away: Option<&str>,
    server: &str,
    wish: &Wish,
    (rows, columns): (usize, usize),
    paint: Paint,
) -> Vec<String> {
    let mut lines = vec![head(shown, away, server, wish, paint)];
    if let Some(figures) = shown {
        lines.extend(summary(figures, paint));
        lines.push(String::new());
        let text = table(figures, wish, Times::Ago(figures.at)).text_for(Some(columns), paint);
        let mut table = text.lines().map(str::to_owned);
        lines.extend(table.next());
        let room = rows.saturating_sub(lines.len() + 1);
        let left: Vec<_> = table.skip(wish.scroll).collect();
        let hidden = left.len().saturating_sub(room);
        lines.extend(left.into_iter().take(room));
        lines.resize(rows.saturating_sub(1).max(lines.len()), String::new());
        lines.push(foot(wish, hidden, paint));
    }
    lines.truncate(rows);
    lines.iter().map(|line| console::truncate_str(line, columns, "…").into_owned()).collect()
}

fn head(shown: Option<&Figures>, away: Option<&str>, server: &str, wish: &Wish, paint: Paint) -> String {
    let title = paint.bold("phasework top");
    let state = match (away, shown) {
        (Some(why), _) => paint.red(&format!("{why}; trying again")),
        (None, None) => "asking…".to_owned(),
        (None, Some(figures)) if wish.is_paused => format!("{} {}", stamp(figures.at), paint.yellow("paused")),
        (None, Some(figures)) => stamp(figures.at),
    };
    match away {
        Some(_) => format!("{title}  {state}"),
        None => format!("{title}  {server}  {state}"),
    }
}

fn foot(wish: &Wish, hidden: usize, paint: Paint) -> String {
    if wish.is_typing {
        return format!("filter: {}▏ {}", wish.filter, paint.dim("(Enter keeps it, Esc drops it)"));
    }
    let views = View::ALL.map(|view| match view == wish.view {
        true => paint.cyan(&format!("[{}]", view.as_str())),
        false => view.as_str().to_owned(),
    });
    let filter = if wish.filter.is_empty() { String::new() } else { format!("  /{}", wish.filter) };
    let more = if hidden > 0 { format!("  {hidden} more ↓") } else { String::new() };
    let keys = paint.dim("q quit  tab  s sort  / filter  space pause");
    format!("{}  by {}{filter}{more}  {keys}", views.join(" "), wish.order())
}

/// The rows that have what is looked for, in order.
fn chosen<'a, T>(
    rows: &'a [T],
    wish: &Wish,
    words: impl Fn(&T) -> String,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<&'a T> {
    let wanted = wish.filter.to_lowercase();
    let mut rows: Vec<_> = rows.iter().filter(|row| words(row).to_lowercase().contains(&wanted)).collect();
    rows.sort_by(|a, b| compare(a, b));
    rows
}

fn handlers(figures: &Figures, wish: &Wish) -> Table {
    let name = |a: &HandlerFigures, b: &HandlerFigures| (&a.handler, &a.version).cmp(&(&b.handler, &b.version));
    let compare = |a: &HandlerFigures, b: &HandlerFigures| match wish.order() {
        "backlog" => b.backlog.cmp(&a.backlog).then(name(a, b)),
        "in flight" => b.in_flight.cmp(&a.in_flight).then(name(a, b)),
        "rate" => b.jobs_per_s.unwrap_or(0.0).total_cmp(&a.jobs_per_s.unwrap_or(0.0)).then(name(a, b)),
        "failed" => b.failed.cmp(&a.failed).then(name(a, b)),
        _ => name(a, b),
    };
    let words = |row: &HandlerFigures| format!("{} {}", row.handler, row.version.as_deref().unwrap_or_default());
    let mut table = Table::new(&[
        column("HANDLER").keep(9).least(12),
        column("VERSION").keep(2).least(6),
        column("RUNS").keep(3).right(),
        column("BACKLOG").keep(8).right(),
        column("OUT").keep(7).right(),
        column("JOBS/S").keep(6).right(),
        column("FAILED").keep(4).right(),
        column("RETRIED").keep(1).right(),
        column("WORKERS").keep(5).right(),
        column("BUSY").keep(5).right(),
    ]);
    for row in chosen(&figures.handlers, wish, words, compare) {
        let is_missed = row.workers == 0 && (row.backlog > 0 || row.listing > 0);
        let workers = if is_missed { field(0).bad() } else { field(row.workers) };
        table.add(vec![
            field(&row.handler),
            field(row.version.as_deref().unwrap_or("-")),
            field(row.runs),
            field(backlog(row)),
            field(row.in_flight),
            field(row.jobs_per_s.map_or("-".to_owned(), |rate| format!("{rate:.1}"))),
            failed_field(row.failed),
            retried_field(row.retried),
            workers,
            field(format!("{}/{}", row.busy, row.slots)),
        ]);
    }
    table
}

/// The jobs that are left of a handler, and whether it is still listing more.
fn backlog(row: &HandlerFigures) -> String {
    match (row.listing, row.backlog) {
        (0, backlog) => backlog.to_string(),
        (_, 0) => "listing".to_owned(),
        (_, backlog) => format!("{backlog}, listing"),
    }
}

fn workers(figures: &Figures, wish: &Wish, times: Times) -> Table {
    let name = |a: &WorkerFigures, b: &WorkerFigures| (&a.host, a.pid).cmp(&(&b.host, b.pid));
    let compare = |a: &WorkerFigures, b: &WorkerFigures| match wish.order() {
        "busy" => b.busy.cmp(&a.busy).then(name(a, b)),
        "silent" => b.silent_s.cmp(&a.silent_s).then(name(a, b)),
        _ => name(a, b),
    };
    let words = |row: &WorkerFigures| format!("{} {} {} {}", row.host, row.pid, row.state, row.handlers.join(" "));
    let mut table = Table::new(&[
        column("HOST").keep(8).least(8),
        column("PID").keep(6).right(),
        column("STATE").keep(7),
        column("SEEN").keep(5),
        column("BUSY").keep(7).right(),
        column("HANDLERS").keep(3).least(12),
    ]);
    for row in chosen(&figures.workers, wish, words, compare) {
        let state: Field = match row.state {
            "lost" => field("lost").bad(),
            "draining" => field("draining").odd(),
            state => field(state).good(),
        };
        let busy = field(format!("{}/{}", row.busy, row.slots));
        let seen = field(times.tell(row.last_seen));
        table.add(vec![field(&row.host), field(row.pid), state, seen, busy, field(row.handlers.join(", "))]);
    }
    table
}

fn runs(figures: &Figures, wish: &Wish, times: Times) -> Table {
    let newest = |a: &RunRow, b: &RunRow| b.created_at.cmp(&a.created_at).then(b.run.cmp(&a.run));
    let left = |row: &RunRow| row.total.saturating_sub(row.done);
    let compare = |a: &RunRow, b: &RunRow| match wish.order() {
        "oldest" => newest(b, a),
        "workflow" => a.workflow.cmp(&b.workflow).then(newest(a, b)),
        "left" => left(b).cmp(&left(a)).then(newest(a, b)),
        _ => newest(a, b),
    };
    let words = |row: &RunRow| format!("{} {} {} {} {}", row.run, row.workflow, row.state, row.phase, row.waiting_for);
    let mut table = Table::new(&[
        column("RUN").keep(9),
        column("WORKFLOW").keep(7).least(8),
        column("STATE").keep(8),
        column("PHASE").keep(4).least(8),
        column("STARTED").keep(2),
        column("JOBS").keep(5).right(),
        column("WAITS FOR").keep(3).least(20),
    ]);
    for row in chosen(&figures.live_runs, wish, words, compare) {
        table.add(vec![
            field(&row.run),
            field(&row.workflow),
            state_field(&row.state),
            field(&row.phase),
            field(times.tell(row.created_at)),
            field(format!("{}/{}{}", row.done, row.total, if row.is_listing { "+" } else { "" })),
            field(&row.waiting_for).faint(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::figures::Look;
    use super::*;
    use crate::views::Counts;
    use phasework_workflows::time::Timestamp;

    fn figures() -> Figures {
        let run = |id: &str, handler: &str, done: u64| {
            json!({ "run": format!("0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a{id}"), "workflow": "thumbnails-of-everything",
                    "revision": "r", "state": "running", "phase": "fetching-pages", "entry": 2,
                    "created_at": "2026-01-31T11:56:00Z", "waiting_for": format!("9 jobs of {handler} 1.2.0, queued or under way"),
                    "handlers": [{ "name": handler, "version": "1.2.0", "total": 100, "done": done, "in_flight": 9 }] })
        };
        let worker = |pid: u32, live: bool| {
            json!({ "host": "worker-of-a-long-name", "pid": pid, "last_seen": "2026-01-31T11:59:58Z", "live": live,
                    "handlers": [{ "name": "PageDownloader", "version": "1.2.0", "slots": 50, "in_flight": 9 }] })
        };
        let look = Look {
            at: Timestamp::from_millis(1_769_860_800_000),
            counts: Counts { live: 2, ended: 40 },
            runs: serde_json::from_value(json!([run("5b", "PageDownloader", 40), run("5c", "Indexer", 3)])).unwrap(),
            workers: serde_json::from_value(json!([worker(1, true), worker(2, false)])).unwrap(),
            dead: 1,
            coordinators: serde_json::from_value(json!([{ "coordinator": "c1", "queues_owned": 8 }])).unwrap(),
        };
        Figures::of(&look, None)
    }

    #[test]
    fn the_screen_fits_a_small_terminal() {
        let mut shown = String::new();
        for view in View::ALL {
            let wish = Wish { view, ..Wish::default() };
            let lines = screen(Some(&figures()), None, "http://127.0.0.1:7180", &wish, (24, 80), Paint(false));
            assert_eq!(lines.len(), 24);
            assert!(lines.iter().all(|line| console::measure_text_width(line) <= 80), "{lines:#?}");
            let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            shown += &(lines.join("\n") + "\n\n");
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn who_makes_its_list_is_said_to() {
        let mut figures = figures();
        figures.handlers[0].listing = 1;
        (figures.handlers[1].listing, figures.handlers[1].backlog) = (2, 0);
        figures.live_runs[0].is_listing = true;
        let shown = |view| {
            let wish = Wish { view, ..Wish::default() };
            screen(Some(&figures), None, "http://h", &wish, (24, 200), Paint(false)).join("\n")
        };
        let handlers = shown(View::Handlers);
        assert!(handlers.contains(" 97, listing  ") && handlers.contains("     listing  "), "{handlers}");
        assert!(shown(View::Runs).contains(" 40/100+ "), "{}", shown(View::Runs));
    }

    #[test]
    fn rows_are_sorted_filtered_and_scrolled() {
        let first = |wish: &Wish| {
            let lines = screen(Some(&figures()), None, "http://h", wish, (24, 100), Paint(false));
            lines[6].split_whitespace().next().unwrap_or_default().to_owned()
        };
        let wish = Wish::default();
        assert_eq!(first(&wish), "Indexer", "the largest backlog first");
        assert_eq!(first(&Wish { filter: "pagedown".into(), ..wish.clone() }), "PageDownloader");
        assert_eq!(first(&Wish { scroll: 1, ..wish.clone() }), "PageDownloader");
        assert_eq!(first(&Wish { filter: "nothing".into(), ..wish.clone() }), "");
        let names: Vec<_> = (0..6).map(|order| Wish { order, ..wish.clone() }.order()).collect();
        assert_eq!(names, ["backlog", "name", "in flight", "rate", "failed", "backlog"]);
    }

    #[test]
    fn a_server_that_is_away_is_said_to_be() {
        let away = Some("the server at http://h cannot be reached");
        let lines = screen(Some(&figures()), away, "http://h", &Wish::default(), (24, 100), Paint(false));
        assert_eq!(lines[0], "phasework top  the server at http://h cannot be reached; trying again");
        assert!(lines[1].starts_with("runs      2 live"), "what was known stays: {lines:?}");
    }

    #[test]
    fn views_take_turns() {
        assert_eq!(View::Handlers.turned(true), View::Workers);
        assert_eq!(View::Handlers.turned(false), View::Runs);
        assert_eq!(View::Runs.turned(true), View::Handlers);
    }
}
