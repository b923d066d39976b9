//! Which faults strike when: drawn from a seed before anything begins, so that a seed gives the same ones again.

use std::time::Duration;

use fastrand::Rng;

/// How many coordinators there are.
pub(crate) const COORDINATORS: usize = 3;
/// How many workers there are.
pub(crate) const WORKERS: usize = 4;

/// What a fault is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// RabbitMQ.
    Broker,
    /// Redis.
    Store,
}

/// A process of phasework, by its place in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A `phasework serve`.
    Coordinator(usize),
    /// A worker.
    Worker(usize),
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and started again after a while.
    Kill(Program, Duration),
    /// `SIGSTOP`, and `SIGCONT` after a while.
    Freeze(Program, Duration),
    /// Stopped as a service is stopped, and started again.
    Restart(Part),
    /// `kill -9`, and started again after a while.
    Crash(Part, Duration),
    /// `kill -9`, and started again without anything it had.
    Lose(Part),
    /// One in so many of the connections is cut.
    Cut(Part, u64),
    /// One in so many of the connections carries nothing for a while.
    Stall(Part, u64, Duration),
    /// One in so many of the connections carries nothing any more, and neither side is told.
    HalfOpen(Part, u64),
    /// No room for anything new, for a while: a memory alarm, `maxmemory`.
    Fill(Part, Duration),
}

impl Fault {
    /// How faults of this kind are called.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Kill(Program::Coordinator(_), _) => "coordinator killed",
            Self::Kill(Program::Worker(_), _) => "worker killed",
            Self::Freeze(Program::Coordinator(_), _) => "coordinator frozen",
            Self::Freeze(Program::Worker(_), _) => "worker frozen",
            Self::Restart(Part::Broker) => "RabbitMQ restarted",
            Self::Restart(Part::Store) => "Redis restarted",
            Self::Crash(Part::Broker, _) => "RabbitMQ killed",
            Self::Crash(Part::Store, _) => "Redis killed",
            Self::Lose(Part::Broker) => "RabbitMQ emptied",
            Self::Lose(Part::Store) => "Redis emptied",
            Self::Cut(Part::Broker, _) => "AMQP connections cut",
            Self::Cut(Part::Store, _) => "Redis connections cut",
            Self::Stall(Part::Broker, ..) => "AMQP connections stalled",
            Self::Stall(Part::Store, ..) => "Redis connections stalled",
            Self::HalfOpen(Part::Broker, _) => "AMQP connections half-open",
            Self::HalfOpen(Part::Store, _) => "Redis connections half-open",
            Self::Fill(Part::Broker, _) => "RabbitMQ out of memory",
            Self::Fill(Part::Store, _) => "Redis out of memory",
        }
    }
}

/// A fault, and when it strikes, from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// When.
    pub(crate) at: Duration,
    /// What.
    pub(crate) fault: Fault,
}

/// One fault of every kind, in any order, again and again for `length`, at random moments.
pub(crate) fn draw(rng: &mut Rng, length: Duration) -> Vec<Planned> {
    let rounds = (length.as_secs() / 60).max(1);
    let mut planned = Vec::new();
    for round in 0..rounds {
        let mut faults = every_kind(rng, length);
        rng.shuffle(&mut faults);
        let gap = length / u32::try_from(rounds).unwrap_or(u32::MAX) / u32::try_from(faults.len()).unwrap_or(1);
        let begin = length * u32::try_from(round).unwrap_or(0) / u32::try_from(rounds).unwrap_or(u32::MAX);
        for (place, fault) in (0..).zip(faults) {
            planned.push(Planned { at: begin + gap * place + gap.mul_f64(rng.f64()), fault });
        }
    }
    planned
}

fn every_kind(rng: &mut Rng, length: Duration) -> Vec<Fault> {
    // Heartbeats find out after 10 s (coordinators) to 30 s (workers). A long chaos also has freezes that outlast everything else.
    let longest_freeze = if length > Duration::from_secs(600) && rng.u8(..5) == 0 { 300 } else { 30 };
    let seconds = |rng: &mut Rng, longest: u64| Duration::from_millis(rng.u64(1000..=longest * 1000));
    let coordinator = |rng: &mut Rng| Program::Coordinator(rng.usize(..COORDINATORS));
    let worker = |rng: &mut Rng| Program::Worker(rng.usize(..WORKERS));
    let mut faults = vec![
        Fault::Kill(coordinator(rng), seconds(rng, 3)),
        Fault::Kill(worker(rng), seconds(rng, 3)),
        Fault::Freeze(coordinator(rng), seconds(rng, longest_freeze)),
        Fault::Freeze(worker(rng), seconds(rng, 15)),
    ];
    for part in [Part::Broker, Part::Store] {
        faults.extend([
            Fault::Restart(part),
            Fault::Crash(part, seconds(rng, 3)),
            Fault::Cut(part, rng.u64(1..=3)),
            Fault::Stall(part, rng.u64(1..=3), seconds(rng, 8)),
            Fault::HalfOpen(part, rng.u64(2..=4)),
            Fault::Fill(part, seconds(rng, 6)),
        ]);
    }
    // What Redis loses, nobody else has.
    faults.push(Fault::Lose(Part::Broker));
    faults
}

/// How every kind is called.
pub(crate) fn kinds() -> Vec<&'static str> {
    every_kind(&mut Rng::with_seed(0), Duration::ZERO).into_iter().map(Fault::kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_again_and_every_kind_of_them() {
        for minutes in [1, 2, 30] {
            let length = Duration::from_secs(60) * minutes;
            for seed in 0..20 {
                let planned = draw(&mut Rng::with_seed(seed), length);
                assert_eq!(planned, draw(&mut Rng::with_seed(seed), length));
                assert!(planned.is_sorted_by_key(|planned| planned.at));
                assert!(planned.iter().all(|planned| planned.at < length));
                for kind in kinds() {
                    let times = planned.iter().filter(|planned| planned.fault.kind() == kind).count();
                    assert_eq!(times, minutes as usize, "{kind}");
                }
            }
        }
        assert_ne!(
            draw(&mut Rng::with_seed(1), Duration::from_secs(60)),
            draw(&mut Rng::with_seed(2), Duration::from_secs(60))
        );
    }
}
