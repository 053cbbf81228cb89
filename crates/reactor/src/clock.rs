//! The clocks of a node, read once per tick. The time of records goes on with the monotonic clock
//! from where the start has set it, so that setting the wall clock does not move it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use martlet_broker::Now;

/// Reads the clocks; copies of one clock agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// The time of records at the origin, milliseconds.
    record_origin_ms: u64,
}

impl Clock {
    /// Monotonic time begins now, at 1 ms, so that 0 is always in the past.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
            record_origin_ms: wall_ms(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.at(self.moment())
    }

    /// This moment, since the beginning of monotonic time.
    pub(crate) fn moment(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The time at a moment that has just been.
    pub(crate) fn at(&self, moment: Duration) -> Now {
        let elapsed_ms = moment.as_millis() as u64;
        Now {
            mono_ms: elapsed_ms + 1,
            wall_ms: wall_ms(),
            record_ms: self.record_origin_ms + elapsed_ms,
        }
    }

    /// The time of records is, or was, `record_ms` at `then`.
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
