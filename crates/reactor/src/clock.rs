//! The clocks of a node, read once per tick. The time of records continues from the value set at
//! the start with the monotonic clock, so that a change of the wall clock does not affect it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use martlet_broker::Now;

/// Reads the clocks. Copies of one clock agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// The time of records at the origin, in milliseconds.
    record_origin_ms: u64,
}

impl Clock {
    /// Starts the clock. Monotonic time begins at 1 ms, so that 0 is always in the past.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            record_origin_ms: wall_ms(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.at(self.moment())
    }

    /// Time since the beginning of monotonic time.
    pub(crate) fn moment(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The time at a moment that has just passed.
    pub(crate) fn at(&self, moment: Duration) -> Now {
        let elapsed_ms = moment.as_millis() as u64;
        Now {
            mono_ms: elapsed_ms + 1,
            wall_ms: wall_ms(),
            record_ms: self.record_origin_ms + elapsed_ms,
        }
    }

    /// Sets the time of records: it was `record_ms` at `then`.
    pub(crate) fn set_record_time(&mut self, then: Now, record_ms: u64) {
        self.record_origin_ms = (record_ms + 1).saturating_sub(then.mono_ms);
    }
}

fn wall_ms() -> u64 {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    wall.as_millis() as u64
}
