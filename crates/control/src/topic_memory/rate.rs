//! Messages per second, lately.

/// Seconds after which a message counts only for 1/e of what it did.
const MEMORY_SECS: f64 = 60.0;
/// Minimum seconds of a rate: two messages at once are no 1,000 per second.
const LEAST_SECS: f64 = 1.0;

/// An average in which what is long ago counts less and less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// When the first message came, milliseconds.
    since_ms: u64,
    /// When the last one came.
    at_ms: u64,
    /// Messages until then, each by what it still counts for.
    weight: f64,
}

impl Rate {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            at_ms: now_ms,
            weight: 0.0,
        }
    }

    pub(crate) fn count(&mut self, now_ms: u64) {
        self.weight = self.weight * faded(self.at_ms, now_ms) + 1.0;
        self.at_ms = now_ms;
    }

    /// Messages per second.
    pub(crate) fn per_second(&self, now_ms: u64) -> f64 {
        let secs = (now_ms.saturating_sub(self.since_ms) as f64 / 1000.0).max(LEAST_SECS);
        // What a message per second would have come to in this time.
        let one = MEMORY_SECS * (1.0 - (-secs / MEMORY_SECS).exp());
        self.weight * faded(self.at_ms, now_ms) / one
    }
}

fn faded(from_ms: u64, to_ms: u64) -> f64 {
    (-(to_ms.saturating_sub(from_ms) as f64) / 1000.0 / MEMORY_SECS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(every_ms: u64, until_ms: u64) -> Rate {
        let mut rate = Rate::new(0);
        (0..until_ms)
            .step_by(every_ms as usize)
            .for_each(|at| rate.count(at));
        rate
    }

    #[test]
    fn a_steady_topic_has_its_rate_after_seconds_and_after_hours() {
        for until_ms in [10_000, 60_000, 7_200_000] {
            let rate = of(100, until_ms).per_second(until_ms);
            assert!((9.5..10.5).contains(&rate), "{rate} after {until_ms}");
        }
    }

    #[test]
    fn a_topic_that_falls_silent_has_less_and_less() {
        let rate = of(100, 600_000);
        let after = |secs: u64| rate.per_second(600_000 + secs * 1000);
        assert!(after(60) < 4.0 && after(600) < 0.001);
    }

    #[test]
    fn a_first_message_is_one_per_second_at_most() {
        let mut rate = Rate::new(5);
        rate.count(5);
        assert!(rate.per_second(5) <= 1.01);
    }
}
