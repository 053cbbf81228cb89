//! Records what loads leave in the broker.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// State that outlives the connection that created it.
#[derive(Clone, Debug)]
pub(super) enum Leftover {
    /// The session of this client.
    Session(&'static str),
    /// The sessions of this number of numbered clients.
    Sessions(usize),
    /// This number of retained messages below a topic.
    Retained(String, usize),
}

/// State left so far. Clones share one list.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftBehind {
    all: Arc<Mutex<Vec<Leftover>>>,
    /// Whether leaving state is closed. A task holds the read lock while it may leave state.
    pub(super) closed: Arc<RwLock<bool>>,
}

impl LeftBehind {
    /// Records state before it is created.
    pub(super) fn note(&self, left: Leftover) {
        self.lock().push(left);
    }

    /// Clears the list: the state has ended by itself.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Waits until no task may leave more, and prevents it from now on.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Leftover>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all recorded state and clears the list.
    pub(super) fn take(&self) -> Vec<Leftover> {
        std::mem::take(&mut self.lock())
    }
}
