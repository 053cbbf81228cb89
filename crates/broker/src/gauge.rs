//! A count of bytes that many owners share.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes held by the messages that one shard has made, wherever their last reference is, and by
/// what queues keep of theirs.
#[derive(Debug, Default)]
pub struct MemoryGauge {
    bytes: AtomicUsize,
}

impl MemoryGauge {
    /// Bytes now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
