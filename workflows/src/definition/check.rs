//! Looks at a draft as a whole: names, transitions, and the ways through the graph.

use std::collections::HashMap;

use super::graph::Graph;
use super::paths;
use super::problem::Report;
use super::read::{Draft, DraftPhase, Named, Target};

/// Reports everything that does not fit together.
pub(super) fn check(draft: &Draft<'_>, report: &mut Report<'_>) {
    if draft.phases.is_empty() {
        report.error(&draft.phases_place, "`phases` is empty: a workflow has at least one phase");
        return;
    }
    duplicates("phase", draft.phases.iter().map(|phase| &phase.name), report);
    let graph = Graph::of(draft);
    for phase in &draft.phases {
        duplicates("handler", phase.handlers.iter().map(|handler| &handler.name), report);
        check_transitions(phase, draft, &graph, report);
    }
    check_ways(draft, &graph, report);
    paths::check(draft, &graph, report);
}

fn duplicates<'d>(what: &str, names: impl Iterator<Item = &'d Named>, report: &mut Report<'_>) {
    let mut seen: HashMap<&str, &Named> = HashMap::new();
    for name in names {
        match seen.get(name.text.as_str()) {
            // An object that has the same key twice has been reported as such.
            Some(first) if first.place.pointer == name.place.pointer => {}
            Some(first) => {
                let line = report.line(first.place.span.start);
                let message = format!("the {what} `{}` is here twice; the first is on line {line}", name.text);
                report.error(&name.place, message);
            }
            None => {
                seen.insert(&name.text, name);
            }
        }
    }
}

fn check_transitions(phase: &DraftPhase<'_>, draft: &Draft<'_>, graph: &Graph<'_>, report: &mut Report<'_>) {
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
        check_target(target, draft, graph, report);
    }
    if let Some(target) = phase.on_error_transition_to.as_ref().filter(|_| phase.handlers.is_empty()) {
        let message = format!("`{name}` has no handlers, so nothing in it can fail");
        report.warning(&target.place, message, None);
    }
}

fn check_target(target: &Target, draft: &Draft<'_>, graph: &Graph<'_>, report: &mut Report<'_>) {
    let Some(name) = target.phase.as_deref() else { return };
    if graph.number(name).is_none() {
        let names = draft.phases.iter().map(|phase| phase.name.text.as_str());
        let hint = report.did_you_mean(name, names);
        report.error_with_hint(&target.place, format!("there is no phase `{name}`"), hint);
    }
}

fn check_ways(draft: &Draft<'_>, graph: &Graph<'_>, report: &mut Report<'_>) {
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
