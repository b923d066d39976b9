//! Checks what the expressions of a draft read: variables that exist, phases that can have run, handlers they have.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::expression::{RUN_FACTS, Read, VARIABLES, accessor};
use super::graph::Graph;
use super::problem::{Place, Report, nearest};
use super::read::{Draft, DraftPhase, Use};

/// Reports what no expression of `draft` can read.
pub(super) fn check(draft: &Draft<'_>, graph: &Graph<'_>, report: &mut Report<'_>) {
    let start = draft.phases.iter().position(|phase| phase.is_initial).filter(|_| graph.is_complete);
    let whole = Whole { draft, graph, start, unfinished: RefCell::new(HashMap::new()) };
    for (number, phase) in draft.phases.iter().enumerate() {
        let uses = || phase.handlers.iter().flat_map(|handler| &handler.uses);
        if uses().next().is_some() {
            let reader = Reader { whole: &whole, phase: Some((number, phase)), before: graph.before(number) };
            uses().for_each(|used| reader.check(used, report));
        }
    }
    let reader = Reader { whole: &whole, phase: None, before: vec![true; draft.phases.len()] };
    draft.output_uses.iter().for_each(|used| reader.check(used, report));
}

/// What all readers look at.
struct Whole<'d, 'n> {
    draft: &'d Draft<'n>,
    graph: &'d Graph<'d>,
    /// The initial phase, if the graph is sound enough to follow it.
    start: Option<usize>,
    /// By phase: where a run can come to before it has finished.
    unfinished: RefCell<HashMap<usize, Vec<bool>>>,
}

impl<'d> Whole<'d, '_> {
    fn phase_names(&self) -> impl Iterator<Item = &'d str> + Clone {
        self.draft.phases.iter().map(|phase| phase.name.text.as_str())
    }

    /// Whether a run can come to one of the phases that `here` picks without having finished `phase`.
    fn may_miss(&self, phase: usize, here: impl Fn(usize) -> bool) -> bool {
        let Some(start) = self.start else { return false };
        let mut unfinished = self.unfinished.borrow_mut();
        let reached = unfinished.entry(phase).or_insert_with(|| self.graph.reachable_before(start, phase));
        (0..reached.len()).any(|number| reached[number] && here(number))
    }
}

/// Checks what the expressions of one phase read, or those of the workflow's output.
struct Reader<'d, 'n> {
    whole: &'d Whole<'d, 'n>,
    phase: Option<(usize, &'d DraftPhase<'n>)>,
    /// Which phases may have run.
    before: Vec<bool>,
}

impl Reader<'_, '_> {
    fn check(&self, used: &Use<'_>, report: &mut Report<'_>) {
        let mut skip_to = 0;
        for read in &used.reads {
            if read.span.start < skip_to {
                continue;
            }
            match read.root.as_str() {
                "data" => {}
                "run" => check_fact(used, read, report),
                "item" | "index" if used.has_item => {}
                "item" | "index" => self.no_item(used, read, report),
                "outputs" => skip_to = self.check_outputs(used, read, report).unwrap_or(skip_to),
                _ => self.no_variable(used, read, report),
            }
        }
    }

    fn no_item(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) {
        let hint = match self.phase {
            Some(_) => "`input` has it, when the handler has `for_each`",
            None => "only the input of a handler with `for_each` has it",
        };
        let place = place(used, &read.span, report);
        report.error_with_hint(&place, format!("there is no `{}` here", read.root), Some(hint.to_owned()));
    }

    fn no_variable(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) {
        let name = &read.root;
        let hint = if self.whole.graph.number(name).is_some() {
            format!("the outputs of a phase are `outputs{}`", accessor(name))
        } else if let Some(near) = nearest(name, VARIABLES) {
            format!("did you mean `{near}`?")
        } else {
            format!("there are `data`, `outputs`, `run`, `item` and `index`; the run's own data is `data.{name}`")
        };
        let place = place(used, &read.span, report);
        report.error_with_hint(&place, format!("there is no variable `{name}`"), Some(hint));
    }

