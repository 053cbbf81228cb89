//! What the store can take, and whose input is held back.

use std::collections::VecDeque;

use crate::id::ConnectionId;

/// What the store can take: each state takes less than the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StoreState {
    /// It keeps up.
    #[default]
    KeepsUp,
    /// Much waits to be written: packets that make it grow wait.
    Behind,
    /// There is no room but a reserve for what makes room: CONNECT packets that make it grow are
    /// refused.
    Full,
    /// The same, because it takes as much as `limits.store_bytes` allows.
    AtLimit,
    /// It does not write, and as much waits as may: every CONNECT that has to be recorded is
    /// refused.
    Stuck,
}

/// What holds packets back, and the connections whose packets wait: so that all others need not be
/// looked at when these go on.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// What the store can take.
    pub(super) store: StoreState,
    /// Another shard's mailbox is full: publishers are held back.
    pub(super) congested: bool,
    /// They wait.
    pub(super) waiting: VecDeque<ConnectionId>,
    /// They may go on.
    pub(super) released: VecDeque<ConnectionId>,
}

impl HeldBack {
    /// The store has this state now. Those who wait may go on when it keeps up again.
    pub(super) fn store_is(&mut self, state: StoreState) {
        let was = core::mem::replace(&mut self.store, state);
        self.release_if(was != state && state == StoreState::KeepsUp);
    }

    /// Another shard's mailbox is full, or has room again.
    pub(super) fn set_congested(&mut self, on: bool) {
        let was = core::mem::replace(&mut self.congested, on);
        self.release_if(was && !on);
    }

    /// Those who wait may go on, if `release`.
    pub(super) fn release_if(&mut self, release: bool) {
        if release {
            self.released.append(&mut self.waiting);
        }
    }

    /// Whether some may go on.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}
