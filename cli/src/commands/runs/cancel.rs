//! `phasework runs cancel`: ends a run.

use clap::Args;
use phasework_workflows::id::RunId;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Server};
use crate::output::{Format, Stream, note, say, say_json, state_text};

const EXAMPLES: &str = "\
Examples:
  phasework runs cancel 0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b --reason 'wrong input'

Exit code 1 when the run had ended otherwise before. Canceling again changes nothing.";

/// Cancel a run
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Cancels a run.
pub(crate) async fn run(args: CancelArgs) -> Outcome {
    let api = Api::new(&args.server)?;
    let run = args.run.to_string();
    let answer: Value = api.post(&["v1", "runs", &run, "cancel"], &json!({ "reason": args.reason })).await?;
    let state = answer.get("state").and_then(Value::as_str).unwrap_or("?").to_owned();
    let changed = answer.get("changed").and_then(Value::as_bool) == Some(true);
    match args.output {
        Format::Table if changed => say(&format!("{run} {}\n", state_text(&state, Stream::Out.paint())))?,
        Format::Table => note(&format!("{run} had ended before: {state}")),
        format => say_json(&answer, format)?,
    }
    if state == "canceled" { Ok(Exit::Good) } else { Err(Failure::silent(Exit::Bad)) }
}
