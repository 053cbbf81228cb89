//! What is told, and of whom.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event_interest::{EventInterest, Traced, Wants};
use crate::id::SessionId;

/// For these it is looked at what was written.
pub(crate) const NOTIFY_WRITTEN: Wants = Wants::PACKETS
    .and(Wants::DELIVERED)
    .and(Wants::CLIENTS)
    .and(Wants::TOPICS);

/// For these a message that is accepted is looked at.
pub(crate) const NOTIFY_PUBLISHED: Wants = Wants::PUBLISHED.and(Wants::CLIENTS).and(Wants::TOPICS);

/// For these a packet that comes or goes is.
pub(crate) const NOTIFY_PACKETS: Wants = Wants::PACKETS.and(Wants::CLIENTS);

/// For these an acknowledgement that comes is.
pub(crate) const NOTIFY_ACKS: Wants = NOTIFY_PACKETS.and(NOTIFY_DELIVERED);

/// For these a message that is delivered is.
pub(crate) const NOTIFY_DELIVERED: Wants = Wants::DELIVERED.and(Wants::CLIENTS).and(Wants::TOPICS);

/// What is told, and of whom.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// Which events are wanted, by kind.
    pub(crate) wants: Wants,
    pub(crate) interest: Arc<EventInterest>,
    /// Sessions that are traced, some of them ended.
    pub(crate) traced: BTreeSet<SessionId>,
}

/// Looks for the sessions that are traced since other events are wanted: there may be as many as
/// connections, all from the address of a proxy.
#[derive(Debug, Default)]
pub(crate) struct TraceScan {
    /// The last session that was looked at, of those that were traced before.
    pub(crate) after: Option<SessionId>,
    /// All of those have been looked at.
    pub(crate) has_sessions: bool,
    /// The place of the connection that is looked at next.
    pub(crate) next: u32,
}

impl Observers {
    pub(crate) fn of(interest: &EventInterest) -> Self {
        Self {
            wants: Wants::of(interest),
            interest: Arc::new(interest.clone()),
            traced: BTreeSet::new(),
        }
    }

    pub(crate) fn traced(&self) -> &Traced {
        &self.interest.traced
    }
}
