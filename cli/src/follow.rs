//! Watches a run on a server until it is over, and shows how far it is. Changes nothing. A server that goes away for a
//! while is waited for: the run goes on elsewhere, or when it is back.

use std::time::Duration;

use phasework_workflows::time::{Clock as _, Millis, SystemClock};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::failure::{Exit, Failure};
use crate::http::{Api, Ask, read};
use crate::output::note;
use crate::progress::Progress;
use crate::routes;
use crate::timeline::{Event, Timeline};
use crate::views::{HistoryPage, RunView};

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often to look what happened within a phase.
const CATCH_UP_EVERY: Duration = Duration::from_secs(2);

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
    let mut lookout = Lookout::new(api, run);
    let mut caught_up: Option<(u32, String, Instant)> = None;
    loop {
        let Some((answer, view)) = lookout.look(|words| progress.say(words)).await? else { continue };
        let is_known = caught_up.as_ref().is_some_and(|(entry, state, at)| {
            (*entry, state) == (view.entry, &view.state) && at.elapsed() < CATCH_UP_EVERY
        });
        if !is_known || view.is_over() {
            catch_up(api, run, timeline).await?;
            caught_up = Some((view.entry, view.state.clone(), Instant::now()));
        }
        progress.show(&view, timeline, SystemClock.now());
        if view.is_over() || until.is_some_and(|until| Instant::now() >= until) {
            return Ok((answer, view));
        }
    }
}

/// Waits until a run that is being canceled has ended, and tells what it waits for.
pub(crate) async fn until_ended(api: &Api, run: &str) -> Result<RunView, Failure> {
    let (mut lookout, mut told) = (Lookout::new(api, run), None);
    loop {
        let Some((_, view)) = lookout.look(note).await? else { continue };
        if view.state != "canceling" {
            return Ok(view);
        }
        if let Some(waits) = view.waiting_for.filter(|waits| told.as_ref() != Some(waits)) {
            note(&format!("{run} waits for {waits}"));
            told = Some(waits);
        }
    }
}

/// Looks at a run again and again. A server that goes away for a while is waited for.
struct Lookout<'a> {
    api: &'a Api,
    run: &'a str,
    away_since: Option<Instant>,
}

impl<'a> Lookout<'a> {
    const fn new(api: &'a Api, run: &'a str) -> Self {
        Self { api, run, away_since: None }
    }

    /// The run as it is a moment later, or as soon as it is over; nothing while the server is away.
    async fn look(&mut self, tell: impl Fn(&str)) -> Result<Option<(Value, RunView)>, Failure> {
        let query = vec![("wait", Millis::from(LOOK_EVERY).to_string())];
        let answer: Result<Value, Failure> =
            self.api.get(&routes::RUN, &[self.run], Ask { query, wait: LOOK_EVERY }).await;
        match answer {
            Err(failure) if failure.exit == Exit::Unreachable => {
                let since = *self.away_since.get_or_insert_with(|| {
                    tell(&format!("{}; trying again", failure.message));
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(failure.hint("the run goes on without being watched"));
                }
                sleep(LOOK_EVERY).await;
                Ok(None)
            }
            answer => {
                self.away_since = None;
                let answer = answer?;
                let view = read(answer.clone())?;
                Ok(Some((answer, view)))
            }
        }
    }
}

/// Folds in what happened since.
async fn catch_up(api: &Api, run: &str, timeline: &mut Timeline) -> Result<(), Failure> {
    loop {
        let query = vec![("after", timeline.last.to_string()), ("limit", PAGE.to_string())];
        let page: HistoryPage = api.get(&routes::HISTORY, &[run], Ask { query, ..Ask::default() }).await?;
        let last = timeline.last;
        page.events.iter().filter_map(Event::read).for_each(|event| timeline.add(&event));
        if page.events.len() < PAGE || timeline.last == last {
            return Ok(());
        }
    }
}
