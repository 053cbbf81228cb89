//! The two clocks of a node, read once per tick.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use martlet_broker::Now;

/// Reads the clocks; copies of one clock agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Monotonic time begins now, at 1 ms, so that 0 is always in the past.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            mono_ms: self.origin.elapsed().as_millis() as u64 + 1,
            wall_ms: wall.as_millis() as u64,
        }
    }
}
