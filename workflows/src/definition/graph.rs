//! The phases of a draft as a graph: where a run can go, and where it may have been.

use std::collections::HashMap;

use super::read::{Draft, Target};

/// The phases by number, and the ways between them.
pub(super) struct Graph {
    forward: Vec<Vec<usize>>,
    backward: Vec<Vec<usize>>,
    /// Whether every target is known.
    pub(super) is_complete: bool,
}

impl Graph {
    /// The graph of `draft`. An error transition counts only where something can fail.
    pub(super) fn of(draft: &Draft<'_>) -> Self {
        let numbers: HashMap<&str, usize> =
            draft.phases.iter().enumerate().rev().map(|(number, phase)| (phase.name.text.as_str(), number)).collect();
        let mut graph = Self {
            forward: vec![Vec::new(); draft.phases.len()],
            backward: vec![Vec::new(); draft.phases.len()],
            is_complete: true,
        };
        for (from, phase) in draft.phases.iter().enumerate() {
            let can_fail = !phase.handlers.is_empty();
            let on_error = phase.on_error_transition_to.as_ref().filter(|_| can_fail);
            for target in [phase.transitions_to.as_ref(), on_error].into_iter().flatten() {
                graph.add(from, target, &numbers);
            }
            graph.is_complete &= phase.is_final || phase.transitions_to.is_some();
        }
        graph
    }

    fn add(&mut self, from: usize, target: &Target, numbers: &HashMap<&str, usize>) {
        match target.phase.as_deref().and_then(|name| numbers.get(name)) {
            Some(&to) => {
                self.forward[from].push(to);
                self.backward[to].push(from);
            }
            None => self.is_complete = false,
        }
    }

    /// Which phases a run that begins in `start` can come to, `start` included.
    pub(super) fn reachable_from(&self, start: usize) -> Vec<bool> {
        walk(&self.forward, [start])
    }

    /// From which phases a run can come to one of `ends`, these included.
    pub(super) fn leading_to(&self, ends: impl IntoIterator<Item = usize>) -> Vec<bool> {
        walk(&self.backward, ends)
    }

    /// Which phases a run in `phase` may have been in before.
    pub(super) fn before(&self, phase: usize) -> Vec<bool> {
        walk(&self.backward, self.backward[phase].iter().copied())
    }
}

fn walk(edges: &[Vec<usize>], starts: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    let mut pending: Vec<usize> = starts.into_iter().collect();
    while let Some(phase) = pending.pop() {
        if !std::mem::replace(&mut seen[phase], true) {
            pending.extend(&edges[phase]);
        }
    }
    seen
}
