//! Time, as it comes in with each call.

use crate::fault::{self, Fault};

/// Time, as it comes in with each call. All in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since some point before the node started; never goes back. For intervals.
    pub mono_ms: u64,
    /// Since the Unix epoch; may be set back or forward. For people.
    pub wall_ms: u64,
    /// The time of records, for what outlives the process: since about the Unix epoch. It goes on
    /// like `mono_ms` while the node runs and never goes back; only the time between two runs is
    /// the wall clock's.
    pub record_ms: u64,
}

/// The monotonic time of what never comes.
const NEVER_MS: u64 = u64::MAX;

impl Now {
    /// Returns what a monotonic time is in records; 0 is never.
    pub fn record_ms_of(&self, mono_ms: u64) -> u64 {
        if mono_ms == NEVER_MS {
            return 0;
        }
        let record_ms = self.record_ms.saturating_add(mono_ms);
        record_ms.saturating_sub(self.mono_ms).max(1)
    }

    /// The monotonic time of a time in a record that is past. It wraps around if that was before
    /// the node started.
    pub fn mono_ms_before(&self, record_ms: u64) -> u64 {
        let ago_ms = self.record_ms.saturating_sub(record_ms);
        self.mono_ms.wrapping_sub(ago_ms)
    }

    /// The monotonic time of a time in a record; what is past is now.
    pub fn mono_ms_of(&self, record_ms: u64) -> u64 {
        if record_ms == 0 || fault::is(Fault::ExpiryForgotten) {
            return NEVER_MS;
        }
        let ahead_ms = record_ms.saturating_sub(self.record_ms);
        self.mono_ms.saturating_add(ahead_ms)
    }
}
