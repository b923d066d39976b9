//! `phasework audit`: whether live runs keep the promises that are made of runs.

use clap::Args;
use comfy_table::Color;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Ask, Server};
use crate::output::{Format, Rows, cell, say, say_items};

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
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Looks at all live runs, a page at a time.
pub(crate) async fn run(args: AuditArgs) -> Outcome {
    let api = Api::new(&args.server)?;
    let (mut findings, mut audited, mut next) = (Vec::new(), 0, None::<String>);
    loop {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(next.take().map(|before| ("before", before)));
        let page: Value = api.get(&["v1", "audit"], Ask { query, ..Ask::default() }).await?;
        audited += page["audited"].as_u64().unwrap_or(0);
        findings.extend(page["findings"].as_array().cloned().unwrap_or_default());
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    if args.output == Format::Table {
        say(&table(&findings, audited))?;
    } else {
        say_items(&json!({ "audited": audited, "findings": findings }), &findings, args.output)?;
    }
    if findings.is_empty() { Ok(Exit::Good) } else { Err(Failure::silent(Exit::Bad)) }
}

fn table(findings: &[Value], audited: u64) -> String {
    let runs = if audited == 1 { "1 live run".to_owned() } else { format!("{audited} live runs") };
    if findings.is_empty() {
        return format!("{runs} looked at, nothing found\n");
    }
    let mut rows = Rows::new(&["RUN", "BREAKS", "HOW"]);
    for finding in findings {
        let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        rows.add(vec![cell(text("run")), cell(text("invariant")).fg(Color::Red), cell(text("message"))]);
    }
    format!("{}{runs} looked at, {} found\n", rows.text(&[2]), findings.len())
}
