//! Bounds of the queue of a session, a client's or a part's, and the one that it is at.

use martlet_fault as fault;
use martlet_fault::Fault;
use martlet_permission::Limit;

use crate::id::SessionId;
use crate::limits::QueueFull;
use crate::part::bounds::{PartQueue, QueueBounds, held_from};
use crate::session::queue::Queue;
use crate::shard::Shard;

impl Shard {
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
}
