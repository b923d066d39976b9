//! Plays simulations, one for each seed, and says what it found. `cargo xtask simulate` builds it and runs it.
//!
//! `batch` plays many seeds and sums up, `explain` makes a failure readable, `breaks` sees whether deliberate breaks are
//! found.

mod batch;
mod breaks;
mod explain;

use std::collections::BTreeSet;
use std::panic;
use std::process::ExitCode;

use clap::Parser;
use phasework_tests::sim::{Break, Fault, PANIC, Recipe, report_panic};

/// Plays the whole engine in simulated time, on parts that fail as a seed has it, and checks the invariants.
#[derive(Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate", after_help = EXAMPLES)]
struct Arguments {
    /// How many seeds to play; 2000 when no seed is named
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; alone, the only one
    #[arg(long)]
    seed: Option<u64>,
    /// Leave out some of what goes wrong: names with commas between
    #[arg(long, value_delimiter = ',', value_name = "FAULTS")]
    without: Vec<Fault>,
    /// Take a mechanism away, which has to be found out
    #[arg(long = "break", value_name = "MECHANISM")]
    broken: Option<Break>,
    /// Print everything that happens, with simulated times
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// Play until each deliberate break is found, and print how many seeds that took
    #[arg(long, conflicts_with_all = ["broken", "trace", "without"])]
    breaks: bool,
}

/// How many seeds a test run plays.
const DEFAULT_SEEDS: u64 = 2000;

const EXAMPLES: &str = "\
Examples:
  cargo xtask simulate                         2,000 seeds
  cargo xtask simulate --seeds 100000 --seed 1000000
  cargo xtask simulate --seed 17 --trace       one seed, told from beginning to end
  cargo xtask simulate --seed 17 --without slow,delay
  cargo xtask simulate --break fence-down      has to fail
  cargo xtask simulate --breaks                which breaks are found, and how soon";

fn main() -> ExitCode {
    be_quiet_about_planned_panics();
    let Arguments { seeds, seed, without, broken, trace, breaks } = Arguments::parse();
    let without: BTreeSet<_> = without.into_iter().collect();
    let recipe = |seed| Recipe::of(seed).without(&without);
    let first = seed.unwrap_or(1);
    let all_well = match (seeds, seed) {
        _ if breaks => breaks::find_all(first, seeds.unwrap_or(DEFAULT_SEEDS)),
        (None, Some(_)) => explain::play_one(&recipe(first), broken, trace),
        _ if trace => explain::play_one(&recipe(first), broken, trace),
        (seeds, _) => batch::play_many(first, seeds.unwrap_or(DEFAULT_SEEDS), broken, recipe),
    };
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn be_quiet_about_planned_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let said = info.payload();
        let words = said.downcast_ref::<&str>().copied().or_else(|| said.downcast_ref::<String>().map(String::as_str));
        if words != Some(PANIC) {
            before(info);
            report_panic(words.unwrap_or("in no words"));
        }
    }));
}
