//! Watches a run on a server until it is over, and shows how far it is. Changes nothing. A server that goes away for a
//! while is waited for: the run goes on elsewhere, or when it is back.

use std::time::Duration;

use phasework_workflows::time::{Clock as _, Millis, SystemClock};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::failure::{Exit, Failure};
use crate::http::{Api, Ask, read};
use crate::progress::Progress;
use crate::timeline::{Event, Timeline};
use crate::views::{HistoryPage, RunView};

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How much of a history is asked for at once.
const PAGE: usize = 200;

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// What watching came to.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The run as it was told last.
    pub(crate) answer: Value,
    /// The same, read.
    pub(crate) run: RunView,
    /// What happened to it.
    pub(crate) timeline: Timeline,
}

/// Watches a run until it has ended or halted, or `timeout` is over.
pub(crate) async fn follow(api: &Api, run: &str, timeout: Option<Duration>) -> Result<Watched, Failure> {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let (mut timeline, mut progress) = (Timeline::default(), Progress::new());
    let (answer, run) = watch(api, run, until, &mut timeline, &mut progress).await?;
    Ok(Watched { answer, run, timeline })
}

async fn watch(
    api: &Api,
    run: &str,
    until: Option<Instant>,
    timeline: &mut Timeline,
    progress: &mut Progress,
) -> Result<(Value, RunView), Failure> {
    let (mut entry, mut away_since) = (None, None);
    loop {
        let answer = match look(api, run).await {
            Err(failure) if failure.exit == Exit::Unreachable => {
                let since = *away_since.get_or_insert_with(|| {
                    progress.say(&format!("{}; trying again", failure.message));
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(failure.hint("the run goes on without being watched"));
                }
                sleep(LOOK_EVERY).await;
                continue;
            }
            answer => answer?,
        };
        away_since = None;
        let view: RunView = read(answer.clone())?;
        if entry != Some(view.entry) || view.is_over() {
            entry = Some(view.entry);
            catch_up(api, run, timeline).await?;
        }
        progress.show(&view, timeline, SystemClock.now());
        if view.is_over() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok((answer, view));
        }
    }
}

/// The run as it is a moment later, or as soon as it is over.
async fn look(api: &Api, run: &str) -> Result<Value, Failure> {
    let query = vec![("wait", Millis::from(LOOK_EVERY).to_string())];
    api.get(&["v1", "runs", run], Ask { query, wait: LOOK_EVERY }).await
}

/// Folds in what happened since.
async fn catch_up(api: &Api, run: &str, timeline: &mut Timeline) -> Result<(), Failure> {
    loop {
        let query = vec![("after", timeline.last.to_string()), ("limit", PAGE.to_string())];
        let page: HistoryPage = api.get(&["v1", "runs", run, "history"], Ask { query, ..Ask::default() }).await?;
        let last = timeline.last;
        page.events.iter().filter_map(Event::read).for_each(|event| timeline.add(&event));
        if page.events.len() < PAGE || timeline.last == last {
            return Ok(());
        }
    }
}
