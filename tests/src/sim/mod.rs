//! The whole engine in a simulator: real coordinators, workers and clients in one thread, on a broker, a store and
//! clocks that a seed makes fail. Time passes when nobody has anything to do; the same seed is the same simulation,
//! whatever machine it runs on.
//!
//! In reading order: a [`Recipe`] is what a seed stands for, with its [`Fault`]s and the workflows that `shapes` draws;
//! `course` lets it run: programs (`site`, each a `process`) see the outside through `broker`, `store` and `time`, which
//! all pass the `hub`; some workers go through a `gateway`; `client` wants runs. `witness` looks on and `judge` has the last word. A [`Break`] takes a
//! mechanism away, to see that it is missed.

mod breaks;
mod broker;
mod client;
mod course;
mod fault;
mod gateway;
mod hub;
mod judge;
mod kept;
mod process;
mod recipe;
mod shapes;
mod site;
mod store;
mod time;
mod witness;

use std::collections::BTreeMap;
use std::time::Duration;

pub use breaks::Break;
pub use fault::Fault;
use phasework_workflows::run::audit::Broken;
pub use recipe::Recipe;
pub use site::PANIC;
pub use witness::report_panic;

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What does not hold; nothing when all is well.
    pub broken: Option<Broken>,
    /// How often each fault struck.
    pub struck: BTreeMap<Fault, u64>,
    /// What happened, by kind, and how often: messages, events, steps that changed nothing.
    pub happened: BTreeMap<String, u64>,
    /// How many calls to broker and store did what they should, and how many did not.
    pub calls: (u64, u64),
    /// How many jobs were executed.
    pub executions: u64,
    /// How long it took in simulated time.
    pub length: Duration,
}

/// Plays a recipe. Everything happens on this thread.
///
/// # Panics
/// When the runtime cannot be built.
pub fn simulate(recipe: &Recipe, broken: Option<Break>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(course::run(recipe, broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_simulation() {
        for seed in [11, 12, 13] {
            let recipe = Recipe::of(seed);
            assert_eq!(simulate(&recipe, None), simulate(&recipe, None), "{recipe}");
        }
    }

    /// Both stores keep the same promises, so it cannot be told which one a simulation was played with.
    #[test]
    fn it_is_the_same_simulation_on_either_store() {
        for seed in 1..13 {
            let [memory, sqlite] = [false, true].map(|on_sqlite| {
                let mut recipe = Recipe::of(seed);
                recipe.on_sqlite = on_sqlite;
                simulate(&recipe, None)
            });
            assert_eq!(memory, sqlite, "seed {seed}");
        }
    }

    #[test]
    fn what_is_broken_is_found() {
        for broken in Break::ALL {
            // Rare: found first at seed 461. Those before were looked through when docs/simulator.md was written.
            let first = if broken == Break::OutboxForgotten { 450 } else { 1 };
            let found = (first..600).find_map(|seed| simulate(&Recipe::of(seed), Some(broken)).broken);
            assert!(found.is_some(), "{broken}");
        }
    }
}
