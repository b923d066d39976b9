//! `phasework workflows show`: a definition as it is stored, and its revisions.

use clap::Args;
use clap_complete::ArgValueCandidates;
use serde_json::Value;

use crate::complete;
use crate::failure::{Failure, Outcome};
use crate::http::{Ask, read};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field};
use crate::views::WorkflowView;
use crate::watch::{Answer, Page, show};

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
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::workflows))]
    name: String,
    /// Which revision; the latest if not given
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Shows a workflow.
pub(crate) async fn run(args: ShowArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    let ask = async || {
        let query = args.revision.iter().map(|revision| ("revision", revision.clone())).collect();
        let whole: Value = api.get(&routes::WORKFLOW, &[&args.name], Ask { query, ..Ask::default() }).await?;
        Ok(Answer { whole, items: None, is_final: args.revision.is_some() })
    };
    show(session, &args.form, "name", ask, tell).await
}

fn tell(answer: &Answer, times: Times) -> Result<Page, Failure> {
    let workflow: WorkflowView = read(answer.whole.clone())?;
    let mut text = format!("{} (revision {})\n\n{:#}\n", workflow.name, workflow.revision, workflow.definition);
    if workflow.revisions.len() > 1 {
        let mut table = Table::new(&[column("REVISION"), column("STORED")]);
        for revision in &workflow.revisions {
            table.add(vec![field(&revision.revision), field(times.tell(revision.stored_at))]);
        }
        text = format!("{text}\n{}", table.text());
    }
    Ok(Page { text, ..Page::default() })
}
