//! `phasework workflows list`: which workflows are stored.

use clap::Args;
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::moment;
use crate::output::{Format, Rows, cell, note, number, say, say_items};
use crate::views::WorkflowView;

const EXAMPLES: &str = "\
Examples:
  phasework workflows list
  phasework workflows list --output jsonl | jq -r .name";

/// List stored workflows
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Lists workflows.
pub(crate) async fn run(args: ListArgs) -> Outcome {
    let answer: Value = Api::new(&args.server)?.get(&["v1", "workflows"], Ask::default()).await?;
    let items = answer.get("workflows").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.output != Format::Table {
        say_items(&answer, &items, args.output)?;
        return Ok(Exit::Good);
    }
    let workflows: Vec<WorkflowView> = read(Value::Array(items))?;
    if workflows.is_empty() {
        note("no workflows; `phasework apply FILE` stores one");
        return Ok(Exit::Good);
    }
    let mut rows = Rows::new(&["WORKFLOW", "REVISION", "PHASES", "STORED"]);
    for workflow in &workflows {
        let phases = number(workflow.phases.map_or("-".to_owned(), |phases| phases.to_string()));
        let stored = cell(workflow.stored_at.map_or("-".to_owned(), moment));
        rows.add(vec![cell(&workflow.name), cell(&workflow.revision), phases, stored]);
    }
    say(&rows.text(&[0, 1]))?;
    Ok(Exit::Good)
}
