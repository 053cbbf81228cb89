//! The wall clock, in milliseconds since the Unix epoch; 0 where it stands before that.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> u64 {
    since_epoch().as_millis() as u64
}

/// As the tables have it.
pub(crate) fn now_signed_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// A time of the tables; 0 before the epoch.
pub(crate) fn unsigned(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

fn since_epoch() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Smaller steps than this, milliseconds, are none: the clock is slewed, or a thread has waited.
const STEP_MS: i64 = 5_000;

/// Finds out whether the wall clock was set.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    wall_ms: i64,
    at: Instant,
}

impl ClockWatch {
    /// A watch that begins now.
    pub(crate) fn new() -> Self {
        Self {
            wall_ms: now_signed_ms(),
            at: Instant::now(),
        }
    }

    /// By how many milliseconds the clock was set since the last call, if it was.
    pub(crate) fn step(&mut self) -> Option<i64> {
        let now = Self::new();
        let elapsed = now.at.duration_since(self.at).as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let step = now
            .wall_ms
            .saturating_sub(self.wall_ms)
            .saturating_sub(elapsed);
        *self = now;
        (step.abs() >= STEP_MS).then_some(step)
    }
}
