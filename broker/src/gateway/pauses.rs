//! How long to wait before something is tried again: longer and longer, and not the same for all who lost the same
//! server.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(50);

const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that grow.
#[derive(Debug)]
pub(super) struct Pauses {
    chance: u64,
    next: Duration,
}

impl Pauses {
    pub(super) fn new(seed: u64) -> Self {
        // Spread out: what xorshift makes of small numbers is small for a while.
        Self { chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, next: SHORTEST }
    }

    /// Begins short again.
    pub(super) fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// The next pause: as long as it may be by now, or down to half of that.
    pub(super) fn pause(&mut self) -> Duration {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let pause = self.next - self.next.mul_f64((self.chance >> 11) as f64 / (1_u64 << 53) as f64 / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let (mut one, mut two) = (Pauses::new(7), Pauses::new(99));
        let mut most = SHORTEST;
        for _ in 0..20 {
            let pause = one.pause();
            assert!(pause <= most && pause >= most / 2, "{pause:?} of {most:?}");
            assert_ne!(pause, two.pause());
            most = (most * 2).min(LONGEST);
        }
        one.reset();
        assert!(one.pause() <= SHORTEST);
    }
}
