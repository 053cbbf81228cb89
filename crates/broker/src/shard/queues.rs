//! Queues of what waits: for its turn, or for the end of what is under way.

use std::collections::VecDeque;

use martlet_codec::ReasonCode;
use martlet_permission::RefusalCause;

use super::end::Ending;
use super::held::HeldBack;
use crate::effect::ShardMessage;
use crate::id::{ConnectionId, SessionId, ShardId};
use crate::session::outbound::EndedQueue;

/// Number of waiting items at which a shard counts as crowded.
const CROWD: usize = 8;

/// Queues of what waits: for its turn, or for the end of what is under way.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Connections with input to be worked off.
    pub(super) input: InputQueue,
    pub(crate) held_back: HeldBack,
    /// Messages of other shards for which this turn had no room.
    pub(super) inbox: VecDeque<(ShardId, ShardMessage)>,
    /// Connections and sessions that end in their turn.
    pub(crate) ends: Ends,
    /// Queues of sessions and share groups that have ended: memory is given back, and receipts are
    /// told, over turns.
    pub(crate) ended_queues: VecDeque<EndedQueue>,
    /// Connections to be ended once the message under way is delivered to all.
    pub(crate) closing: Vec<(ConnectionId, ReasonCode, RefusalCause)>,
    /// The session whose acknowledgements are being worked off.
    pub(crate) answered: Option<SessionId>,
}

impl Waiting {
    /// So much waits that each client may use only a part of a turn.
    pub(super) fn is_crowd(&self) -> bool {
        self.input.len() + self.inbox.len() + self.ends.len() >= CROWD
    }

    /// Something was put off, beside input, that goes on in this turn.
    #[inline]
    pub(super) fn has_put_off(&self) -> bool {
        !self.inbox.is_empty()
            || self.held_back.has_released()
            || !self.ends.is_empty()
            || !self.ended_queues.is_empty()
    }

    /// Bytes of memory of the messages' places.
    pub(super) fn inbox_bytes(&self) -> usize {
        self.inbox.capacity() * size_of::<(ShardId, ShardMessage)>()
    }
}

/// Connections with input to be worked off.
#[derive(Debug, Default)]
pub(crate) struct InputQueue {
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

/// Connections and sessions that end in their turn.
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
