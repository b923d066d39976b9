//! `phasework apply`: stores definitions. All are checked before any is stored.

use clap::Args;
use serde_json::{Value, json};

use super::source::{self, Source};
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, read};
use crate::output::{Format, Stream, note, say, say_items};
use crate::routes::{self, Route};
use crate::session::{Form, Server, Session};
use crate::snippet;
use crate::table::{Table, column, field};
use crate::views::AppliedView;

const EXAMPLES: &str = "\
Examples:
  phasework apply search.json
  phasework apply workflows/*.json

All definitions are checked before any is stored. Storing one again changes nothing: its revision is its content.";

/// Store workflow definitions
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApplyArgs {
    /// The definitions; - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    server: Server,
}

/// Checks all, then stores all.
pub(crate) async fn run(args: ApplyArgs, session: &Session) -> Outcome {
    let (api, format) = (session.api(&args.server)?, session.format(&args.form)?);
    let sources = args.files.iter().map(|file| source::read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut refusals = Vec::new();
    for source in &sources {
        if let Err(failure) = ask(&api, &routes::VALIDATE, source).await {
            refusals.push(failure);
        }
    }
    if let Some(last) = refusals.pop() {
        for failure in refusals {
            failure.tell();
        }
        return Err(if sources.len() > 1 { last.hint("nothing was stored") } else { last });
    }
    let mut applied = Vec::new();
    for source in &sources {
        let answer = ask(&api, &routes::APPLY, source).await?;
        applied.push((source, read(answer)?));
    }
    tell(&applied, format)?;
    Ok(Exit::Good)
}

async fn ask(api: &Api, route: &Route, source: &Source) -> Result<Value, Failure> {
    let answer = api.send_text(route, &source.text).await;
    answer.map_err(|failure| {
        if failure.problems.is_empty() {
            return failure;
        }
        let message = format!("{}: {}", source.name, failure.message);
        Failure { message, ..failure.in_source(&source.name, &source.text) }
    })
}

fn tell(applied: &[(&Source, AppliedView)], format: Format) -> Result<(), Failure> {
    for (source, view) in applied {
        let warnings = snippet::render_all(&source.name, &source.text, &view.warnings, Stream::Err);
        if !warnings.is_empty() {
            note(warnings.trim_end_matches('\n'));
        }
    }
    if format != Format::Table {
        let items: Vec<Value> = applied
            .iter()
            .map(|(source, view)| {
                json!({ "file": source.name, "name": view.name, "revision": view.revision, "created": view.created })
            })
            .collect();
        return say_items(&items, &items, format);
    }
    let columns = [
        column("WORKFLOW").keep(9).least(12),
        column("REVISION").keep(1).least(8),
        column("STORED").keep(8),
        column("FILE").keep(5).least(12),
    ];
    let mut table = Table::new(&columns);
    for (source, view) in applied {
        let stored = if view.created { field("new").good() } else { field("unchanged") };
        table.add(vec![field(&view.name), field(&view.revision), stored, field(&source.name)]);
    }
    say(&table.text())
}
