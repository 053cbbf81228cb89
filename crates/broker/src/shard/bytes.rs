//! Bytes that a shard holds, by what they are for.

use crate::memory_use::ShardMemory;
use crate::shard::Shard;

/// Bytes of a session beside its subscriptions, Will, messages, names and own rules: here, in the
/// store's index and in the node's presence.
const SESSION_BYTES: usize = 768;

/// Memory that a connection takes beside its session, its buffers and its user name, bytes.
const CONNECTION_BYTES: usize = 448;

impl Shard {
    /// Bytes of Wills, subscriptions, share groups, sessions and tables.
    pub(crate) fn kept_bytes(&self) -> usize {
        let subscriptions = self.subscribers.bytes() + self.groups.memory_bytes();
        let sessions = self.bytes_of_sessions();
        self.memory.wills.all() + subscriptions + sessions + self.memory.tables
    }

    /// Bytes of sessions beside their subscriptions, Wills and messages.
    fn bytes_of_sessions(&self) -> usize {
        self.sessions.len() * SESSION_BYTES + self.sessions.text_bytes()
    }

    /// Returns what the memory of this shard is used for.
    pub(crate) fn memory_uses(&self) -> ShardMemory {
        let answers = self.store.gate.bytes()
            + self.subscribing.subacks.bytes()
            + self.router.fan_outs.bytes();
        let layers = self.lobby.memory.request_bytes() + self.memory.layers;
        let connections = self.connections.len() * CONNECTION_BYTES + self.memory.clients.bytes();
        ShardMemory {
            wills: self.memory.wills.all(),
            subscriptions: self.subscribers.bytes() + self.groups.memory_bytes(),
            sessions: self.bytes_of_sessions(),
            tables: self.memory.tables,
            connections: connections + self.memory.buffers + layers + answers,
            messages: self.memory.gauge.bytes(),
            ..self.memory.relief.found()
        }
    }

    /// Bytes of memory that count against the node's.
    pub(super) fn used_bytes(&self) -> usize {
        let inbox = self.waiting.inbox_bytes();
        let connections = self.connections.len() * CONNECTION_BYTES + self.memory.clients.bytes();
        let clients = self.bytes_of_sessions() + connections;
        let lobby = self.lobby.memory.request_bytes() + self.memory.layers;
        let kept = self.subscribers.bytes() + self.memory.wills.all() + clients + lobby;
        let groups =
            self.groups.memory_bytes() + self.subscribing.subacks.bytes() + self.memory.tables;
        let groups = groups + self.memory.relief.memory_bytes();
        let beside =
            self.router.fan_outs.bytes() + inbox + self.router.cache.memory_bytes() + groups;
        self.memory.gauge.bytes() + self.memory.buffers + self.store.gate.bytes() + kept + beside
    }

    /// Counts the bytes of tables to which clients add entries.
    pub(super) fn count_table_bytes(&self) -> usize {
        let routed = self.router.awaiting.memory_bytes() + self.parts.receipts.memory_bytes();
        let subacks = self.subscribing.subacks.table_bytes();
        let ends = self.waiting.ends.memory_bytes() + self.permits.reviews.memory_bytes();
        let timers = self.timers.memory_bytes();
        let waiting = ends + self.store.unqueued.memory_bytes();
        routed + subacks + waiting + self.noted.memory_bytes() + timers
    }
}
