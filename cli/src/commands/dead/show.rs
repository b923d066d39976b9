//! `phasework dead show`: one dead letter, whole.

use std::fmt::Write as _;

use clap::Args;
use clap_complete::ArgValueCandidates;
use serde_json::Value;

use crate::complete;
use crate::failure::{Exit, Outcome};
use crate::http::{Ask, read};
use crate::length::moment;
use crate::output::{Format, Paint, Stream, say, say_json};
use crate::routes;
use crate::session::{Form, Server, Session};
use crate::table::{one_line, with_lines};
use crate::views::DeadView;

const EXAMPLES: &str = "\
Examples:
  phasework dead show 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b
  phasework dead show ID --output json | jq -r .body";

/// Show a dead letter: why it is one, where it came from, its body
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The dead letter
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::dead_letters))]
    id: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Shows a dead letter.
pub(crate) async fn run(args: ShowArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let answer: Value = api.get(&routes::DEAD_LETTER, &[&args.id], Ask::default()).await?;
    if format != Format::Table {
        say_json(&answer, format)?;
        return Ok(Exit::Good);
    }
    let letter: DeadView = read(answer)?;
    say(&told(&letter, Stream::Out.paint()))?;
    Ok(Exit::Good)
}

/// A dead letter for people. Whoever can send a message has written it: it says nothing to the terminal.
fn told(letter: &DeadView, paint: Paint) -> String {
    let mut text = String::new();
    let kind = if letter.kind.is_empty() { "(none given)" } else { &letter.kind };
    for (what, value) in [
        ("id", one_line(&letter.id)),
        ("reason", paint.red(&one_line(&letter.reason))),
        ("when", moment(letter.at)),
        ("queue", one_line(&letter.queue)),
        ("kind", one_line(kind)),
        ("size", format!("{} bytes", letter.size)),
    ] {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<7}"))).expect("writing to memory");
    }
    if let Some(body) = &letter.body {
        let pretty = serde_json::from_str::<Value>(body).map(|value| format!("{value:#}"));
        write!(text, "\n{}\n", with_lines(&pretty.unwrap_or_else(|_| body.clone()))).expect("writing to memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use phasework_workflows::time::Timestamp;

    use super::*;

    #[test]
    fn a_dead_letter_says_nothing_to_the_terminal() {
        let evil = "a\x1b]0;b\x07\u{9b}2J";
        let letter = |body: &str| DeadView {
            id: evil.into(),
            reason: format!("{evil}\nqueue"),
            at: Timestamp::from_millis(0),
            queue: evil.into(),
            kind: evil.into(),
            size: 1,
            body: Some(body.into()),
        };
        for (body, shown) in [("{\t\x1b[2J\n}", "\n{\t [2J\n}\n"), ("[\"\u{9b}2J\"]", "\n[\n  \" 2J\"\n]\n")] {
            let text = told(&letter(body), Paint(false));
            assert!(text.ends_with(shown), "{text:?}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
            assert_eq!(text.lines().filter(|line| line.starts_with("queue")).count(), 1, "{text}");
        }
    }
}
