//! `phasework apply`: stores definitions. All are checked before any is stored.

use clap::Args;
use comfy_table::Color;
use reqwest::Method;
use serde_json::{Value, json};

use super::source::{self, Source};
use crate::failure::{Exit, Failure, Outcome};
use crate::http::{Api, Server, read};
use crate::output::{Format, Rows, Stream, cell, note, say, say_items};
use crate::snippet;
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
    /// In which form
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    server: Server,
}

/// Checks all, then stores all.
pub(crate) async fn run(args: ApplyArgs) -> Outcome {
    let api = Api::new(&args.server)?;
    let sources = args.files.iter().map(|file| source::read(file)).collect::<Result<Vec<_>, _>>()?;
    let mut refusals = Vec::new();
    for source in &sources {
        if let Err(failure) = ask(&api, Method::POST, &["v1", "workflows", "validate"], source).await {
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
        let answer = ask(&api, Method::PUT, &["v1", "workflows"], source).await?;
        applied.push((source, read(answer)?));
    }
    tell(&applied, args.output)?;
    Ok(Exit::Good)
}

async fn ask(api: &Api, method: Method, path: &[&str], source: &Source) -> Result<Value, Failure> {
    let answer = api.send_text(method, path, &source.text).await;
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
    let mut rows = Rows::new(&["WORKFLOW", "REVISION", "STORED", "FILE"]);
    for (source, view) in applied {
        let stored = if view.created { cell("new").fg(Color::Green) } else { cell("unchanged") };
        rows.add(vec![cell(&view.name), cell(&view.revision), stored, cell(&source.name)]);
    }
    say(&rows.text(&[0, 1]))
}
