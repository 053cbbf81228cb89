//! How pushing events goes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use crate::health::Health;

/// Name of the warning in health.
const WARNING: &str = "events-push";

/// How it is, as of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushStatus {
    /// There is a connection.
    pub connected: bool,
    /// Frames sent.
    pub sent: u64,
    /// Events that were lost because the server was away, or too slow.
    pub lost: u64,
    /// Connections made.
    pub connects: u64,
    /// Events that wait, of which some may become no frame.
    pub behind: u64,
}

/// How it is.
#[derive(Debug, Default)]
pub struct PushState {
    pub(super) connected: AtomicBool,
    pub(super) sent: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) behind: AtomicU64,
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) why: Mutex<String>,
}

impl PushState {
    /// As of now.
    pub fn seen(&self) -> PushStatus {
        PushStatus {
            connected: self.connected.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            behind: self.behind.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the frames that wait to be pushed.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn fails(&self, health: &Health, why: &str) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        // A line for what is new, not for each attempt.
        if *known != why {
            warn!(why, "cannot push events; retrying");
            why.clone_into(&mut known);
        }
        health.warn_logged_as(
            WARNING,
            format!("Events cannot be pushed to events.push_url: {why}."),
        );
    }

    pub(super) fn is_well(&self, health: &Health) {
        self.connected.store(true, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        health.withdraw(WARNING);
    }
}
