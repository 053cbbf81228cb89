//! Status of a bridge, for its sink and for readers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Status reported by a worker.
#[derive(Debug)]
pub(super) struct Status {
    trouble: Mutex<Option<Trouble>>,
    /// Name of the other broker among all nodes, if it is a node and known.
    remote: Mutex<Option<Arc<str>>>,
    /// Number of messages that were not sent because they have passed the other broker.
    skipped: AtomicU64,
}

/// A problem of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) why: String,
    /// Whether a connection attempt failed.
    pub(super) is_outage: bool,
}

impl Default for Status {
    fn default() -> Self {
        let trouble = Trouble {
            why: "the bridge has not connected yet".to_owned(),
            is_outage: false,
        };
        Self {
            trouble: Mutex::new(Some(trouble)),
            remote: Mutex::default(),
            skipped: AtomicU64::default(),
        }
    }
}

impl Status {
    /// Why messages do not pass; `None` if they do.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().as_ref().map(|trouble| trouble.why.clone())
    }

    /// Why there is no connection, if an attempt failed.
    pub(super) fn outage(&self) -> Option<String> {
        let trouble = self.lock();
        let outage = trouble.as_ref().filter(|trouble| trouble.is_outage);
        outage.map(|trouble| trouble.why.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name of the other broker among all nodes, if it is a node and known.
    pub(super) fn remote(&self) -> Option<Arc<str>> {
        let remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        remote.clone()
    }

    /// Sets that name; `None`: the other broker is not a node.
    pub(super) fn set_remote(&self, name: Option<&str>) {
        let mut remote = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        *remote = name.map(Arc::from);
    }

    /// Counts a message that was not sent because it has passed the other broker.
    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of such messages.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Sets the problem; returns whether it has changed.
    pub(super) fn set(&self, trouble: Option<Trouble>) -> bool {
        let mut own = self.lock();
        let is_new = *own != trouble;
        *own = trouble;
        is_new
    }
}
