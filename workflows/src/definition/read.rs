//! Reads a document in either spelling into a draft: everything that can be said about one value by itself is checked
//! here, what concerns several together in `check`.

use super::expression::{ExpressionError, Placed, Read, Template};
use super::fields::Fields;
use super::handler::{DraftHandler, read_handler};
use super::model::{Phase, QueueNaming, Workflow};
use super::node::{Content, Located};
use super::problem::{Place, Problem, Problems, Report};
use super::{check, json};
use crate::Payload;
use crate::id::{NameError, PhaseName, Revision, WorkflowName};

/// The most phases in a workflow.
pub const MAX_PHASES: usize = 1000;

/// The most handlers in a phase.
pub const MAX_HANDLERS: usize = 100;

/// Keys of the language that this version does not know yet.
const LATER_IN_WORKFLOWS: [&str; 7] = ["notify", "on", "on_error", "priority", "schedule", "timeout", "version"];
const LATER_IN_PHASES: [&str; 9] =
    ["depends_on", "if", "notify", "on", "on_error", "priority", "timeout", "wait", "when"];

/// What a document holds: a sound workflow, and perhaps the data for a run of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The workflow.
    pub workflow: Workflow,
    /// Data for a run, if the document has any.
    pub data: Option<Payload>,
    /// What is allowed but looks like a mistake.
    pub warnings: Vec<Problem>,
}

/// Reads a workflow definition, in JSON, in either spelling.
///
/// # Errors
/// With everything that is wrong with `text`, each with its place.
pub fn parse(text: &str) -> Result<Document, Problems> {
    let mut report = Report::new(text);
    let node = json::read(text, &mut report);
    let draft = node.as_ref().and_then(|node| read_workflow(&Located::root(node), &mut report));
    if let Some(draft) = &draft {
        check::check(draft, &mut report);
    }
    match draft {
        Some(draft) if !report.has_errors() => match draft.build() {
            Ok((workflow, data)) => Ok(Document { workflow, data, warnings: report.into_problems().problems }),
            Err((place, error)) => {
                report.error(&place, error.to_string());
                Err(report.into_problems())
            }
        },
        _ => Err(report.into_problems()),
    }
}

/// A workflow that has been read, but not yet looked at as a whole.
pub(super) struct Draft<'n> {
    name: Option<Named>,
    description: Option<String>,
    queues: QueueNaming,
    pub(super) phases_place: Place,
    pub(super) phases: Vec<DraftPhase<'n>>,
    output: Option<Template>,
    pub(super) output_uses: Vec<Use<'n>>,
    data: Option<Payload>,
}

/// A phase that has been read.
pub(super) struct DraftPhase<'n> {
    pub(super) name: Named,
    pub(super) is_initial: bool,
    pub(super) is_final: bool,
    pub(super) handlers: Vec<DraftHandler<'n>>,
    pub(super) transitions_to: Option<Target>,
    pub(super) on_error_transition_to: Option<Target>,
}

impl<'n> Use<'n> {
    /// An expression of the template `here`.
    fn of(here: &Located<'n>, placed: &Placed, has_item: bool) -> Self {
        Self {
            text: here.descend(&placed.pointer),
            offset: placed.offset,
            reads: placed.expression.paths().to_vec(),
            has_item,
            expects_missing: placed.expression.expects_missing(),
        }
    }

    /// What is written from the byte `at` of the expression on.
    pub(super) fn written(&self, at: usize) -> &str {
        let text = match &self.text.node.content {
            Content::Text(text) => text.as_str(),
            _ => "",
        };
        text.get(self.offset + at..).unwrap_or("")
    }
}

/// A name and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) place: Place,
}

/// A transition's target; without a name, it could not be read.
pub(super) struct Target {
    pub(super) phase: Option<String>,
    pub(super) place: Place,
}

/// An expression where it is used.
pub(super) struct Use<'n> {
    /// The text that it stands in, and where in it.
    pub(super) text: Located<'n>,
    pub(super) offset: usize,
    pub(super) reads: Vec<Read>,
    /// Whether there is an `item`.
    pub(super) has_item: bool,
    /// Whether the expression says what holds when something is not there.
    pub(super) expects_missing: bool,
}

