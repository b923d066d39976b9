//! The terminal that `top` draws on: a screen of its own, keys as they are pressed. Leaves the terminal as it was.

use std::io::stdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use tokio::sync::mpsc;

use crate::failure::{Exit, Failure};
use crate::output::{Stream, say};

/// How long the thread that waits for keys may go on when nobody wants them any more.
const NOTICE: Duration = Duration::from_millis(100);

/// A key that means something, or that the terminal has another size now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    Left,
    Right,
    Up,
    Down,
    Quit,
    Resized,
}

impl Key {
    fn of(event: &Event) -> Option<Self> {
        let key = match event {
            Event::Resize(..) => return Some(Self::Resized),
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            _ => return None,
        };
        let KeyEvent { code, modifiers, .. } = *key;
        Some(match code {
            KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Self::Quit,
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Escape,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Tab => Self::Tab,
            KeyCode::Left | KeyCode::BackTab => Self::Left,
            KeyCode::Right => Self::Right,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            _ => return None,
        })
    }
}

/// A terminal that is drawn on until this is dropped.
pub(super) struct Terminal {
    keys: mpsc::Receiver<Key>,
    is_over: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn open() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::usage(format!("cannot draw on this terminal: {error}"));
        enable_raw_mode().map_err(failed)?;
        let (pressed, keys) = mpsc::channel(16);
        let terminal = Self { keys, is_over: Arc::default() };
        execute!(stdout(), EnterAlternateScreen, Hide).map_err(failed)?;
        let is_over = Arc::clone(&terminal.is_over);
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let event = match event::poll(NOTICE) {
                    Ok(true) => event::read(),
                    Ok(false) => continue,
                    Err(error) => Err(error),
                };
                // A terminal that is gone presses no more keys.
                let key = event.map_or(Some(Key::Quit), |event| Key::of(&event));
                if let Some(key) = key
                    && pressed.blocking_send(key).is_err()
                {
                    return;
                }
            }
        });
        Ok(terminal)
    }

    /// The next key. Cancel safe.
    pub(super) async fn key(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::Quit)
    }

    /// How many rows and columns there are.
    #[expect(clippy::unused_self, reason = "of the terminal that was taken")]
    pub(super) fn size(&self) -> (usize, usize) {
        Stream::Out.size().map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)))
    }

    /// Draws lines over what stands there.
    #[expect(clippy::unused_self, reason = "on the terminal that was taken")]
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let lines: Vec<_> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        say(&format!("\x1b[H{}\x1b[J", lines.join("\r\n"))).map_err(|_| Failure::silent(Exit::Good))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // What cannot be put right any more is left: the program ends.
        execute!(stdout(), Show, LeaveAlternateScreen).ok();
        disable_raw_mode().ok();
    }
}
