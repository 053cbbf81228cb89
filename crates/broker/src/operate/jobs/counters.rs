//! Queues that are full, counted so far.

use crate::id::SessionId;

/// Counts the queues that are full.
#[derive(Debug, Default)]
pub(crate) struct CountersScan {
    /// The last session that was looked at.
    pub(crate) after: Option<SessionId>,
    /// All sessions have been looked at.
    pub(crate) has_sessions: bool,
    /// The place of the share group that is looked at next.
    pub(crate) next_group: usize,
    pub(crate) full: usize,
}
