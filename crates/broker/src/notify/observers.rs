//! The kinds of events that observers receive, and the clients that these are about.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event_interest::{EventInterest, Traced, Wants};
use crate::id::SessionId;

/// Events for which written output is examined.
pub(crate) const NOTIFY_WRITTEN: Wants = Wants::PACKETS
    .and(Wants::DELIVERED)
    .and(Wants::CLIENTS)
    .and(Wants::TOPICS);

/// Events for which accepted messages are examined.
pub(crate) const NOTIFY_PUBLISHED: Wants = Wants::PUBLISHED.and(Wants::CLIENTS).and(Wants::TOPICS);

/// Events for which received and written packets are examined.
pub(crate) const NOTIFY_PACKETS: Wants = Wants::PACKETS.and(Wants::CLIENTS);

/// Events for which received acknowledgements are examined.
pub(crate) const NOTIFY_ACKS: Wants = NOTIFY_PACKETS.and(NOTIFY_DELIVERED);

/// Events for which delivered messages are examined.
pub(crate) const NOTIFY_DELIVERED: Wants = Wants::DELIVERED.and(Wants::CLIENTS).and(Wants::TOPICS);

/// Which events observers want, and which sessions are traced.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// Which events are wanted, by kind.
    pub(crate) wants: Wants,
    pub(crate) interest: Arc<EventInterest>,
    /// Sessions that are traced, some of them ended.
    pub(crate) traced: BTreeSet<SessionId>,
}

/// State of the scan for the sessions to trace, after the wanted events have changed. There may be
/// as many as connections, all from the address of a proxy.
#[derive(Debug, Default)]
pub(crate) struct TraceScan {
    /// The last session that was examined, among the sessions that were traced before.
    pub(crate) after: Option<SessionId>,
    /// All of those have been examined.
    pub(crate) has_sessions: bool,
    /// The place of the connection to examine next.
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
