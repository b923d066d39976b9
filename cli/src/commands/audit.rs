//! `phasework audit`: whether live runs keep the promises that are made of runs.

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::http::Ask;
use crate::output::{Format, say, say_items};
use crate::routes;
use crate::session::{Form, Server, Session};
use crate::table::{Table, column, field};

/// How many runs are looked at with one request.
const PAGE: usize = 200;

const EXAMPLES: &str = "\
Examples:
  phasework audit
  phasework audit --output json

Coordinators audit live runs by themselves, some every ten seconds, and report by log and metric; this looks at all of
them now. Nothing is changed. Exit code 1 when something was found: a run that is named has met a defect or damage.
`phasework runs show` tells how it stands; `phasework runs rerun` or `cancel` gets it going or out of the way.";

/// Check that live runs keep what is promised of runs
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Looks at all live runs, a page at a time.
pub(crate) async fn run(args: AuditArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let (mut findings, mut audited, mut next) = (Vec::new(), 0, None::<String>);
    loop {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(next.take().map(|before| ("before", before)));
        let page: Value = api.get(&routes::AUDIT, &[], Ask { query, ..Ask::default() }).await?;
        audited += page["audited"].as_u64().unwrap_or(0);
        findings.extend(page["findings"].as_array().cloned().unwrap_or_default());
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    if format == Format::Table {
        say(&table(&findings, audited))?;
    } else {
        say_items(&json!({ "audited": audited, "findings": findings }), &findings, format)?;
    }
    if findings.is_empty() { Ok(Exit::Good) } else { Err(Failure::silent(Exit::Bad)) }
}

fn table(findings: &[Value], audited: u64) -> String {
    let runs = if audited == 1 { "1 live run".to_owned() } else { format!("{audited} live runs") };
    if findings.is_empty() {
        return format!("{runs} looked at, nothing found\n");
    }
    let mut rows = Table::new(&[column("RUN"), column("BREAKS").keep(2).least(8), column("HOW").keep(1).least(20)]);
    for finding in findings {
        let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        rows.add(vec![field(text("run")), field(text("invariant")).bad(), field(text("message"))]);
    }
    format!("{}{runs} looked at, {} found\n", rows.text(), findings.len())
}
