//! Leftovers in a shard's tables, for tests: none, once all clients and sessions have ended.

use crate::shard::Shard;
use crate::timer::Timer;

impl Shard {
    /// Bytes of memory that count, of tables that keep it while they are empty.
    #[doc(hidden)]
    pub fn bytes_of_tables(&self) -> u64 {
        self.memory.tables as u64
    }

    /// The tables that have entries, and how many. Timers of the shard itself do not count.
    #[doc(hidden)]
    pub fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let of_clients =
            |timer: &&Timer| !matches!(timer, Timer::RetainedSweep | Timer::QueueExpiry);
        let timers = self.timers.wheel.armed().filter(of_clients).count();
        let tables = [
            ("connections", self.connections.iter().count()),
            ("lobby connections", self.lobby.len()),
            (
                "memory of the lobby",
                usize::from(!self.lobby.memory.is_empty()),
            ),
            ("bytes of messages to be looked at", self.screenings.bytes()),
            ("sessions", self.sessions.len()),
            ("client identifiers", self.sessions.client_count()),
            (
                "queues of sessions that have ended",
                self.waiting.ended_queues.len(),
            ),
            ("filters", self.subscribers.tree.len()),
            ("share groups", self.groups.len()),
            ("share group messages", self.groups.own_traffic.len()),
            (
                "subscriptions to be answered",
                self.subscribing.subacks.len(),
            ),
            ("bytes of answers", self.subscribing.subacks.bytes()),
            ("clients that are held back", self.held_count()),
            ("timers", timers),
            ("what waits for the store", self.store.gate.len()),
            ("messages to be routed", self.router.awaiting.len()),
            ("messages to be queued", self.store.unqueued.len()),
            (
                "messages with receipts that are due",
                self.parts.receipts.due(),
            ),
            ("messages to be counted", self.parts.receipts.counting()),
            ("operators to be answered", self.operations.len()),
            ("connections to be ended", self.waiting.closing.len()),
            ("ends that wait for their turn", self.waiting.ends.len()),
        ];
        let left = tables.into_iter().filter(|(_, count)| *count > 0);
        left.collect()
    }
}
