//! Whose input is held back.

use std::collections::VecDeque;

use crate::id::ConnectionId;

/// Connections whose packets wait for the store, a part or another shard: so that all others need
/// not be looked at when these go on.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    /// Another shard's mailbox is full: publishers are held back.
    pub(crate) congested: bool,
    /// They wait.
    pub(crate) waiting: VecDeque<ConnectionId>,
    /// They may go on.
    pub(crate) released: VecDeque<ConnectionId>,
    /// Length of the list at which it is looked through again.
    looks_at: usize,
}

/// Connections in the list from which on it is looked through for those that have gone.
const LOOKED_THROUGH: usize = 1024;

impl HeldBack {
    /// This one waits. Those that have gone leave the list when it has become twice as long as it
    /// was after the last look: clients may come and go for as long as the store does not write.
    pub(crate) fn note(&mut self, id: ConnectionId, is_there: impl Fn(&ConnectionId) -> bool) {
        self.waiting.push_back(id);
        if self.waiting.len() >= self.looks_at.max(LOOKED_THROUGH) {
            self.waiting.retain(is_there);
            self.looks_at = self.waiting.len() * 2;
        }
    }

    /// Another shard's mailbox is full, or has room again.
    pub(crate) fn set_congested(&mut self, on: bool) {
        let was = core::mem::replace(&mut self.congested, on);
        self.release_if(was && !on);
    }

    /// Lets waiting connections continue, if `release`.
    pub(crate) fn release_if(&mut self, release: bool) {
        if release {
            self.released.append(&mut self.waiting);
        }
    }

    /// Whether some may go on.
    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}
