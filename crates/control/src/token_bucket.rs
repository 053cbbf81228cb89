//! A bucket of tokens: what is taken from it comes back over time.

use std::time::{Duration, Instant};

/// A bucket. It is full at first.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Tokens that come back in a second; more than 0.
    per_second: f64,
    /// Tokens of a full bucket.
    most: f64,
    /// Tokens in it at `at`; less than 0: more were taken than there were.
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket. `most` is its number of tokens. `per_second`, more than 0, is refilled each
    /// second.
    pub fn new(per_second: f64, most: f64, now: Instant) -> Self {
        Self {
            per_second,
            most,
            tokens: most,
            at: now,
        }
    }

    /// Tokens that are in it now.
    pub fn tokens(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.most)
    }

    /// Takes this many, though there may be fewer: what is missing is paid by time.
    pub fn take(&mut self, tokens: f64, now: Instant) {
        self.tokens = self.tokens(now) - tokens;
        self.at = now;
    }

    /// Time until there are this many.
    pub fn time_to(&self, tokens: f64, now: Instant) -> Duration {
        let missing = (tokens - self.tokens(now)).max(0.0);
        Duration::from_secs_f64(missing / self.per_second)
    }

    /// Whether it is full now, as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.tokens(now) >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_over_time_and_no_more() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(2.0, 3.0, now);
        bucket.take(3.0, now);
        assert_eq!(bucket.time_to(1.0, now), Duration::from_millis(500));
        assert_eq!(bucket.tokens(now + Duration::from_secs(1)), 2.0);
        let later = now + Duration::from_secs(100);
        assert!(bucket.is_full(later));
        assert_eq!(bucket.tokens(later), 3.0);
    }

    #[test]
    fn what_was_taken_beyond_that_is_waited_for() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(1_000.0, 1_000.0, now);
        assert_eq!(bucket.time_to(1.0, now), Duration::ZERO);
        bucket.take(3_000.0, now);
        assert_eq!(bucket.time_to(0.0, now), Duration::from_secs(2));
        let later = now + Duration::from_secs(3);
        assert_eq!(bucket.time_to(1.0, later), Duration::ZERO);
    }
}
