//! Who waits for answers of shards, and locks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use martlet_broker::Answer;
use tokio::sync::oneshot;

/// Those who wait for an answer, by the number of the request.
pub(super) type Waiting = Mutex<HashMap<u64, oneshot::Sender<Answer>>>;

/// A lock that a panic elsewhere does not take along.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
