//! `phasework workflows show`: a definition as it is stored, and its revisions.

use clap::Args;
use serde_json::Value;

use crate::failure::{Exit, Outcome};
use crate::http::{Api, Ask, Server, read};
use crate::length::moment;
use crate::output::{Format, Rows, cell, say, say_json};
use crate::views::WorkflowView;

const EXAMPLES: &str = "\
Examples:
  phasework workflows show search
  phasework workflows show search --revision 3f2a60d1c0ffee00aa11bb22cc33dd44
  phasework workflows show search --output json | jq .definition > search.json";

/// Show a workflow's definition and its revisions
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The workflow
    name: String,
    /// Which revision; the latest if not given
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Shows a workflow.
pub(crate) async fn run(args: ShowArgs) -> Outcome {
    let query = args.revision.map(|revision| ("revision", revision)).into_iter().collect();
    let path = ["v1", "workflows", &args.name];
    let answer: Value = Api::new(&args.server)?.get(&path, Ask { query, ..Ask::default() }).await?;
    if args.output != Format::Table {
        say_json(&answer, args.output)?;
        return Ok(Exit::Good);
    }
    let workflow: WorkflowView = read(answer)?;
    let mut text = format!("{} (revision {})\n\n{:#}\n", workflow.name, workflow.revision, workflow.definition);
    if workflow.revisions.len() > 1 {
        let mut rows = Rows::new(&["REVISION", "STORED"]);
        for revision in &workflow.revisions {
            rows.add(vec![cell(&revision.revision), cell(moment(revision.stored_at))]);
        }
        text = format!("{text}\n{}", rows.text(&[0]));
    }
    say(&text)?;
    Ok(Exit::Good)
}
