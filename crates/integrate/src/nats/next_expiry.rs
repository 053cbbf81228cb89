//! When the next message of a bucket expires.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When the next retained message in the bucket expires. Shared by the sink and the task; the task
/// ends when the sink is dropped.
#[derive(Debug, Default)]
pub(super) struct NextExpiry(Mutex<Option<Instant>>);

impl NextExpiry {
    /// Records a message in the bucket that expires after this number of seconds.
    pub(super) fn note(&self, secs: u32) {
        let at = Instant::now() + Duration::from_secs(secs.into());
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(next.map_or(at, |next| next.min(at)));
    }

    /// Whether one has expired. If so, the entry is cleared, and a comparison finds the next one.
    pub(super) fn take_if_passed(&self) -> bool {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_passed = next.is_some_and(|at| at <= Instant::now());
        if has_passed {
            *next = None;
        }
        has_passed
    }
}
