//! `phasework top`: a live view of runs, handlers, workers and coordinators. Asks the public API and nothing else.
//!
//! In reading order: `figures` works out what is shown, `draw` makes lines of it, `terminal` has the screen and the
//! keys; here they are put together.

mod draw;
mod figures;
mod terminal;

use std::time::Duration;

use clap::Args;
use phasework_workflows::time::{Clock as _, SystemClock};
use serde_json::Value;
use tokio::sync::mpsc;

use self::draw::{Wish, screen, summary, table};
use self::figures::{Figures, Look};
use self::terminal::{Key, Terminal};
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Ask, read};
use crate::interrupt::Interrupts;
use crate::output::{Format, Stream, say, say_json};
use crate::pages::{Turn, gather};
use crate::routes;
use crate::session::{Form, Server, Session};
use crate::views::{CoordinatorsPage, DeadPage, RunsPage, WorkersPage};

/// How many live runs are looked at unless told otherwise.
const RUNS: usize = 1000;

/// How long the two looks of `--once` are apart.
const ONCE_APART: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  phasework top
  phasework top --every 5 --context prod
  phasework top --once                       once, for scripts and logs; rates over one second
  phasework top --once --output json | jq '.handlers[] | select(.workers == 0)'

Keys: q or Ctrl-C quits; Tab, ← and → change the table (handlers, workers, runs); ↑ and ↓ scroll; s sorts by something
else; / filters, Esc drops the filter; space pauses. Backlogs, waits and the rate of jobs are counted over the newest
live runs, 1000 of them unless --runs says otherwise. A server that goes away is waited for.";

/// Watch runs, handlers, workers and coordinators live
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Print once, and end
    #[arg(long)]
    once: bool,
    /// How many seconds apart to look
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = crate::session::seconds)]
    every: Duration,
    /// How many live runs to look at
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    runs: usize,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Watches.
pub(crate) async fn run(args: TopArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    if args.once {
        return once(&api, args.runs, format, session).await;
    }
    if format != Format::Table || !Stream::Out.is_terminal() {
        return Err(Failure::usage("top draws on a terminal").hint("--once prints once, in any form"));
    }
    let mut interrupts = Interrupts::listen()?;
    let mut terminal = Terminal::open()?;
    tokio::select! {
        biased;
        _ = interrupts.next() => Ok(Exit::Interrupted),
        outcome = live(&api, &args, &mut terminal) => outcome,
    }
}

async fn once(api: &Api, runs: usize, format: Format, session: &Session) -> Outcome {
    let before = look(api, runs).await?;
    // A rate takes two looks, some time apart.
    tokio::time::sleep(ONCE_APART).await;
    let figures = Figures::of(&look(api, runs).await?, Some(&before));
    if format != Format::Table {
        say_json(&figures, format)?;
        return Ok(Exit::Good);
    }
    let mut text = summary(&figures, Stream::Out.paint()).join("\n") + "\n";
    for view in draw::View::ALL {
        let wish = Wish { view, ..Wish::default() };
        text += &format!("\n{}", table(&figures, &wish, session.times()).text());
    }
    say(&text)?;
    Ok(Exit::Good)
}

/// Asks for everything that is shown.
async fn look(api: &Api, runs: usize) -> Result<Look, Failure> {
    let query = [("state", "live".to_owned())];
    let live = gather(api, (&routes::RUNS, &[]), "runs", &query, Turn::Next("before"), runs).await?;
    let page: RunsPage = read(live.last)?;
    let one = Ask { query: vec![("limit", "1".to_owned())], ..Ask::default() };
    let workers: WorkersPage = api.get(&routes::WORKERS, &[], Ask::default()).await?;
    let dead: DeadPage = api.get(&routes::DEAD, &[], one).await?;
    let coordinators: CoordinatorsPage = api.get(&routes::COORDINATORS, &[], Ask::default()).await?;
    Ok(Look {
        at: SystemClock.now(),
        counts: page.counts,
        runs: read(Value::Array(live.items))?,
        workers: workers.workers,
        dead: dead.count,
        coordinators: coordinators.coordinators,
    })
}

/// What is known, and how it is to be seen.
#[derive(Default)]
struct State {
    last: Option<Look>,
    figures: Option<Figures>,
    away: Option<String>,
    wish: Wish,
}

impl State {
    fn take(&mut self, found: Result<Look, Failure>) -> Result<(), Failure> {
        match found {
            // Who is not let in at first never is; who is let in may see the server go away, or be shut out, and waits.
            Err(failure) if self.last.is_none() && failure.exit != Exit::Unreachable => return Err(failure),
            Err(failure) => self.away = Some(failure.message),
            Ok(look) => {
                self.figures = Some(Figures::of(&look, self.last.as_ref()));
                (self.last, self.away) = (Some(look), None);
            }
        }
        Ok(())
    }

