//! Rate of sending messages, and delays between attempts to connect.
//!
//! Pure functions: time and random numbers are arguments.

use std::time::Duration;

/// Shortest pause before the second attempt to connect, and longest pause before any.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Size of a burst as time: at 1,000 messages per second these are 20 messages.
const BURST: Duration = Duration::from_millis(20);

/// Limits the number of messages per second.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// The time up to which the rate is used up.
    paid: Duration,
}

impl Rate {
    /// Permits at most this number of messages per second, at least 1.
    pub(crate) fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            paid: Duration::ZERO,
        }
    }

    /// Number of messages that may be sent now.
    pub(crate) fn available(&self, now: Duration) -> usize {
        let saved = now.saturating_sub(self.paid).min(self.burst());
        (saved.as_nanos() * u128::from(self.per_second) / 1_000_000_000) as usize
    }

    /// Counts messages that were sent.
    pub(crate) fn sent(&mut self, count: usize, now: Duration) {
        let from = self.paid.max(now.saturating_sub(self.burst()));
        self.paid = from + self.cost() * u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// When the next message may be sent.
    pub(crate) fn next(&self) -> Duration {
        self.paid + self.cost()
    }

    fn cost(&self) -> Duration {
        Duration::from_nanos(1_000_000_000_u64.div_ceil(self.per_second))
    }

    /// Size of a burst: at least one message.
    fn burst(&self) -> Duration {
        BURST.max(self.cost())
    }
}

/// Pause before the next attempt to connect, after this number of consecutive failures (at least
/// one). The first pause is 1 s to 2 s, depending on the random number. It doubles with each
/// further failure, up to 60 s to 120 s. So devices do not all reconnect at the same time.
pub(crate) fn pause(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let shortest = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE / 2);
    shortest + shortest * (random % 1_000) as u32 / 999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_the_rate_through_and_a_long_pause_no_more_than_a_burst() {
        for per_second in [1, 7, 10, 1_000, 50_000] {
            let mut rate = Rate::new(per_second);
            let mut now = Duration::from_secs(60);
            assert!(rate.available(now) <= (per_second as usize / 50).max(1));
            let end = now + Duration::from_secs(10);
            let mut sent = 0;
            while now < end {
                let count = rate.available(now);
                rate.sent(count, now);
                sent += count as u64;
                now = rate.next().max(now + Duration::from_millis(1));
            }
            let expected = per_second * 10;
            let fair = expected - expected / 20..=expected + per_second / 50 + 1;
            assert!(fair.contains(&sent), "{per_second}: {sent}");
        }
    }

    #[test]
    fn pauses_double_from_one_second_to_two_minutes_and_differ() {
        let shortest: Vec<u64> = (1..=8).map(|n| pause(n, 0).as_secs()).collect();
        assert_eq!(shortest, [1, 2, 4, 8, 16, 32, 60, 60]);
        let longest: Vec<u64> = (1..=8).map(|n| pause(n, 999).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 64, 120, 120]);
        for failures in [0, 1, 5, 40, u32::MAX] {
            for random in [0, 500, 999, u64::MAX] {
                let found = pause(failures, random);
                assert!(found >= FIRST_PAUSE && found <= LONGEST_PAUSE);
                assert!(found >= pause(failures, 0) && found <= pause(failures, 999));
            }
        }
    }
}
