//! Looks at a draft as a whole: names, transitions, ways through the graph, and what its expressions read.

use std::collections::HashMap;
use std::ops::Range;

use super::expression::{Read, VARIABLES, accessor};
use super::graph::Graph;
use super::problem::{Place, Report, did_you_mean, nearest};
use super::read::{Draft, DraftPhase, Named, Target, Use};

/// Reports everything that does not fit together.
pub(super) fn check(draft: &Draft<'_>, report: &mut Report<'_>) {
    if draft.phases.is_empty() {
        report.error(&draft.phases_place, "`phases` is empty: a workflow has at least one phase");
        return;
    }
    duplicates("phase", draft.phases.iter().map(|phase| &phase.name), report);
    for phase in &draft.phases {
        duplicates("handler", phase.handlers.iter().map(|handler| &handler.name), report);
        check_transitions(phase, draft, report);
    }
    let graph = Graph::of(draft);
    check_ways(draft, &graph, report);
    for (number, phase) in draft.phases.iter().enumerate() {
        let uses = || phase.handlers.iter().flat_map(|handler| &handler.uses);
        if uses().next().is_some() {
            let before = graph.before(number);
            let reader = Reader { draft, phase: Some(phase), before };
            uses().for_each(|used| reader.check(used, report));
        }
    }
    let reader = Reader { draft, phase: None, before: vec![true; draft.phases.len()] };
    draft.output_uses.iter().for_each(|used| reader.check(used, report));
}

fn duplicates<'d>(what: &str, names: impl Iterator<Item = &'d Named>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, &Named> = HashMap::new();
    for name in names {
        match seen.get(name.text.as_str()) {
            // An object that has the same key twice has been reported as such.
            Some(first) if first.place.pointer == name.place.pointer => {}
            Some(first) => {
                let line = report.position(first.place.span.start).line;
                let message = format!("the {what} `{}` is here twice; the first is on line {line}", name.text);
                report.error(&name.place, message);
            }
            None => {
                seen.insert(&name.text, name);
            }
        }
    }
}

fn check_transitions(phase: &DraftPhase<'_>, draft: &Draft<'_>, report: &mut Report<'_>) {
    let name = &phase.name.text;
    match (&phase.transitions_to, phase.is_final) {
        (Some(target), true) => {
            let hint = Some("a run ends in a final phase; remove one of the two".to_owned());
            report.error_with_hint(&target.place, format!("`{name}` is final and has `transitions_to`"), hint);
        }
        (None, false) => {
            let hint = Some("add `transitions_to`, or `\"is_final\": true` if runs end here".to_owned());
            report.error_with_hint(&phase.name.place, format!("`{name}` does not say where it leads"), hint);
        }
        _ => {}
    }
    for target in [&phase.transitions_to, &phase.on_error_transition_to].into_iter().flatten() {
        check_target(target, draft, report);
    }
    if let Some(target) = phase.on_error_transition_to.as_ref().filter(|_| phase.handlers.is_empty()) {
        let message = format!("`{name}` has no handlers, so nothing in it can fail");
        report.warning(&target.place, message, None);
    }
}

fn check_target(target: &Target, draft: &Draft<'_>, report: &mut Report<'_>) {
    let Some(name) = &target.phase else { return };
    if draft.phases.iter().all(|phase| phase.name.text != *name) {
        let hint = did_you_mean(name, phase_names(draft));
        report.error_with_hint(&target.place, format!("there is no phase `{name}`"), hint);
    }
}

fn phase_names<'d>(draft: &'d Draft<'_>) -> impl Iterator<Item = &'d str> + Clone {
    draft.phases.iter().map(|phase| phase.name.text.as_str())
}