    /// Does what a key says; whether to go on.
    fn press(&mut self, key: Key) -> bool {
        let wish = &mut self.wish;
        match (key, wish.is_typing) {
            (Key::Quit, _) => return false,
            (Key::Char(c), true) => wish.filter.push(c),
            (Key::Backspace, true) => drop(wish.filter.pop()),
            (Key::Enter, true) => wish.is_typing = false,
            (Key::Escape, _) => {
                wish.is_typing = false;
                wish.filter.clear();
            }
            (Key::Char('q'), false) => return false,
            (Key::Char('/'), false) => (wish.is_typing, wish.scroll) = (true, 0),
            (Key::Char(' ' | 'p'), false) => wish.is_paused = !wish.is_paused,
            (Key::Char('s'), false) => (wish.order, wish.scroll) = (wish.order + 1, 0),
            (Key::Tab | Key::Right | Key::Left, _) => {
                wish.view = wish.view.turned(key != Key::Left);
                (wish.order, wish.scroll) = (0, 0);
            }
            (Key::Down, _) => wish.scroll += 1,
            (Key::Up, _) => wish.scroll = wish.scroll.saturating_sub(1),
            (Key::Enter | Key::Backspace | Key::Char(_) | Key::Resized, _) => {}
        }
        true
    }
}

async fn live(api: &Api, args: &TopArgs, terminal: &mut Terminal) -> Outcome {
    let (found, mut finds) = mpsc::channel(1);
    let mut state = State::default();
    let mut ticks = tokio::time::interval(args.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_asking = false;
    loop {
        let (server, paint) = (api.address(), Stream::Out.paint());
        let lines = screen(state.figures.as_ref(), state.away.as_deref(), server, &state.wish, terminal.size(), paint);
        terminal.draw(&lines)?;
        tokio::select! {
            biased;
            key = terminal.key() => {
                if !state.press(key) {
                    return Ok(Exit::Good);
                }
            }
            Some(look) = finds.recv() => {
                is_asking = false;
                if !state.wish.is_paused {
                    state.take(look)?;
                }
            }
            _ = ticks.tick(), if !is_asking && !state.wish.is_paused => {
                is_asking = true;
                let (api, found, runs) = (api.clone(), found.clone(), args.runs);
                // Keys are heard while a server takes its time.
                tokio::spawn(async move { found.send(look(&api, runs).await).await });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::draw::View;
    use super::*;

    #[test]
    fn keys_do_what_is_said_of_them() {
        let mut state = State::default();
        let mut press = |keys: &[Key]| {
            let goes_on = keys.iter().all(|key| state.press(*key));
            (goes_on, state.wish.clone())
        };
        assert!(press(&[Key::Tab]).1.view == View::Workers);
        assert!(press(&[Key::Left, Key::Left]).1.view == View::Runs);
        assert_eq!(press(&[Key::Down, Key::Down, Key::Up]).1.scroll, 1);
        assert_eq!(press(&[Key::Char('s')]).1.order, 1);
        assert!(press(&[Key::Char(' ')]).1.is_paused);
        let wish = press(&[Key::Char('/'), Key::Char('q'), Key::Char('x'), Key::Backspace, Key::Enter]).1;
        assert_eq!((wish.filter.as_str(), wish.is_typing), ("q", false));
        assert_eq!(press(&[Key::Escape]).1.filter, "");
        assert!(!press(&[Key::Char('q')]).0);
        assert!(!press(&[Key::Quit]).0);
    }

    #[test]
    fn a_server_that_goes_away_is_waited_for() {
        let away = |exit| Err(Failure::new(exit, "away"));
        let mut state = State::default();
        assert!(state.take(away(Exit::Usage)).is_err(), "who is not let in is told so");
        state.take(away(Exit::Unreachable)).unwrap();
        assert_eq!(state.away.as_deref(), Some("away"));
        let look = Look {
            at: SystemClock.now(),
            counts: crate::views::Counts::default(),
            runs: Vec::new(),
            workers: Vec::new(),
            dead: 0,
            coordinators: Vec::new(),
        };
        state.take(Ok(look)).unwrap();
        assert_eq!((state.away.as_deref(), state.figures.is_some()), (None, true));
        state.take(away(Exit::Usage)).unwrap();
        assert!(state.figures.is_some(), "what was known stays");
    }
}
