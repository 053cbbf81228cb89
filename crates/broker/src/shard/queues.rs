//! Connections with input, and what ends, in the order of their turns.

use std::collections::VecDeque;

use super::end::Ending;
use crate::id::{ConnectionId, SessionId};

/// Connections with input to be worked off.
#[derive(Debug, Default)]
pub(super) struct InputQueue {
    /// They were held back only because a turn was over.
    pub(super) quick: VecDeque<ConnectionId>,
    /// They have used up a share of a turn that was theirs.
    pub(super) long: VecDeque<ConnectionId>,
    /// One of them has its turn.
    pub(super) is_served: bool,
}

impl InputQueue {
    pub(super) fn len(&self) -> usize {
        self.quick.len() + self.long.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.quick.is_empty() && self.long.is_empty()
    }
}

/// What ends in its turn.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Connections that are not obeyed any more.
    pub(super) connections: VecDeque<(ConnectionId, Ending)>,
    /// Sessions whose connections have ended: their Wills, or their own ends.
    pub(super) sessions: VecDeque<SessionId>,
}

impl Ends {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.sessions.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len() + self.sessions.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.connections.capacity() * size_of::<(ConnectionId, Ending)>()
            + self.sessions.capacity() * size_of::<SessionId>()
    }
}
