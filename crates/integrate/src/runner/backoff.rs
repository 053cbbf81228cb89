//! Pauses between attempts.

use std::time::Duration;

/// Pauses after failures: doubled after each, with jitter, within bounds. Equal bounds mean a
/// fixed pause without jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// First pause, unless it is configured, milliseconds.
    pub(crate) const FIRST_MS: u64 = 500;
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(Self::FIRST_MS),
            longest: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// Pause after this number of consecutive failures, from 1: between half of it and all of it,
    /// by the random number.
    pub fn pause(self, failures: u32, random: u64) -> Duration {
        match self.first == self.longest {
            true => self.first,
            false => self.with_jitter(failures, random),
        }
    }

    /// Returns the pause, with jitter even if the bounds are equal.
    pub(crate) fn with_jitter(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = whole / 2;
        let part = (random % 1_000) as u32;
        half + half * part / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ_by_half_at_most() {
        let backoff = Backoff::default();
        let pauses: Vec<u128> = (1..=9)
            .map(|failures| backoff.pause(failures, 0).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        for random in [0, 1, 999, 1_000, u64::MAX] {
            for failures in [0, 1, 5, 40, u32::MAX] {
                let pause = backoff.pause(failures, random);
                assert!(pause >= backoff.first / 2 && pause <= backoff.longest);
            }
        }
    }

    #[test]
    fn a_pause_that_does_not_grow_is_kept_to() {
        let (first, longest) = (Duration::from_secs(5), Duration::from_secs(5));
        let backoff = Backoff { first, longest };
        for failures in [1, 2, 40] {
            assert_eq!(backoff.pause(failures, 7), first);
        }
    }
}
