//! Whether the node itself was named as a broker.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the node itself was named as a broker since its start.
#[derive(Debug, Default)]
pub(crate) struct InternalUse(AtomicBool);

impl InternalUse {
    /// Notes that the node is named.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the node was named.
    pub(super) fn was(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
