//! Subscriptions that are being made.

use std::collections::VecDeque;

use martlet_permission::TenantId;

use crate::id::SessionId;
use crate::subscribe::suback::PendingSubAcks;

/// Subscriptions that are being made: what of them is still to be done.
#[derive(Debug, Default)]
pub(crate) struct Subscribing {
    pub(crate) subacks: PendingSubAcks,
    pub(crate) retained_reads: RetainedReads,
}

/// Reads of the retained store that are to come.
#[derive(Debug, Default)]
pub(crate) struct RetainedReads {
    /// Sessions with retained messages to be read.
    queue: VecDeque<SessionId>,
    /// Where the sweep for expired retained messages goes on.
    pub(crate) sweep: Option<(TenantId, Box<str>)>,
}

impl RetainedReads {
    /// A session has retained messages to be read.
    pub(super) fn push(&mut self, session: SessionId) {
        self.queue.push_back(session);
    }

    /// The session whose turn it is.
    pub(super) fn next(&mut self) -> Option<SessionId> {
        self.queue.pop_front()
    }

    /// No session has messages to be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
