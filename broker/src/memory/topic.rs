//! Patterns of routing keys, as a topic exchange matches them. Never touches a queue.

use std::sync::Arc;

/// Words between dots; `*` stands for exactly one word, `#` for any number of them.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Arc<str>>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.split('.').map(Arc::from).collect())
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        let key: Vec<&str> = if key.is_empty() { Vec::new() } else { key.split('.').collect() };
        matches(&self.0, &key)
    }
}

fn matches(pattern: &[Arc<str>], key: &[&str]) -> bool {
    let Some((word, pattern)) = pattern.split_first() else { return key.is_empty() };
    match word.as_ref() {
        "#" => (0..=key.len()).any(|skipped| matches(pattern, &key[skipped..])),
        "*" => key.split_first().is_some_and(|(_, key)| matches(pattern, key)),
        word => key.split_first().is_some_and(|(first, key)| *first == word && matches(pattern, key)),
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_pattern_matches_whole_words() {
        let check = |pattern: &str, key: &str, expected: bool| {
            assert_eq!(Pattern::new(pattern).matches(key), expected, "{pattern} on {key}");
        };
        check("run.finished.search", "run.finished.search", true);
        check("run.finished.search", "run.finished.searches", false);
        check("run.finished", "run.finished.search", false);
        check("run.finished.*", "run.finished.search", true);
        check("run.finished.*", "run.finished", false);
        check("run.*.search", "run.started.search", true);
        check("run.*", "run.finished.search", false);
        check("*.*.*", "run.finished.search", true);
        check("#", "run.finished.search", true);
        check("#", "", true);
        check("run.#", "run", true);
        check("run.#", "run.finished.search", true);
        check("run.#", "phase.finished", false);
        check("#.search", "run.finished.search", true);
        check("#.search", "search", true);
        check("run.#.search.*", "run.a.b.search.c", true);
        check("run.#.search.*", "run.a.b.search", false);
    }
}
