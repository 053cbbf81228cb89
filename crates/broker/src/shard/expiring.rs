//! Queues with messages that expire.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::effect::QueueOwner;
use crate::session::queue::Queue;
use crate::shard::Shard;

/// Queues with messages that expire, by when the first message of each does.
#[derive(Debug, Default)]
pub(crate) struct ExpiringQueues(BinaryHeap<Reverse<(u64, QueueOwner)>>);

impl ExpiringQueues {
    /// The first message of a queue expires then. Answers whether that is before all others.
    pub(super) fn push(&mut self, due_ms: u64, owner: QueueOwner) -> bool {
        let first_ms = self.first_ms();
        self.0.push(Reverse((due_ms, owner)));
        first_ms.is_none_or(|first_ms| due_ms < first_ms)
    }

    /// Takes the queue whose message expires first, if that is over now.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<(u64, QueueOwner)> {
        self.first_ms().filter(|due_ms| *due_ms <= now_ms)?;
        self.0.pop().map(|Reverse(due)| due)
    }

    /// When the first message expires.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Bytes of memory that the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u64, QueueOwner)>()
    }
}

impl Shard {
    /// Messages of a queue may expire while they wait.
    pub(crate) fn watch_queue_expiry(&mut self, owner: QueueOwner) {
        let queue = self.queue_of(owner);
        let Some(due_ms) = queue.and_then(Queue::expiry_to_watch) else {
            return;
        };
        self.timers.queue_expires(due_ms, owner);
    }

    pub(super) fn queue_of(&mut self, owner: QueueOwner) -> Option<&mut Queue> {
        match owner {
            QueueOwner::Session(id) => {
                let session = self.sessions.live(id);
                session.and_then(|index| self.sessions.at(index).outbound.queue_used())
            }
            QueueOwner::Group(id) => self.groups.queue(id),
        }
    }
}
