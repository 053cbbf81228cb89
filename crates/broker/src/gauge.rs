//! Bytes that are counted: a count that many owners share, and what one of them has in it.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

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

/// Bytes of memory that are counted by a gauge until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct CountedBytes {
    gauge: Option<Arc<MemoryGauge>>,
    bytes: usize,
}

impl CountedBytes {
    pub(crate) const NOTHING: Self = Self {
        gauge: None,
        bytes: 0,
    };

    /// Counts this number of bytes in this gauge.
    pub(crate) fn of(gauge: &Arc<MemoryGauge>, bytes: usize) -> Self {
        let mut counted = Self::by(gauge);
        counted.set(bytes);
        counted
    }

    /// Counts nothing yet, in this gauge.
    pub(crate) fn by(gauge: &Arc<MemoryGauge>) -> Self {
        Self {
            gauge: Some(Arc::clone(gauge)),
            bytes: 0,
        }
    }

    /// Number of bytes that it counts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the number of bytes that it counts.
    pub(crate) fn set(&mut self, bytes: usize) {
        if let Some(gauge) = &self.gauge {
            gauge.add(bytes);
            gauge.sub(self.bytes);
            self.bytes = bytes;
        }
    }

    pub(crate) fn add(&mut self, gauge: &Arc<MemoryGauge>, bytes: usize) {
        self.gauge
            .get_or_insert_with(|| Arc::clone(gauge))
            .add(bytes);
        self.bytes += bytes;
    }

    pub(crate) fn sub(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(gauge) = &self.gauge {
            gauge.sub(bytes);
        }
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.sub(self.bytes);
    }
}
