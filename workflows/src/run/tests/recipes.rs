//! Random workflows, and random outsides for them.

use proptest::prelude::*;

use crate::definition::{Backoff, Tolerance, Workflow};
use crate::message::outcome::JobError;
use crate::run::Listing;
use crate::testkit::{HandlerBuilder, Outside, PhaseBuilder, final_phase, handler, phase, workflow};
use crate::time::Millis;

/// What makes the jobs of a handler.
#[derive(Clone, Debug)]
enum Kind {
    One,
    Input,
    Count(u64),
    List(Option<u64>),
    Enumerate,
}

/// A random handler.
#[derive(Clone, Debug)]
struct Recipe {
    kind: Kind,
    window: Option<u32>,
    tries: u32,
    backoff: (Backoff, u64),
    tolerance: Tolerance,
    is_absent: bool,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let kind = prop_oneof![
        2 => Just(Kind::One),
        1 => Just(Kind::Input),
        4 => (0..7_u64).prop_map(Kind::Count),
        1 => (60..90_u64).prop_map(Kind::Count),
        3 => Just(Kind::Enumerate),
        3 => prop::option::weighted(0.9, 0..5_u64).prop_map(Kind::List),
    ];
    let window = prop_oneof![3 => Just(None), 3 => (1..4_u32).prop_map(Some), 1 => Just(Some(64))];
    let backoff = (prop_oneof![Just(Backoff::Fixed), Just(Backoff::Exponential)], 0..3000_u64);
    let tolerance = prop_oneof![
        3 => Just(Tolerance::None),
        2 => (0..3_u64).prop_map(Tolerance::Count),
        1 => (0..=100_u8).prop_map(Tolerance::Percent),
    ];
    (kind, window, 1..4_u32, backoff, tolerance, prop::bool::weighted(0.1)).prop_map(
        |(kind, window, tries, backoff, tolerance, is_absent)| Recipe {
            kind,
            window,
            tries,
            backoff,
            tolerance,
            is_absent,
        },
    )
}

impl Recipe {
    fn build(&self, name: &str, outside: &mut Outside) -> HandlerBuilder {
        let (backoff, delay) = self.backoff;
        let built = handler(name).tries(self.tries).backoff(backoff, Millis(delay), Millis(delay * 2));
        let built = self.window.map_or(built.clone(), |window| built.window(window)).tolerate(self.tolerance);
        let name = crate::id::HandlerName::new(name).unwrap();
        if self.is_absent {
            outside.absent.push(name.clone());
        }
        match self.kind {
            Kind::One => built,
            Kind::Input => built.input(serde_json::json!("{{ data }}")),
            Kind::Count(count) => built.count(count),
            Kind::Enumerate => built.enumerates(),
            Kind::List(total) => {
                let error = || JobError::new("input", "no list").for_good();
                outside.lists.insert(name, total.map(|total| Listing { total, stored: true }).ok_or_else(error));
                built.each("data.items")
            }
        }
    }
}

/// A workflow and its outside. Each phase leads to the next one; its error transition leads anywhere, itself and back
/// included, or is missing.
pub(super) fn worlds() -> impl Strategy<Value = (Workflow, Outside)> {
    let one = (prop::collection::vec(recipe(), 0..4), prop::option::weighted(0.7, any::<prop::sample::Index>()));
    let phases = prop::collection::vec(one, 1..5);
    (phases, prop::bool::ANY, prop::bool::weighted(0.9)).prop_map(|(phases, has_output, is_output_good)| {
        let (mut built, mut outside, last) = (workflow("random"), Outside::default(), phases.len() - 1);
        for (number, (handlers, on_error)) in phases.iter().enumerate() {
            let mut one: PhaseBuilder = match number == last {
                true => final_phase(&format!("p{number}")),
                false => phase(&format!("p{number}")).to(&format!("p{}", number + 1)),
            };
            for (place, recipe) in handlers.iter().enumerate() {
                one = one.handler(recipe.build(&format!("h{number}-{place}"), &mut outside));
            }
            if let Some(target) = on_error {
                one = one.on_error(&format!("p{}", target.index(phases.len())));
            }
            built = built.phase(one);
        }
        if has_output {
            built = built.output(serde_json::json!("{{ outputs }}"));
        }
        if !is_output_good {
            outside.output = Err(JobError::new("output", "no such field"));
        }
        (built.build(), outside)
    })
}
