//! What loads leave in the broker.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Something that outlives the connection that made it.
#[derive(Clone, Debug)]
pub(super) enum Leftover {
    /// The session of this client.
    Session(&'static str),
    /// The sessions of so many numbered clients.
    Sessions(usize),
    /// So many retained messages below a topic.
    Retained(String, usize),
}

/// What is left by now. Its copies are one list.
#[derive(Clone, Debug, Default)]
pub(super) struct LeftBehind {
    all: Arc<Mutex<Vec<Leftover>>>,
    /// Nothing more may be left. A task holds the lock for reading while it may leave something.
    pub(super) closed: Arc<RwLock<bool>>,
}

impl LeftBehind {
    /// Notes what is about to be left.
    pub(super) fn note(&self, left: Leftover) {
        self.lock().push(left);
    }

    /// It is gone by itself.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Waits until nobody is about to leave more, and sees to it that nobody does from now on.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Leftover>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is left; nothing is noted any more.
    pub(super) fn take(&self) -> Vec<Leftover> {
        std::mem::take(&mut self.lock())
    }
}
