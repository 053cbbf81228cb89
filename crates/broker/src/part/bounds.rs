//! Bounds of the queue of a part.

use martlet_fault::{self as fault, Fault};
use martlet_permission::Limit;

use crate::id::SessionId;
use crate::limits::QueueFull;
use crate::part::interface::{OnFull, PartQueueLimits, PartQueueState};
use crate::session::queue::Queue;
use crate::shard::Shard;

/// Bytes with which nobody waits, such as Wills, that may come to any queue after its publishers
/// have begun to wait.
const BEYOND_HOLD: u64 = 1024 * 1024;

/// The queue of a part with bounds of its own.
#[derive(Debug)]
pub(crate) struct PartQueue {
    pub(crate) limits: PartQueueLimits,
    /// Publishers wait.
    pub(crate) holds: bool,
    /// Bytes in it when they began to: what nobody waits with may still come, whatever the bound.
    pub(crate) held_at: u64,
    /// They wait because memory is short, and do as long as it is.
    pub(crate) holds_for_memory: bool,
    /// Since a restart the part has not been attached: when nobody waits for it any more,
    /// monotonic milliseconds.
    pub(super) attach_by_ms: Option<u64>,
    /// Whether it was not attached by then.
    pub(super) is_given_up: bool,
    /// The state that was last reported to the part.
    pub(super) reported: PartQueueState,
}

impl PartQueue {
    /// Number of bytes from which the state is reported at once, since the part may have room to
    /// lend. It is reported once for each bound.
    pub(super) fn notify_from_bytes(&self, bytes_max: u64) -> u64 {
        let near = bytes_max / 4 * 3;
        match self.reported.bytes_max == bytes_max && self.reported.bytes >= near {
            true => u64::MAX,
            false => near,
        }
    }

    /// Publishers wait at the bound.
    pub(super) fn is_holding(&self) -> bool {
        self.limits.on_full != OnFull::DropOldest && !self.is_given_up
    }
}

/// At how many bytes publishers begin to wait for a queue in memory, so that what is under way then
/// stays within `share` too.
pub(super) fn held_from(share: u64) -> u64 {
    let less = share.saturating_sub(BEYOND_HOLD) / 9 * 8;
    less.max(share / 2)
}

/// Returns what a queue whose publishers wait may have, for what nobody waits with.
pub(super) fn beyond_hold(bytes_max: u64) -> u64 {
    if fault::is(Fault::HoldDrops) {
        return bytes_max;
    }
    bytes_max
        .saturating_add(bytes_max / 8)
        .saturating_add(BEYOND_HOLD)
}

/// Bounds of a queue, and what happens at them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
    pub(crate) policy: QueueFull,
    /// Publishers wait where messages would be dropped.
    pub(crate) holds: bool,
    /// From this number of bytes on, the state of the queue is reported to the part at once.
    pub(crate) notify_from_bytes: u64,
}

impl Shard {
    /// The bound that the queue of a session is at.
    pub(crate) fn limit_of_queue(&mut self, index: u32) -> Limit {
        if self.parts.has_bounds(self.sessions.id_of(index)) {
            return Limit::PartQueue;
        }
        let is_in_memory = self.is_queue_in_memory(index);
        let limits = &self.settings.limits;
        let is_in_memory =
            is_in_memory && (self.memory.client_bytes_max as u64) < limits.queued_bytes;
        // One may have just been taken out.
        match self.sessions.at(index).outbound.queue().len() + 1 >= limits.queued_messages as usize
        {
            true => Limit::QueuedMessages,
            false if is_in_memory => Limit::MemoryShare,
            false => Limit::QueuedBytes,
        }
    }

    /// Whether all that waits in the queue of a session is in memory.
    pub(crate) fn is_queue_in_memory(&mut self, index: u32) -> bool {
        !self.store.reads_back || !self.sessions.at(index).durable
    }

    /// Returns what the queue of a session may have.
    pub(crate) fn bounds_of_queue(&self, id: SessionId) -> QueueBounds {
        let limits = &self.settings.limits;
        let queue = match self.parts.queues.is_empty() {
            true => None,
            false => self.parts.queues.get(&id),
        };
        match queue.filter(|queue| queue.limits.bytes_max > 0) {
            Some(queue) => self.bounds_of_part(id, queue),
            None => QueueBounds {
                messages: limits.queued_messages,
                bytes: limits.queued_bytes,
                policy: self.settings.queue_full,
                holds: false,
                notify_from_bytes: u64::MAX,
            },
        }
    }

    fn bounds_of_part(&self, id: SessionId, queue: &PartQueue) -> QueueBounds {
        let holds = queue.is_holding();
        let mut bytes = queue.limits.bytes_max;
        let is_durable = self.sessions.get(id).is_some_and(|session| session.durable);
        if !self.store.reads_back || !is_durable {
            let share = self.memory.client_bytes_max as u64;
            bytes = bytes.min(match holds && !fault::is(Fault::HoldIgnoresMemory) {
                true => held_from(share),
                false => share,
            });
        }
        QueueBounds {
            messages: u32::MAX,
            bytes,
            policy: match fault::is(Fault::PartDropsNewest) {
                true => QueueFull::DropNewest,
                false => QueueFull::DropOldest,
            },
            holds,
            notify_from_bytes: queue.notify_from_bytes(bytes),
        }
    }

    /// A session's queue has dropped messages, and is near its bounds still.
    pub(crate) fn is_queue_full(&self, id: SessionId, queue: &Queue) -> bool {
        let bounds = self.bounds_of_queue(id);
        queue.is_full(bounds.messages, bounds.bytes)
    }
}
