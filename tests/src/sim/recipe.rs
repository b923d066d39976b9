//! What a seed stands for: how many programs there are, which runs they get, and what goes wrong when.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use phasework_workflows::message::event::ControlAction;

use super::fault::Fault;
use super::shapes;

/// Every how manieth seed plays with the store on SQLite.
const ON_SQLITE: u64 = 4;

/// One simulation, but for what follows from its course.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What everything is drawn from.
    pub seed: u64,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// What was left out of it on demand.
    pub left_out: BTreeSet<Fault>,
    /// By how many times less often than usual faults strike at calls.
    pub(super) calm: u64,
    pub(super) coordinators: usize,
    pub(super) workers: usize,
    /// How many coordinator queues runs are mapped onto at first.
    pub(super) queues: u16,
    pub(super) tick: Duration,
    pub(super) batch: usize,
    pub(super) prefetch: u16,
    pub(super) cached_runs: usize,
    /// Whether the store is the one on SQLite.
    pub(super) on_sqlite: bool,
    pub(super) slots: u32,
    pub(super) lease_after: Duration,
    /// For how long faults strike.
    pub(super) length: Duration,
    /// When faults strike that do not strike at calls.
    pub(super) strikes: Vec<(Duration, Fault)>,
    pub(super) definitions: Vec<String>,
    pub(super) runs: Vec<RunPlan>,
}

/// A run, and what its submitter wants of it.
#[derive(Clone, Debug)]
pub(super) struct RunPlan {
    pub(super) at: Duration,
    pub(super) definition: usize,
    pub(super) key: String,
    /// How large it is, as its data says.
    pub(super) size: u64,
    /// Whether it is submitted twice at once, under one key.
    pub(super) is_doubled: bool,
    /// Orders, each so long after the last.
    pub(super) orders: Vec<(Duration, ControlAction)>,
    /// How often it is told to go on when it halts.
    pub(super) retries: u32,
}

impl Recipe {
    /// What `seed` stands for.
    pub fn of(seed: u64) -> Self {
        // Seeds of one run after the other differ in every bit that counts.
        let mut chance = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chance = &mut chance;
        let is_calm = chance.u8(0..12) == 0;
        let meets = |fault: &Fault, chance: &mut Rng| chance.u8(0..100) < fault.percent();
        let mut faults: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|fault| meets(fault, chance)).collect();
        if is_calm {
            faults.clear();
        }
        let length = seconds(chance, 15, 45);
        let mut strikes = Vec::new();
        for &fault in faults.iter().filter(|fault| fault.calls().is_none() && **fault != Fault::StoreEmptied) {
            for _ in 0..chance.u32(1..=2) {
                strikes.push((length.mul_f64(chance.f64()), fault));
            }
        }
        strikes.sort_unstable();
        let apart = &mut Rng::with_seed(!seed);
        let definitions: Vec<_> = (0..chance.usize(1..=2)).map(|number| shapes::draw(number, chance, apart)).collect();
        let runs = (0..chance.u64(2..=5)).map(|number| plan(seed, number, definitions.len(), length, chance)).collect();
        Self {
            seed,
            calm: 1 << chance.u32(0..4),
            faults,
            left_out: BTreeSet::new(),
            coordinators: chance.usize(1..=3),
            workers: chance.usize(1..=3),
            queues: chance.u16(1..=3),
            tick: seconds(chance, 2, 4),
            batch: chance.usize(1..=32),
            prefetch: chance.u16(1..=64),
            cached_runs: chance.usize(1..=8),
            on_sqlite: seed.is_multiple_of(ON_SQLITE),
            slots: chance.u32(1..=8),
            lease_after: if chance.bool() { Duration::from_secs(5) } else { Duration::from_secs(30) },
            length,
            strikes,
            definitions,
            runs,
        }
    }

    /// The same without some of what goes wrong.
    #[must_use]
    pub fn without(mut self, faults: &BTreeSet<Fault>) -> Self {
        self.left_out.extend(faults);
        self.faults.retain(|fault| !faults.contains(fault));
        self.strikes.retain(|(_, fault)| !faults.contains(fault));
        self
    }
}

/// A length of time, in milliseconds at random between two numbers of seconds.
fn seconds(chance: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(chance.u64(from * 1000..=to * 1000))
}

fn plan(seed: u64, number: u64, definitions: usize, length: Duration, chance: &mut Rng) -> RunPlan {
    let orders = match chance.u8(0..10) {
        0 => vec![(seconds(chance, 0, 20), ControlAction::Cancel)],
        1 | 2 => vec![(seconds(chance, 0, 20), ControlAction::Pause), (seconds(chance, 1, 30), ControlAction::Resume)],
        3 => vec![(seconds(chance, 0, 20), ControlAction::Rerun)],
        4 => vec![(seconds(chance, 0, 20), ControlAction::Pause), (seconds(chance, 0, 5), ControlAction::Cancel)],
        _ => Vec::new(),
    };
    RunPlan {
        at: length.mul_f64(chance.f64() * 0.8),
        definition: chance.usize(0..definitions),
        key: format!("{seed}-{number}"),
        size: chance.u64(0..=12),
        is_doubled: chance.u8(0..4) == 0,
        orders,
        retries: chance.u32(0..=2),
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} coordinators, {} workers of {} slots, {} coordinator queues, {} runs, faults for {:.0?}",
            self.seed,
            self.coordinators,
            self.workers,
            self.slots,
            self.queues,
            self.runs.len(),
            self.length
        )?;
        let faults: Vec<_> = self.faults.iter().map(|fault| fault.name()).collect();
        let times: Vec<_> =
            self.strikes.iter().map(|(at, fault)| format!("{fault} {:.1}s", at.as_secs_f64())).collect();
        let none = |list: String| if list.is_empty() { "none".to_owned() } else { list };
        writeln!(f, "  goes wrong: {}", none(faults.join(", ")))?;
        write!(f, "  at times:   {}", none(times.join(", ")))
    }
}
