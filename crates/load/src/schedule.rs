//! Times at which messages are due at a given rate.
//!
//! Responsible for a schedule that does not wait: the latency of a message that is sent late counts
//! from its due time, so a broker that delays the load generator does not improve its percentiles.
//! It has no clock.

/// Messages at equal intervals from time 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: f64,
    due_count: u64,
}

impl Schedule {
    /// A schedule of `rate` messages per second, more than 0.
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, due_count: 0 }
    }

    /// When message `number` is due in nanoseconds.
    pub(super) fn due_at(&self, number: u64) -> u64 {
        (number as f64 * 1e9 / self.rate) as u64
    }

    /// The next message that is due at `now`, counted from 0. Each is returned once.
    pub(super) fn next_due(&mut self, now: u64) -> Option<u64> {
        let number = self.due_count;
        let is_due = self.due_at(number) <= now;
        self.due_count += u64::from(is_due);
        is_due.then_some(number)
    }

    /// Nanoseconds from `now` until the next message is due.
    pub(super) fn idle_nanos(&self, now: u64) -> u64 {
        self.due_at(self.due_count).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_due_during_a_pause_is_due_at_its_own_time() {
        let mut schedule = Schedule::new(1000.0);
        assert_eq!(schedule.next_due(0), Some(0));
        assert_eq!(schedule.next_due(999_999), None);
        assert_eq!(schedule.idle_nanos(400_000), 600_000);
        let missed: Vec<_> = std::iter::from_fn(|| schedule.next_due(5_000_000)).collect();
        assert_eq!(missed, [1, 2, 3, 4, 5]);
        assert_eq!(schedule.due_at(1), 1_000_000);
    }

    #[test]
    fn a_rate_is_kept_over_hours() {
        let mut schedule = Schedule::new(30.0);
        schedule.due_count = 30 * 3600;
        assert_eq!(schedule.idle_nanos(0), 3600 * 1_000_000_000);
    }
}
