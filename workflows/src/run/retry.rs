//! How long a failed job waits for its next try.

use crate::definition::{Backoff, RetryPolicy};
use crate::id::scramble;
use crate::time::Millis;

/// The longest wait that a handler may ask for.
pub(super) const LONGEST_WAIT: Millis = Millis::from_mins(24 * 60);

/// The wait after `failed_tries` failed tries (at least 1). `random` draws the jitter: the wait is shortened by up to
/// the policy's share of it, so the longest wait is never exceeded.
pub(super) fn wait(policy: RetryPolicy, failed_tries: u32, random: u64) -> Millis {
    let delay = policy.delay.0;
    let full = match policy.backoff {
        Backoff::Fixed => delay,
        Backoff::Exponential => {
            let doublings = failed_tries.saturating_sub(1).min(63);
            u64::try_from(u128::from(delay) << doublings).unwrap_or(u64::MAX)
        }
    };
    let full = full.min(policy.max_delay.0);
    let share = u128::from(full) * u128::from(policy.jitter_percent.min(100)) / 100;
    let off = (u128::from(scramble(random)) * share) >> 64;
    Millis(full - u64::try_from(off).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff, jitter_percent: u8) -> RetryPolicy {
        let (delay, max_delay) = (Millis(1000), Millis(60_000));
        RetryPolicy { max_attempts: 10, backoff, delay, max_delay, jitter_percent }
    }

    #[test]
    fn waits_grow_and_are_capped() {
        for (backoff, failed_tries, expected) in [
            (Backoff::Fixed, 1, 1000),
            (Backoff::Fixed, 9, 1000),
            (Backoff::Exponential, 1, 1000),
            (Backoff::Exponential, 2, 2000),
            (Backoff::Exponential, 6, 32_000),
            (Backoff::Exponential, 7, 60_000),
            (Backoff::Exponential, u32::MAX, 60_000),
        ] {
            assert_eq!(wait(policy(backoff, 0), failed_tries, 7), Millis(expected), "{backoff:?} {failed_tries}");
        }
    }

    #[test]
    fn jitter_spreads_waits_over_its_share() {
        let waits: Vec<_> = (0..1000).map(|random| wait(policy(Backoff::Fixed, 20), 1, random).0).collect();
        let (low, high) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
        assert!((800..820).contains(&low) && (980..=1000).contains(&high), "{low}..{high}");
    }
}
