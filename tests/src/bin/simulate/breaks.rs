//! Whether deliberate breaks are found, and how soon.

use phasework_tests::sim::{Break, Recipe, simulate};

/// Plays seeds from `first` on with each break until it is found, at most `most` of them. Whether all are.
pub(crate) fn find_all(first: u64, most: u64) -> bool {
    println!("{:<20} {:>6}  found by", "break", "seeds");
    let mut all_found = true;
    for broken in Break::ALL {
        let found = (first..first + most).find_map(|seed| {
            let outcome = simulate(&Recipe::of(seed), Some(broken));
            outcome.broken.map(|found| (seed, found))
        });
        match found {
            Some((seed, found)) => println!("{:<20} {:>6}  {}", broken.name(), seed - first + 1, found.invariant),
            None => {
                println!("{:<20} {most:>6}  not found", broken.name());
                all_found = false;
            }
        }
    }
    all_found
}
