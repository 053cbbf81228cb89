//! Messages that are dropped together, because their session has ended.
//!
//! Shards report up to 1,024 waiting messages of such a session one by one. Readers get one event
//! with a count. This module finds them among the events of shards.

use martlet_broker::{DropReason, Event, RefusalCause};

use crate::event::NodeNotice;

/// Number of messages of a queue that shards report one by one when a session ends; they count the
/// others.
const TOLD_AT_MOST: u64 = 1024;

/// Facts about messages that were dropped together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Together {
    /// Number of messages that shards reported.
    pub(crate) count: u64,
    /// Why their session has ended, if that was reported.
    pub(crate) why: Option<RefusalCause>,
}

impl Together {
    /// There may be more, which were counted only.
    pub(crate) fn is_at_least(self) -> bool {
        self.count >= TOLD_AT_MOST
    }
}

/// Both are messages that were dropped because the same session has ended.
fn are_together(first: &NodeNotice, next: &NodeNotice) -> bool {
    is_at_end(first) && is_at_end(next) && is_of_the_same(first, next)
}

/// Why the session of the dropped message has ended, if the next event has it.
fn why_ended(first: &NodeNotice, next: &NodeNotice) -> Option<RefusalCause> {
    match next.event.shard()? {
        Event::SessionEnded { cause } if is_at_end(first) && is_of_the_same(first, next) => {
            Some(*cause)
        }
        _ => None,
    }
}

/// Both are about the same client.
fn is_of_the_same(first: &NodeNotice, next: &NodeNotice) -> bool {
    first.head.tenant == next.head.tenant && first.head.client_id == next.head.client_id
}

/// The number of events at the beginning that become one: the first, and messages that were dropped
/// with it.
pub(crate) fn length(events: &[NodeNotice]) -> usize {
    let Some((first, rest)) = events.split_first() else {
        return 0;
    };
    let with_it = rest.iter().take_while(|next| are_together(first, next));
    1 + with_it.count()
}

/// Facts about the `length` events at the beginning, if they are several messages of a session that
/// has ended.
pub(crate) fn together(events: &[NodeNotice], length: usize) -> Option<Together> {
    let first = events.first().filter(|_| length > 1)?;
    let next = events.get(length);
    Some(Together {
        count: length as u64,
        why: next.and_then(|next| why_ended(first, next)),
    })
}

fn is_at_end(told: &NodeNotice) -> bool {
    match told.event.shard() {
        Some(Event::Dropped { reason, .. }) => {
            *reason == DropReason::SessionEnded && !told.head.client_id.is_empty()
        }
        _ => false,
    }
}
