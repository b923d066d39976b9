//! The phases of a draft as a graph: where a run can go, and where it may have been.

use std::collections::HashMap;

use super::read::Draft;

/// The phases by number, and the ways between them.
pub(super) struct Graph<'d> {
    numbers: HashMap<&'d str, usize>,
    ways: Vec<Way>,
    forward: Vec<Vec<usize>>,
    backward: Vec<Vec<usize>>,
    /// Whether every target is known.
    pub(super) is_complete: bool,
}

/// A transition between two phases, by their numbers.
struct Way {
    from: usize,
    to: usize,
    on_error: bool,
}

impl<'d> Graph<'d> {
    /// The graph of `draft`. An error transition counts only where something can fail.
    pub(super) fn of(draft: &'d Draft<'_>) -> Self {
        let names = draft.phases.iter().map(|phase| phase.name.text.as_str());
        let mut graph = Self {
            numbers: names.enumerate().map(|(number, name)| (name, number)).collect(),
            ways: Vec::new(),
            forward: vec![Vec::new(); draft.phases.len()],
            backward: vec![Vec::new(); draft.phases.len()],
            is_complete: true,
        };
        for (from, phase) in draft.phases.iter().enumerate() {
            let on_error = phase.on_error_transition_to.as_ref().filter(|_| !phase.handlers.is_empty());
            for (target, on_error) in [(phase.transitions_to.as_ref(), false), (on_error, true)] {
                let Some(target) = target else { continue };
                match target.phase.as_deref().and_then(|name| graph.number(name)) {
                    Some(to) => graph.add(Way { from, to, on_error }),
                    None => graph.is_complete = false,
                }
            }
            graph.is_complete &= phase.is_final || phase.transitions_to.is_some();
        }
        graph
    }

    fn add(&mut self, way: Way) {
        self.forward[way.from].push(self.ways.len());
        self.backward[way.to].push(self.ways.len());
        self.ways.push(way);
    }

    /// The number of the phase called `name`.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    /// Which phases a run that begins in `start` can come to, `start` included.
    pub(super) fn reachable_from(&self, start: usize) -> Vec<bool> {
        self.walk([start], &self.forward, |way| Some(way.to))
    }

    /// Which phases a run that begins in `start` can come to before `phase` has finished: without the way that leads
    /// on from there when all went well.
    pub(super) fn reachable_before(&self, start: usize, phase: usize) -> Vec<bool> {
        self.walk([start], &self.forward, |way| (way.from != phase || way.on_error).then_some(way.to))
    }

    /// From which phases a run can come to one of `ends`, these included.
    pub(super) fn leading_to(&self, ends: impl IntoIterator<Item = usize>) -> Vec<bool> {
        self.walk(ends, &self.backward, |way| Some(way.from))
    }

    /// Which phases a run in `phase` may have been in before.
    pub(super) fn before(&self, phase: usize) -> Vec<bool> {
        self.leading_to(self.backward[phase].iter().map(|&way| self.ways[way].from))
    }

    fn walk(
        &self,
        starts: impl IntoIterator<Item = usize>,
        ways: &[Vec<usize>],
        next: impl Fn(&Way) -> Option<usize>,
    ) -> Vec<bool> {
        let mut seen = vec![false; ways.len()];
        let mut pending: Vec<usize> = starts.into_iter().collect();
        while let Some(phase) = pending.pop() {
            if !std::mem::replace(&mut seen[phase], true) {
                pending.extend(ways[phase].iter().filter_map(|&way| next(&self.ways[way])));
            }
        }
        seen
    }
}
