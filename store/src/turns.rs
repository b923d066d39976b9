//! Takes items out of several lists in turn, so that none is crowded out for ever.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Whose turn it is to be first.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicUsize);

impl Turns {
    /// Gives another item of each list its turn to be first. For lists that are not in an order of turns by themselves.
    pub(crate) fn mix<T>(&self, lists: &mut [Vec<T>]) {
        let turn = self.0.load(Ordering::Relaxed);
        for list in lists.iter_mut().filter(|list| !list.is_empty()) {
            let first = turn % list.len();
            list.rotate_left(first);
        }
    }

    /// At most `limit` items of `lists`: the first of each, then the second of each, and so on; the next call starts
    /// with another list.
    pub(crate) fn take<T>(&self, mut lists: Vec<Vec<T>>, limit: usize) -> Vec<T> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        lists.retain(|list| !list.is_empty());
        let first = turn % lists.len().max(1);
        lists.rotate_left(first);
        let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
        let mut taken = Vec::new();
        while taken.len() < limit && !lists.is_empty() {
            lists.retain_mut(|list| {
                let item = if taken.len() < limit { list.next() } else { None };
                let more = item.is_some();
                taken.extend(item);
                more
            });
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_turns() {
        let turns = Turns::default();
        let lists = || vec![vec![1, 2, 3, 4], vec![], vec![10], vec![20, 21]];
        for (limit, taken) in
            [(4, vec![1, 10, 20, 2]), (1, vec![10]), (9, vec![20, 1, 10, 21, 2, 3, 4]), (0, vec![]), (2, vec![10, 20])]
        {
            assert_eq!(turns.take(lists(), limit), taken);
        }
        assert!(turns.take(Vec::<Vec<u8>>::new(), 3).is_empty());
    }

    #[test]
    fn whoever_is_always_last_gets_a_turn() {
        for (number, limit) in [(1, 3), (2, 3), (3, 3), (4, 2), (7, 5)] {
            let turns = Turns::default();
            let mut met = std::collections::BTreeSet::new();
            for _ in 0..number * limit {
                let mut lists: Vec<Vec<_>> =
                    (0..number).map(|list| (0..limit).map(|item| (list, item)).collect()).collect();
                turns.mix(&mut lists);
                met.extend(turns.take(lists, limit));
            }
            assert_eq!(met.len(), number * limit, "{number} lists, {limit} at a time");
        }
    }
}
