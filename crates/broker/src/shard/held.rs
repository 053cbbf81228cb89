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

/// Connections whose packets are held back for the store or another shard: so that all others need
/// not be looked at when these go on.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// They wait.
    pub(super) waiting: VecDeque<ConnectionId>,
    /// They may go on.
    pub(super) released: VecDeque<ConnectionId>,
}

impl Held {
    /// Whether some may go on.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}
