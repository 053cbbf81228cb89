//! Values as they are stored, for readers that follow them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use martlet_telemetry::Point;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Batches that a reader may be behind. One has the values of a batch of messages.
const BATCHES: usize = 64;

/// A batch of stored values.
pub(crate) type StoredBatch = Arc<[Point]>;

/// Where readers follow what is stored, and bytes of the last batch.
#[derive(Debug)]
pub(crate) struct Tails(broadcast::Sender<StoredBatch>, AtomicUsize);

impl Default for Tails {
    fn default() -> Self {
        Self(broadcast::Sender::new(BATCHES), AtomicUsize::new(0))
    }
}

impl Tails {
    /// How many follow. Values are copied for them.
    pub(crate) fn readers(&self) -> usize {
        self.0.receiver_count()
    }

    /// Bytes of memory that batches take which a reader has not read yet, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len() * self.1.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, points: Vec<Point>) {
        let bytes = points.iter().map(Point::bytes).sum();
        self.1.store(bytes, Ordering::Relaxed);
        // The last reader may have left meanwhile.
        let _ = self.0.send(points.into());
    }

    pub(crate) fn follow(&self, devices: HashSet<i64>, keys: Option<HashSet<Arc<str>>>) -> Tail {
        Tail {
            batches: self.0.subscribe(),
            devices,
            keys,
        }
    }
}

/// A reader of values as they are stored.
#[derive(Debug)]
pub struct Tail {
    batches: broadcast::Receiver<StoredBatch>,
    devices: HashSet<i64>,
    keys: Option<HashSet<Arc<str>>>,
}

/// Why there are no next values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailEnd {
    /// The reader was too slow: values were left out.
    Behind,
    /// The node stops.
    Stopped,
}

impl Tail {
    /// The next values of the devices and keys that are followed, at least one. Nothing is lost if
    /// the future is dropped.
    ///
    /// # Errors
    /// Values were left out, or the node stops.
    pub async fn next(&mut self) -> Result<Vec<Point>, TailEnd> {
        loop {
            let batch = match self.batches.recv().await {
                Ok(batch) => batch,
                Err(RecvError::Lagged(_)) => return Err(TailEnd::Behind),
                Err(RecvError::Closed) => return Err(TailEnd::Stopped),
            };
            let is_followed = |point: &&Point| {
                self.devices.contains(&point.device)
                    && self
                        .keys
                        .as_ref()
                        .is_none_or(|keys| keys.contains(&point.key))
            };
            let points: Vec<Point> = batch.iter().filter(is_followed).cloned().collect();
            if !points.is_empty() {
                return Ok(points);
            }
        }
    }
}
