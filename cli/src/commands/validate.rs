//! `phasework validate`: says everything that is wrong with definitions, and where. Needs no server.

use clap::Args;
use phasework_workflows::definition::{Problem, parse};
use serde::Serialize;

use super::source;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Format, Stream, note, say, say_items};
use crate::session::{Form, Session};
use crate::snippet;
use crate::views::ProblemView;

const EXAMPLES: &str = "\
Examples:
  phasework validate search.json
  phasework validate workflows/*.json --output json
  generate-workflow | phasework validate -

Exit codes: 0 when all are valid, 1 when one is not, 2 when one cannot be read.";

/// Check workflow definitions, without a server
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// The definitions; - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    form: Form,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct Judgement {
    file: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<usize>,
    problems: Vec<ProblemView>,
    #[serde(skip_serializing_if = "is_zero")]
    omitted: usize,
    #[serde(skip)]
    text: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Checks every file.
pub(crate) fn run(args: &ValidateArgs, session: &Session) -> Outcome {
    let judgements = args.files.iter().map(|file| judge(file)).collect::<Result<Vec<_>, _>>()?;
    match session.format(&args.form)? {
        Format::Table => judgements.iter().try_for_each(tell)?,
        format => say_items(&judgements, &judgements, format)?,
    }
    Ok(if judgements.iter().all(|judgement| judgement.valid) { Exit::Good } else { Exit::Bad })
}

fn judge(file: &str) -> Result<Judgement, Failure> {
    let source = source::read(file)?;
    let (file, text) = (source.name, source.text);
    Ok(match parse(&text) {
        Ok(document) => Judgement {
            file,
            valid: true,
            name: Some(document.workflow.name.to_string()),
            revision: Some(document.workflow.revision.to_string()),
            phases: Some(document.workflow.phases.len()),
            problems: document.warnings.iter().map(view).collect(),
            omitted: 0,
            text,
        },
        Err(problems) => Judgement {
            file,
            valid: false,
            name: None,
            revision: None,
            phases: None,
            problems: problems.iter().map(view).collect(),
            omitted: problems.omitted,
            text,
        },
    })
}

/// A problem found here, in the form in which a server tells one.
pub(super) fn view(problem: &Problem) -> ProblemView {
    let as_told = serde_json::to_value(problem).and_then(serde_json::from_value);
    as_told.expect("a problem is told in the form in which it is read")
}

fn tell(judgement: &Judgement) -> Result<(), Failure> {
    let (err, out) = (Stream::Err.paint(), Stream::Out.paint());
    let shown = snippet::render_all(&judgement.file, &judgement.text, &judgement.problems, Stream::Err);
    if !shown.is_empty() {
        note(shown.trim_end_matches('\n'));
    }
    let warnings = judgement.problems.iter().filter(|problem| problem.is_warning()).count();
    let errors = judgement.problems.len() - warnings + judgement.omitted;
    let also = if warnings == 0 { String::new() } else { format!(", {}", counted(warnings, "warning")) };
    let file = &judgement.file;
    if let (Some(name), Some(revision), Some(phases)) = (&judgement.name, &judgement.revision, judgement.phases) {
        let mark = out.green("✔");
        let phases = counted(phases, "phase");
        return say(&format!("{mark} {file}: workflow `{name}` is valid: {phases}{also} (revision {revision})\n"));
    }
    note(&format!("{} {file}: {}{also}", err.red("✘"), counted(errors, "problem")));
    Ok(())
}

/// `1 problem`, `2 problems`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
