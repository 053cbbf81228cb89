//! Limits log lines about connections that could not be accepted: without descriptors, each attempt
//! would log one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(1);

/// Failures of all HTTP listeners.
#[derive(Debug, Default)]
pub(super) struct AcceptFailures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    written: Option<Instant>,
    failed: u64,
}

impl AcceptFailures {
    /// Counts a failure. Returns the number of failures since the last line if a line is due.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed += 1;
        let is_due = |written| now.saturating_duration_since(written) >= EVERY;
        if !state.written.is_none_or(is_due) {
            return None;
        }
        state.written = Some(now);
        Some(std::mem::take(&mut state.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_line_a_second_with_a_count() {
        let (failures, start) = (AcceptFailures::default(), Instant::now());
        let at = |ms| failures.count(start + Duration::from_millis(ms));
        assert_eq!(at(0), Some(1));
        for ms in (100..1_000).step_by(100) {
            assert_eq!(at(ms), None);
        }
        assert_eq!(at(1_000), Some(10));
        assert_eq!(at(1_100), None);
    }
}