    /// Checks a path below `outputs`; gives the end of what it took for a name with a `-` in it.
    fn check_outputs(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) -> Option<usize> {
        let [phase_step, rest @ ..] = read.steps.as_slice() else { return None };
        let Some(number) = self.whole.graph.number(&phase_step.name) else {
            let message = format!("there is no phase `{}`", phase_step.name);
            return unknown_step(used, &phase_step.span, message, self.whole.phase_names(), report);
        };
        let phase = &self.whole.draft.phases[number];
        if !self.before[number] {
            let name = &phase_step.name;
            let message = match self.phase {
                Some((here, _)) if here == number => {
                    format!("`{name}` is this phase; the outputs of its handlers are there once it has finished")
                }
                _ => format!("`{name}` cannot have run before: no way leads from there to here"),
            };
            report.error(&place(used, &phase_step.span, report), message);
            return None;
        }
        let handler_step = rest.first()?;
        let handlers = phase.handlers.iter().map(|handler| handler.name.text.as_str());
        if !handlers.clone().any(|handler| handler == handler_step.name) {
            let message = format!("the phase `{}` has no handler `{}`", phase.name.text, handler_step.name);
            return unknown_step(used, &handler_step.span, message, handlers, report);
        }
        self.warn_if_missing(used, number, &(phase_step.span.start..handler_step.span.end), report);
        None
    }

    /// Says when an output may not be there, unless the expression provides for that.
    fn warn_if_missing(&self, used: &Use<'_>, number: usize, span: &Range<usize>, report: &mut Report<'_>) {
        let phases = &self.whole.draft.phases;
        let may_miss = !used.expects_missing
            && self.whole.may_miss(number, |reached| match self.phase {
                Some((here, _)) => reached == here,
                None => phases[reached].is_final && reached != number,
            });
        if may_miss {
            let name = &phases[number].name.text;
            let message = match self.phase {
                Some(_) => format!("this may not be there: a run can come here without having finished `{name}`"),
                None => format!("this may not be there: a run can end without having finished `{name}`"),
            };
            let hint = Some("give a value for that case: `… | default(none)`".to_owned());
            report.warning(&place(used, span, report), message, hint);
        }
    }
}

/// Checks a path below `run`.
fn check_fact(used: &Use<'_>, read: &Read, report: &mut Report<'_>) {
    let Some(step) = read.steps.first().filter(|step| !RUN_FACTS.contains(&step.name.as_str())) else { return };
    let known = || format!("there are {}", RUN_FACTS.map(|fact| format!("`{fact}`")).join(", "));
    let hint = report.did_you_mean(&step.name, RUN_FACTS).unwrap_or_else(known);
    let message = format!("a run has no fact `{}`", step.name);
    report.error_with_hint(&place(used, &step.span, report), message, Some(hint));
}

fn place(used: &Use<'_>, span: &Range<usize>, report: &Report<'_>) -> Place {
    used.text.within(&(span.start + used.offset..span.end + used.offset), report)
}

/// Reports a step of a path that leads nowhere, and what it may have been meant to be.
fn unknown_step<'c>(
    used: &Use<'_>,
    span: &Range<usize>,
    message: String,
    candidates: impl Iterator<Item = &'c str> + Clone,
    report: &mut Report<'_>,
) -> Option<usize> {
    let written = used.written(span.start);
    let cut = candidates.clone().filter(|name| name.contains(['-', ':']) && written.starts_with(name));
    if let Some(name) = cut.max_by_key(|name| name.len()) {
        let end = span.start + name.len();
        let hint = format!("a name with `-` or `:` in it is written in brackets: `['{name}']`");
        report.error_with_hint(&place(used, &(span.start..end), report), message, Some(hint));
        return Some(end);
    }
    let hint = report.did_you_mean(written.get(..span.len()).unwrap_or(""), candidates);
    report.error_with_hint(&place(used, span, report), message, hint);
    None
}