fn check_ways(draft: &Draft<'_>, graph: &Graph, report: &mut Report<'_>) {
    let of = |wanted: fn(&DraftPhase<'_>) -> bool| {
        let numbered = draft.phases.iter().enumerate();
        numbered.filter(move |(_, phase)| wanted(phase)).map(|(number, _)| number).collect::<Vec<_>>()
    };
    let (initial, ends) = (of(|phase| phase.is_initial), of(|phase| phase.is_final));
    if initial.is_empty() {
        report
            .error(&draft.phases_place, "no phase is initial: add `\"is_initial\": true` to the one where runs begin");
    }
    for &second in initial.iter().skip(1) {
        let message = format!("a second initial phase; `{}` is one already", draft.phases[initial[0]].name.text);
        report.error(&draft.phases[second].name.place, message);
    }
    if ends.is_empty() {
        report.error(&draft.phases_place, "no phase is final: add `\"is_final\": true` to those where runs end");
    }
    // With a target unknown, whatever it was meant to lead to would seem out of reach.
    let (&[start], false, true) = (initial.as_slice(), ends.is_empty(), graph.is_complete) else { return };
    let (reachable, leading) = (graph.reachable_from(start), graph.leading_to(ends));
    for (number, phase) in draft.phases.iter().enumerate() {
        let name = &phase.name.text;
        if !reachable[number] {
            let message = format!("no run can come to `{name}`: no way leads there from the initial phase");
            report.error(&phase.name.place, message);
        } else if !leading[number] {
            let message = format!("a run in `{name}` could never end: no way leads from there to a final phase");
            report.error(&phase.name.place, message);
        }
    }
}

/// Checks what the expressions of one phase read, or those of the workflow's output.
struct Reader<'d, 'n> {
    draft: &'d Draft<'n>,
    phase: Option<&'d DraftPhase<'n>>,
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
                "data" | "run" => {}
                "item" | "index" if used.has_item => {}
                "item" | "index" => self.no_item(used, read, report),
                "outputs" => skip_to = self.check_outputs(used, read, report).unwrap_or(skip_to),
                _ => self.no_variable(used, read, report),
            }
        }
    }

    fn place(used: &Use<'_>, span: &Range<usize>, report: &Report<'_>) -> Place {
        used.text.within(&(span.start + used.offset..span.end + used.offset), report)
    }

    fn no_item(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) {
        let hint = match self.phase {
            Some(_) => "`input` has it, when the handler has `for_each`",
            None => "only the input of a handler with `for_each` has it",
        };
        let place = Self::place(used, &read.span, report);
        report.error_with_hint(&place, format!("there is no `{}` here", read.root), Some(hint.to_owned()));
    }

    fn no_variable(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) {
        let name = &read.root;
        let hint = if phase_names(self.draft).any(|phase| phase == name) {
            format!("the outputs of a phase are `outputs{}`", accessor(name))
        } else if let Some(near) = nearest(name, VARIABLES) {
            format!("did you mean `{near}`?")
        } else {
            format!("there are `data`, `outputs`, `run`, `item` and `index`; the run's own data is `data.{name}`")
        };
        let place = Self::place(used, &read.span, report);
        report.error_with_hint(&place, format!("there is no variable `{name}`"), Some(hint));
    }

    /// Checks a path below `outputs`; gives the end of what it took for a name with a `-` in it.
    fn check_outputs(&self, used: &Use<'_>, read: &Read, report: &mut Report<'_>) -> Option<usize> {
        let [phase_step, rest @ ..] = read.steps.as_slice() else { return None };
        let found = self.draft.phases.iter().position(|phase| phase.name.text == phase_step.name);
        let Some(number) = found else {
            let message = format!("there is no phase `{}`", phase_step.name);
            return self.unknown_step(used, &phase_step.span, message, phase_names(self.draft), report);
        };
        let phase = &self.draft.phases[number];
        if !self.before[number] {
            let message = match self.phase {
                Some(here) if here.name.text == phase.name.text => {
                    format!(
                        "`{}` is this phase; the outputs of its handlers are there once it has finished",
                        phase_step.name
                    )
                }
                _ => format!("`{}` cannot have run before: no way leads from there to here", phase_step.name),
            };
            report.error(&Self::place(used, &phase_step.span, report), message);
            return None;
        }
        let handler_step = rest.first()?;
        let handlers = || phase.handlers.iter().map(|handler| handler.name.text.as_str());
        if handlers().any(|handler| handler == handler_step.name) {
            return None;
        }
        let message = format!("the phase `{}` has no handler `{}`", phase.name.text, handler_step.name);
        self.unknown_step(used, &handler_step.span, message, handlers(), report)
    }

    /// Reports a step of a path that leads nowhere, and what it may have been meant to be.
    fn unknown_step<'c>(
        &self,
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
            report.error_with_hint(&Self::place(used, &(span.start..end), report), message, Some(hint));
            return Some(end);
        }
        let hint = did_you_mean(&used.written(span.start)[..span.len()], candidates);
        report.error_with_hint(&Self::place(used, span, report), message, hint);
        None
    }
}