fn read_workflow<'n>(root: &Located<'n>, report: &mut Report<'_>) -> Option<Draft<'n>> {
    if !matches!(root.node.content, Content::Map(_)) {
        report.error(&root.place(), format!("a definition is a JSON object; this is {}", root.node.describe()));
        return None;
    }
    let mut fields = Fields::open(root, "workflow", report)?;
    fields.get("$schema");
    let name = read_name(&mut fields, root, report);
    let description = fields.get("description").and_then(|here| here.text("description", report)).map(str::to_owned);
    let queues = fields.get("queues").and_then(|here| read_queues(&here, report)).unwrap_or_default();
    let phases_here = fields.get("phases");
    let output_here = fields.get("output");
    let data = fields.get("data").and_then(|here| read_data(&here, report));
    fields.finish(&LATER_IN_WORKFLOWS, report);
    let (output, output_uses) = output_here.map_or((None, Vec::new()), |here| read_template(&here, false, report));
    let Some(phases_here) = phases_here else {
        report.error(&root.place(), "`phases` is missing: a workflow has at least one phase");
        return None;
    };
    let phases = read_phases(&phases_here, report)?;
    Some(Draft { name, description, queues, phases_place: phases_here.place(), phases, output, output_uses, data })
}

/// The workflow's name, which either spelling has under a key of its own.
fn read_name(fields: &mut Fields<'_>, root: &Located<'_>, report: &mut Report<'_>) -> Option<Named> {
    let (key, here) = match (fields.get("workflow"), fields.get("name")) {
        (Some(_), Some(second)) => {
            report.error(&second.place(), "the workflow's name is given twice, by `workflow` and by `name`");
            return None;
        }
        (Some(here), None) => ("workflow", here),
        (None, Some(here)) => ("name", here),
        (None, None) => {
            report.error(&root.place(), "`workflow` is missing: the workflow's name");
            return None;
        }
    };
    let text = here.text(key, report)?;
    match WorkflowName::new(text) {
        Ok(_) => Some(Named { text: text.to_owned(), place: here.place() }),
        Err(error) => {
            report.error(&here.place(), error.to_string());
            None
        }
    }
}

fn read_queues(here: &Located<'_>, report: &mut Report<'_>) -> Option<QueueNaming> {
    match here.text("queues", report)? {
        "per_handler" => Some(QueueNaming::PerHandler),
        "per_phase" => Some(QueueNaming::PerPhase),
        other => {
            let hint = report.did_you_mean(other, ["per_handler", "per_phase"]);
            report.error_with_hint(&here.place(), "`queues` must be \"per_handler\" or \"per_phase\"", hint);
            None
        }
    }
}

fn read_data(here: &Located<'_>, report: &mut Report<'_>) -> Option<Payload> {
    let mut json = String::new();
    here.node.write_json(&mut json);
    match Payload::from_json(json) {
        Ok(data) => Some(data),
        Err(error) => {
            report.error(&here.place(), format!("`data` cannot be read: {error}"));
            None
        }
    }
}

fn read_phases<'n>(here: &Located<'n>, report: &mut Report<'_>) -> Option<Vec<DraftPhase<'n>>> {
    let phases: Vec<_> = match &here.node.content {
        Content::Map(members) => {
            let named = members.iter().map(|member| {
                let name = Named { text: member.key.clone(), place: here.key_place(member) };
                (Some(name), here.member(member))
            });
            named.collect()
        }
        Content::List(_) => here.items("phases", report)?.into_iter().map(|phase| (None, phase)).collect(),
        _ => return here.mismatch("phases", "an object by name, or a list", report),
    };
    if phases.len() > MAX_PHASES {
        let message = format!("a workflow has at most {MAX_PHASES} phases; this one has {}", phases.len());
        report.error(&here.place(), message);
        return None;
    }
    Some(phases.into_iter().filter_map(|(name, phase)| read_phase(name, &phase, report)).collect())
}

/// A phase, whose name is known already where `phases` is an object.
fn read_phase<'n>(key: Option<Named>, here: &Located<'n>, report: &mut Report<'_>) -> Option<DraftPhase<'n>> {
    let by_key = key.is_some();
    let mut fields = Fields::open(here, "phase", report)?;
    let name = if by_key { key } else { required_name(&mut fields, here, "phase", report) };
    let is_initial = fields.get("is_initial").and_then(|here| here.boolean("is_initial", report)).unwrap_or(false);
    let is_final = fields.get("is_final").and_then(|here| here.boolean("is_final", report)).unwrap_or(false);
    let transitions_to = fields.get("transitions_to").map(|here| read_target(&here, "transitions_to", report));
    let on_error_transition_to =
        fields.get("on_error_transition_to").map(|here| read_target(&here, "on_error_transition_to", report));
    let handlers = fields.get("handlers").map_or_else(Vec::new, |here| read_handlers(&here, report));
    fields.finish(&LATER_IN_PHASES, report);
    let name = name?;
    if let Err(error) = PhaseName::new(&name.text) {
        report.error(&name.place, error.to_string());
    }
    Some(DraftPhase { name, is_initial, is_final, handlers, transitions_to, on_error_transition_to })
}

