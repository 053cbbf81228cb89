//! Messages that a sink receives from the other system.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts messages of the other system, since the start of the node.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    taken: AtomicU64,
    dropped: AtomicU64,
}

impl Incoming {
    /// Counts a message that the node has accepted.
    pub(crate) fn count_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a dropped message.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of accepted and of dropped messages.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (value(&self.taken), value(&self.dropped))
    }
}
