//! `phasework dead list`: which messages were set aside, and why.

use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::http::read;
use crate::pages::{Turn, gather};
use crate::routes;
use crate::session::{Server, Session, Times, WatchedForm};
use crate::table::{Table, column, field};
use crate::views::{DeadPage, DeadView};
use crate::watch::{Answer, Page, show};

const EXAMPLES: &str = "\
Examples:
  phasework dead list
  phasework dead list --skip 50 --limit 50
  phasework dead list --watch
  phasework dead list --output jsonl | jq -r .reason | sort | uniq -c";

/// List dead letters, newest first
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// How many of the newest to pass over
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    #[command(flatten)]
    form: WatchedForm,
    #[command(flatten)]
    server: Server,
}

/// Lists dead letters.
pub(crate) async fn run(args: ListArgs, session: &Session) -> Outcome {
    let api = session.api(&args.server)?;
    let ask = async || {
        let page = gather(&api, (&routes::DEAD, &[]), "dead", &[], Turn::Skip(args.skip), args.limit).await?;
        let mut whole = page.last;
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("dead".into(), page.items.clone().into());
        }
        Ok(Answer { whole, items: Some(page.items), is_final: false })
    };
    show(session, &args.form, "id", ask, |answer, times| tell(&answer.whole, times, args.skip)).await
}

fn tell(answer: &Value, times: Times, skip: usize) -> Result<Page, Failure> {
    let page: DeadPage = read(answer.clone())?;
    if page.dead.is_empty() {
        return Ok(Page { note: Some("no dead letters".to_owned()), ..Page::default() });
    }
    let shown = page.dead.len();
    let there_is_more = page.count > (skip + shown) as u64;
    let more = there_is_more.then(|| format!("{shown} of {}; --skip and --limit show more", page.count));
    Ok(Page { text: table(&page.dead, times).text(), more, note: None })
}

fn table(letters: &[DeadView], times: Times) -> Table {
    let mut table = Table::new(&[
        column("ID"),
        column("WHEN").keep(5),
        column("QUEUE").keep(4).least(8),
        column("KIND").keep(3).least(6),
        column("SIZE").keep(2).right(),
        column("REASON").keep(6).least(12),
    ]);
    for letter in letters {
        let (when, size) = (field(times.tell(letter.at)), field(letter.size));
        let (queue, kind) = (field(&letter.queue), field(&letter.kind));
        table.add(vec![field(&letter.id), when, queue, kind, size, field(&letter.reason)]);
    }
    table
}
