//! What the demo tells at the end: what was found, the phases that were taken and how long they took, what was tried
//! again and what was done without. Knows the example's output, and does without whatever it does not find there.

use std::fmt::Write as _;
use std::path::Path;

use phasework_example_search::handlers::Summary;
use serde_json::Value;

use crate::length::words;
use crate::output::{Paint, Rows, Stream, cell, number};
use crate::timeline::Timeline;
use crate::views::{FailureView, HandlerView, RunView};

/// How many failed jobs are named.
const NAMED: usize = 5;

/// The summary of a run that is over.
pub(super) fn tell(
    run: &RunView,
    timeline: &Timeline,
    failures: &[FailureView],
    site: &str,
    keep: Option<&Path>,
) -> String {
    let paint = Stream::Out.paint();
    let mut text = String::from("\n");
    let summary = run.output.clone().and_then(|output| serde_json::from_value::<Summary>(output).ok());
    if let Some(summary) = &summary {
        text.push_str(&found(summary, site, paint));
    }
    text.push_str(&phases(timeline, paint));
    text.push_str(&troubles(timeline, failures, paint));
    if let (Some(folder), true) = (keep, summary.is_some()) {
        writeln!(text, "The pages are kept in {}\n", folder.display()).expect("writing to memory");
    }
    text
}

fn found(summary: &Summary, site: &str, paint: Paint) -> String {
    let Summary { pages, missing, bytes, words, best } = summary;
    let missing = match missing {
        0 => String::new(),
        count => format!("; {count} could not be had"),
    };
    let title = paint.bold(&format!("Found {pages} page{}", if *pages == 1 { "" } else { "s" }));
    let mut text = format!("{title} with {} words, {}{missing}\n", grouped(*words), size(*bytes));
    if !best.is_empty() {
        let mut rows = Rows::new(&["", "MATCHES", "BEST PAGES", ""]);
        let titles: Vec<_> = best.iter().map(|page| page.title.as_str()).collect();
        let ending = common_ending(&titles);
        for page in best {
            let title = page.title.strip_suffix(ending).unwrap_or(&page.title);
            let place = page.url.strip_prefix(site.trim_end_matches('/')).unwrap_or(&page.url);
            rows.add(vec![cell(""), number(page.matches), cell(title), cell(place)]);
        }
        text.push_str(&rows.text(&[1, 2]));
    }
    text + "\n"
}

/// What every page of a site calls itself besides its own title: ` – The Site`.
fn common_ending<'a>(titles: &[&'a str]) -> &'a str {
    let [first, others @ ..] = titles else { return "" };
    let starts = [" – ", " — ", " - ", " | ", " · "].iter().filter_map(|dash| first.rfind(dash));
    let ending = starts.max().map_or("", |start| &first[start..]);
    let is_common = !others.is_empty() && others.iter().all(|title| title.ends_with(ending));
    if is_common { ending } else { "" }
}

fn phases(timeline: &Timeline, paint: Paint) -> String {
    let mut rows = Rows::new(&["", "TOOK", "PHASE", "HANDLERS"]);
    for visit in &timeline.visits {
        let took = visit.took().map(words).unwrap_or_default();
        let tallies: Vec<_> = visit.tallies.iter().map(HandlerView::words).collect();
        let by_error = if visit.on_error { " (by the error transition)" } else { "" };
        let phase = cell(format!("{}{by_error}", visit.phase));
        rows.add(vec![cell(""), number(took), phase, cell(tallies.join("; "))]);
    }
    let path: Vec<_> = timeline.visits.iter().map(|visit| visit.phase.as_str()).collect();
    format!("{} {}\n{}\n", paint.bold("Phases"), paint.dim(&path.join(" → ")), rows.text(&[1, 2]))
}

fn troubles(timeline: &Timeline, failures: &[FailureView], paint: Paint) -> String {
    let tallies = || timeline.visits.iter().flat_map(|visit| &visit.tallies);
    let retried: u64 = tallies().map(|tally| tally.retried).sum();
    let tolerated: u64 = timeline
        .visits
        .iter()
        .filter(|visit| visit.status.as_deref() == Some("succeeded"))
        .flat_map(|visit| &visit.tallies)
        .map(|tally| tally.failed)
        .sum();
    let mut text = String::new();
    let mut line = |line: String| text.push_str(&(line + "\n"));
    if retried > 0 {
        let were = if retried == 1 { "was" } else { "were" };
        line(format!("{} {} failed and {were} tried again", paint.yellow("↻"), times(retried, "try", "tries")));
    }
    if tolerated > 0 {
        let jobs = times(tolerated, "job", "jobs");
        line(format!("{} {jobs} failed for good, which the definition tolerates", paint.yellow("!")));
    }
    for failure in failures.iter().take(NAMED) {
        let handler = failure.handler.as_ref().and_then(Value::as_str).unwrap_or("job");
        let why = failure.error.get("message").and_then(Value::as_str).unwrap_or("?");
        line(format!("    {handler} job {}: {why}", failure.index));
    }
    if failures.len() > NAMED {
        line(format!("    and {} more", failures.len() - NAMED));
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn times(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `12,345`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `999 bytes`, `12 kB`, `3.4 MB`.
fn size(bytes: usize) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_titles_end_with_is_no_news() {
        for (titles, expected) in [
            (&["Puffin – Birds", "Auk – Birds"][..], " – Birds"),
            (&["Puffin – Birds", "Auk"], ""),
            (&["Puffin – Birds"], ""),
            (&["Puffin", "Puffin"], ""),
            (&[], ""),
        ] {
            assert_eq!(common_ending(titles), expected, "{titles:?}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (count, digits, amount) in [
            (0, "0", "0 bytes"),
            (999, "999", "999 bytes"),
            (1000, "1,000", "1 kB"),
            (123_456, "123,456", "123 kB"),
            (3_400_000, "3,400,000", "3.4 MB"),
        ] {
            assert_eq!((grouped(count).as_str(), size(count).as_str()), (digits, amount));
        }
    }
}