/// The member `name`, which has to be there.
pub(super) fn required_name(
    fields: &mut Fields<'_>,
    here: &Located<'_>,
    what: &str,
    report: &mut Report<'_>,
) -> Option<Named> {
    let Some(name) = fields.get("name") else {
        report.error(&here.place(), format!("`name` is missing: the {what}'s name"));
        return None;
    };
    Some(Named { text: name.text("name", report)?.to_owned(), place: name.place() })
}

fn read_target(here: &Located<'_>, key: &str, report: &mut Report<'_>) -> Target {
    let phase = match &here.node.content {
        Content::List(_) | Content::Map(_) => {
            let message =
                format!("a choice of targets is not supported yet in this version; `{key}` is a phase's name");
            report.error(&here.place(), message);
            None
        }
        _ => here.text(key, report).map(str::to_owned),
    };
    Target { phase, place: here.place() }
}

fn read_handlers<'n>(here: &Located<'n>, report: &mut Report<'_>) -> Vec<DraftHandler<'n>> {
    let Some(items) = here.items("handlers", report) else { return Vec::new() };
    if items.len() > MAX_HANDLERS {
        let message = format!("a phase has at most {MAX_HANDLERS} handlers; this one has {}", items.len());
        report.error(&here.place(), message);
        return Vec::new();
    }
    items.iter().filter_map(|item| read_handler(item, report)).collect()
}

/// A template, and the expressions in it with their places.
pub(super) fn read_template<'n>(
    here: &Located<'n>,
    has_item: bool,
    report: &mut Report<'_>,
) -> (Option<Template>, Vec<Use<'n>>) {
    let mut json = String::new();
    here.node.write_json(&mut json);
    refuse_long_numbers(here, report);
    let value = match serde_json::from_str(&json) {
        Ok(value) => value,
        Err(error) => {
            report.error(&here.place(), format!("this cannot be read: {error}"));
            return (None, Vec::new());
        }
    };
    let uses = |expressions: &[Placed]| expressions.iter().map(|placed| Use::of(here, placed, has_item)).collect();
    match Template::parse_all(value) {
        Ok(template) => {
            let uses = uses(template.expressions());
            (Some(template), uses)
        }
        Err(broken) => {
            for error in &broken.errors {
                report_expression(&here.descend(error.pointer()), error, report);
            }
            (None, uses(&broken.expressions))
        }
    }
}

/// Reports whole numbers that a template could not give back as they are.
fn refuse_long_numbers(here: &Located<'_>, report: &mut Report<'_>) {
    match &here.node.content {
        Content::Number(text) => {
            let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            if is_whole && text.parse::<u64>().is_err() && text.parse::<i64>().is_err() {
                let hint = Some("write it in quotes".to_owned());
                report.error_with_hint(&here.place(), "this number does not fit into 64 bits", hint);
            }
        }
        Content::List(_) | Content::Map(_) => here.children().for_each(|child| refuse_long_numbers(&child, report)),
        _ => {}
    }
}

/// Reports what is wrong with an expression in the text `here`.
pub(super) fn report_expression(here: &Located<'_>, error: &ExpressionError, report: &mut Report<'_>) {
    let place = error.range().map_or_else(|| here.place(), |range| here.within(&range, report));
    report.error_with_hint(&place, error.message(), error.hint().map(str::to_owned));
}

impl Draft<'_> {
    /// The workflow, once nothing was found wrong with it.
    fn build(self) -> Result<(Workflow, Option<Payload>), (Place, NameError)> {
        let whole = self.phases_place.clone();
        let missing = || (whole, NameError("the workflow has no name".to_owned()));
        let name = self.name.ok_or_else(missing)?;
        let phases = self.phases.into_iter().map(DraftPhase::build).collect::<Result<_, _>>()?;
        let mut workflow = Workflow {
            name: WorkflowName::new(&name.text).map_err(|error| (name.place, error))?,
            description: self.description,
            queues: self.queues,
            phases,
            output: self.output,
            revision: Revision::of(b""),
        };
        workflow.revision = Revision::of(workflow.to_canonical_json().as_bytes());
        Ok((workflow, self.data))
    }
}

impl DraftPhase<'_> {
    fn build(self) -> Result<Phase, (Place, NameError)> {
        let target = |target: Option<Target>| match target {
            Some(Target { phase: Some(phase), place }) => {
                PhaseName::new(&phase).map(Some).map_err(|error| (place, error))
            }
            _ => Ok(None),
        };
        Ok(Phase {
            name: PhaseName::new(&self.name.text).map_err(|error| (self.name.place, error))?,
            is_initial: self.is_initial,
            is_final: self.is_final,
            handlers: self.handlers.into_iter().filter_map(|handler| handler.spec).collect(),
            transitions_to: target(self.transitions_to)?,
            on_error_transition_to: target(self.on_error_transition_to)?,
        })
    }
}
