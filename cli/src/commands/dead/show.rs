//! `phasework dead show`: one dead letter, whole.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::moment;
use crate::output::{Format, Stream, say, say_json};
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
    id: String,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Shows a dead letter.
pub(crate) async fn run(args: ShowArgs) -> Outcome {
    let answer: Value = Api::new(&args.server)?.get(&["v1", "dead", &args.id], Ask::default()).await?;
    if args.output != Format::Table {
        say_json(&answer, args.output)?;
        return Ok(Exit::Good);
    }
    let letter: DeadView = read(answer)?;
    let paint = Stream::Out.paint();
    let mut text = String::new();
    let kind = if letter.kind.is_empty() { "(none given)" } else { &letter.kind };
    for (what, value) in [
        ("id", letter.id.clone()),
        ("reason", paint.red(&letter.reason)),
        ("when", moment(letter.at)),
        ("queue", letter.queue.clone()),
        ("kind", kind.to_owned()),
        ("size", format!("{} bytes", letter.size)),
    ] {
        writeln!(text, "{} {value}", paint.dim(&format!("{what:<7}"))).expect("writing to memory");
    }
    if let Some(body) = &letter.body {
        let pretty = serde_json::from_str::<Value>(body).map(|value| format!("{value:#}"));
        write!(text, "\n{}\n", pretty.unwrap_or_else(|_| body.clone())).expect("writing to memory");
    }
    say(&text)?;
    Ok(Exit::Good)
}
