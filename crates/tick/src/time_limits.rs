//! Time limits of a tick for work whose duration depends on the number of clients.

use std::time::Duration;

/// Longest time that a tick reads.
const READING_MAX: Duration = Duration::from_millis(2);

/// Longest time that a tick reads from the sockets that come last, while thousands are served,
/// unless it has read others for longer.
const READING_LAST_MAX: Duration = Duration::from_micros(300);

/// Longest time that a tick writes. Answers for thousands of clients may be written at once. The
/// sockets that wait come first in the next tick.
const WRITING_MAX: Duration = Duration::from_micros(4000);

/// Longest time that a tick writes output of messages with many receivers, unless other effects
/// have taken longer.
const WRITING_LAST_MAX: Duration = Duration::from_micros(300);

/// Divisor. Such output is written for at least this part of the time that other effects of a tick
/// have taken, so it is sent however much other work there is.
pub(crate) const WRITING_LAST_PART: u32 = 2;

/// Time limits of a tick for work whose duration depends on the number of clients.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// Limit for reading.
    pub reading: Duration,
    /// Limit for reading answers to messages for many clients.
    pub reading_last: Duration,
    /// Limit for writing.
    pub writing: Duration,
    /// Limit for writing the rest of messages for many clients.
    pub writing_last: Duration,
    /// Divisor: the part of the time of other effects that such writing gets in any case.
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
