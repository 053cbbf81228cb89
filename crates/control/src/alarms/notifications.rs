//! Outcomes of notifications about alarms.

use std::sync::atomic::{AtomicU64, Ordering};

/// Outcomes of publishing changes of alarms on the alerts topic.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    published: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Notifications {
    pub(super) fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
    /// Numbers by outcome.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("published", of(&self.published)),
            ("failed", of(&self.failed)),
            ("dropped", of(&self.dropped)),
        ]
    }
}
