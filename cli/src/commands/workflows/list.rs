//! `phasework workflows list`: which workflows are stored.

use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::http::{Ask, read};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field};
use crate::views::WorkflowView;
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework workflows list
  phasework workflows list --output jsonl | jq -r .name";

/// List stored workflows
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Lists workflows.
pub(crate) async fn run(args: ListArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    let ask = async || {
        let whole: Value = api.get(&routes::WORKFLOWS, &[], Ask::default()).await?;
        let items = whole.get("workflows").and_then(Value::as_array).cloned();
        Ok(Answer { whole, items, is_final: false })
    };
    show(session, &args.form, "name", ask, tell).await
}

fn tell(answer: &Answer, times: Times) -> Result<Page, Failure> {
    let workflows: Vec<WorkflowView> = read(answer.items.clone().into())?;
    if workflows.is_empty() {
        let note = Some("no workflows; `phasework apply FILE` stores one".to_owned());
        return Ok(Page { note, ..Page::default() });
    }
    let mut table = Table::new(&[
        column("WORKFLOW").keep(9).least(12),
        column("REVISION").keep(1).least(8),
        column("PHASES").keep(2).right(),
        column("STORED").keep(3),
    ]);
    for workflow in &workflows {
        let phases = field(workflow.phases.map_or("-".to_owned(), |phases| phases.to_string()));
        let stored = field(workflow.stored_at.map_or("-".to_owned(), |at| times.tell(at)));
        table.add(vec![field(&workflow.name), field(&workflow.revision), phases, stored]);
    }
    Ok(Page { text: table.text(), ..Page::default() })
}
