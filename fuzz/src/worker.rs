//! A sound run among workers and clients that say anything, in any order, with time that passes and coordinators that
//! die: every invariant holds after every step, and what is stored gives the run back.

use arbitrary::{Result, Unstructured};
use phasework_workflows::definition::Workflow;
use phasework_workflows::message::outcome::JobError;
use phasework_workflows::run::{Event, Listing};
use phasework_workflows::testkit::{Broken, Harness, Outside, final_phase, handler, phase, workflow};
use phasework_workflows::time::Millis;

use crate::{chance, state};

/// The longest that passes in one step: a year.
const LONGEST_PASSED: Millis = Millis::from_mins(366 * 24 * 60);

/// Plays a run as `bytes` have it.
pub fn worker(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let _ended = play(&mut bytes);
}

fn play(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut harness = Harness::start_with(definition(bytes)?, outside(bytes)?);
    while !bytes.is_empty() {
        if let Err(broken) = step(bytes, &mut harness)? {
            panic!("{broken}");
        }
    }
    Ok(())
}

fn step(bytes: &mut Unstructured<'_>, harness: &mut Harness) -> Result<std::result::Result<(), Broken>> {
    let event = match bytes.int_in_range(0..=15)? {
        0 => {
            harness.pass(chance::millis(bytes)?.min(LONGEST_PASSED));
            Event::Wake
        }
        1 => {
            harness.move_to_timer();
            Event::Wake
        }
        2 => {
            let died = harness.crash();
            harness.publish();
            if died.is_err() {
                return Ok(died);
            }
            Event::Recover
        }
        3 => Event::Wake,
        4 => {
            harness.outside = outside(bytes)?;
            Event::Wake
        }
        5 if !harness.events.is_empty() => harness.events.remove(0),
        6 if !harness.probes.is_empty() => harness.probes.remove(0),
        _ => chance::said(bytes, &harness.run)?,
    };
    Ok(harness.try_deliver(&event).map(drop))
}

/// What the coordinator learns of workers that come and go.
fn outside(bytes: &mut Unstructured<'_>) -> Result<Outside> {
    let name = |name: &str| name.parse().expect("a handler's name");
    let mut outside = Outside::default();
    for handler in ["a", "b", "c"] {
        if bytes.ratio(1, 4)? {
            outside.absent.push(name(handler));
        }
        outside.slots.insert(name(handler), bytes.arbitrary()?);
    }
    outside.version = semver::Version::new(1, bytes.int_in_range(0..=2)?, 0);
    let listing = match bytes.int_in_range(0..=3)? {
        0 => Err(JobError::new("error", "no list").for_good()),
        _ => Ok(Listing { total: bytes.int_in_range(0..=20)?, stored: true }),
    };
    outside.lists.insert(name("c"), listing);
    Ok(outside)
}

fn definition(bytes: &mut Unstructured<'_>) -> Result<Workflow> {
    if bytes.arbitrary()? {
        return Ok(state::small());
    }
    let a = handler("a").count(bytes.int_in_range(0..=40)?).window(bytes.int_in_range(1..=20)?);
    let a = a.tries(bytes.int_in_range(1..=3)?).timeout(Millis::from_secs(90)).start_timeout(Millis::from_mins(5));
    let round = phase("work").to("end").handler(a).handler("b");
    let round = if bytes.arbitrary()? { round.on_error("work") } else { round };
    Ok(workflow("round").phase(round).phase(final_phase("end").on_error("end").handler("c")).build())
}
