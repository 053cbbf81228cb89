//! How long a tick may do what takes time by the number of clients.

use std::time::Duration;

/// How long a tick reads, at most.
const READING_MAX: Duration = Duration::from_millis(2);

/// Time that a tick reads from sockets that come last, at most, while thousands are served, unless
/// it has read others for longer.
const READING_LAST_MAX: Duration = Duration::from_micros(300);

/// Longest time that a tick writes, since answers for thousands of clients may leave the shard at
/// once. The sockets that wait come first in the next tick.
const WRITING_MAX: Duration = Duration::from_micros(4000);

/// Time that a tick spends on the output of messages with many receivers, at most, unless other
/// effects have taken longer.
const WRITING_LAST_MAX: Duration = Duration::from_micros(300);

/// Part of the time that other effects of a tick have taken, as a divisor, for which such output is
/// written in any case: so it goes out however much others have to do.
pub(crate) const WRITING_LAST_PART: u32 = 2;

/// How long a tick may do what takes time by the number of clients.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// Reading.
    pub reading: Duration,
    /// Reading answers to messages for many.
    pub reading_last: Duration,
    /// Writing.
    pub writing: Duration,
    /// Writing what messages for many have left.
    pub writing_last: Duration,
    /// The same as part of the time that other effects have taken: a divisor.
    pub writing_last_part: u32,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            reading: READING_MAX,
            reading_last: READING_LAST_MAX,
            writing: WRITING_MAX,
            writing_last: WRITING_LAST_MAX,
            writing_last_part: WRITING_LAST_PART,
        }
    }
}
