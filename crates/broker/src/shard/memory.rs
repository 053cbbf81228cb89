//! What a shard holds in memory, as it counts against the node's, and settling that with the node.

use std::collections::VecDeque;

use slab::Slab;

use crate::effect::{QueueOwner, ShardMessage};
use crate::id::ShardId;
use crate::memory_use::{Growth, ShardMemory};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::subscribe::suback::PendingSubAck;
use crate::work::FREED_MESSAGE;

/// Bytes of a session beside its subscriptions, Will, messages, names and own rules: here, in the
/// store's index and in the node's presence.
const SESSION_BYTES: usize = 768;
/// What a connection takes beside its session, its buffers and its user name, bytes.
const CONNECTION_BYTES: usize = 448;
/// Bytes of output that may wait for a client however many there are.
const OUTPUT_SHARE_MIN: usize = 32 * 1024;
/// Turns between two counts of what waits to be used again, which changes slowly.
const TURNS_PER_LOOK_AT_POOLS: u32 = 64;
/// Interval at which other shards are told that memory is short, milliseconds.
const TOLD_EVERY_MS: u64 = 100;
/// Turns between two looks at what is kept, while enough memory is left.
const TURNS_PER_NOTE: u32 = 8;
/// Change of what is kept, in bytes, at which it is noted anew.
const KEPT_STEP: usize = 64 * 1024;
/// Entries for which a table keeps its memory while it is empty.
const KEPT_ENTRIES: usize = 16 * 1024;

impl Shard {
    /// Reports the use to the node's memory. If memory is short, the clients that hold most give
    /// back first.
    pub(super) fn settle_memory<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if self.turns.is_multiple_of(TURNS_PER_LOOK_AT_POOLS) {
            self.shrink_tables();
            self.pool_bytes = self.count_pool_bytes();
            self.table_bytes = self.count_table_bytes();
        }
        self.turns = self.turns.wrapping_add(1);
        let used = self.used_bytes();
        let keeps_no_spare = cx.node.memory_pressure().is_nearly_used;
        self.memory
            .settle(cx.node, used + self.pool_bytes, keeps_no_spare);
        let pressure = cx.node.memory_pressure();
        self.client_bytes_max = pressure.client_max;
        self.output_bytes_max = self.output_share(pressure.limit);
        if pressure.is_watched || self.turns.is_multiple_of(TURNS_PER_NOTE) {
            self.note_memory(cx, pressure.is_watched);
        }
        if self.parts_of != (pressure.limit, pressure.is_short) {
            self.parts_of = (pressure.limit, pressure.is_short);
            self.lobby.set_part(&pressure, self.shard_count);
            self.routes.set_part(&pressure, self.shard_count);
        }
        let relieved = self.lobby.is_over() && self.relieve_lobby(cx);
        if pressure.is_short {
            self.tell_memory_short(cx);
            if !relieved {
                self.relieve(cx, used);
            }
            // What has been given back serves the next publisher.
            let used = self.used_bytes();
            self.memory
                .settle(cx.node, used + self.pool_bytes, keeps_no_spare);
        } else if self.relief.is_searching() {
            self.relieve(cx, used);
        } else {
            self.relief.rest();
        }
        if !pressure.is_watched {
            self.relief.forget();
        }
    }

    /// Frees some routes that were forgotten.
    ///
    /// Tells the node what this shard uses memory for, and asks what may grow. While enough memory
    /// is left, it is told what is kept, so that it is known when the shard has nothing to do.
    #[cold]
    fn note_memory<N: Node>(&mut self, cx: &mut Cx<'_, N>, is_watched: bool) {
        if self.routes.has_forgotten() {
            let freed = self.routes.free_forgotten();
            self.work.add(freed as u64 * FREED_MESSAGE);
        }
        let kept = self.kept_bytes();
        if is_watched || kept.abs_diff(self.kept_noted) >= KEPT_STEP {
            self.kept_noted = kept;
            cx.node.note_memory(self.id, self.memory_uses());
        }
        self.growth = match is_watched {
            true => cx.node.memory_use().growth(),
            false => Growth::default(),
        };
    }

    /// Little is left of the node's memory.
    pub(crate) fn is_memory_short(&self) -> bool {
        let (_, is_short) = self.parts_of;
        is_short || self.memory.is_spent()
    }

    /// Wakes the other shards at intervals, so that they search for their largest holders.
    fn tell_memory_short<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if cx.now.mono_ms < self.memory_told_ms + TOLD_EVERY_MS {
            return;
        }
        self.memory_told_ms = cx.now.mono_ms;
        for (shard, batch) in cx.effects.batches.iter_mut().enumerate() {
            if shard != usize::from(self.id.0) {
                batch.push(ShardMessage::MemoryShort);
            }
        }
    }

    /// Bytes of Wills, subscriptions, share groups, sessions and tables.
    fn kept_bytes(&self) -> usize {
        let subscriptions = self.subscription_bytes + self.groups.memory_bytes();
        let sessions = self.bytes_of_sessions();
        self.will_bytes + subscriptions + sessions + self.table_bytes
    }

    /// Bytes of sessions beside their subscriptions, Wills and messages.
    fn bytes_of_sessions(&self) -> usize {
        self.sessions.len() * SESSION_BYTES + self.sessions.text_bytes()
    }

    /// What the memory of this shard is used for.
    pub(crate) fn memory_uses(&self) -> ShardMemory {
        let answers = self.gated_bytes + self.answer_bytes + self.fan_outs.bytes();
        let layers = self.lobby.request_bytes() + self.layer_bytes;
        let connections = self.connections.len() * CONNECTION_BYTES + self.client_gauge.bytes();
        ShardMemory {
            wills: self.will_bytes,
            subscriptions: self.subscription_bytes + self.groups.memory_bytes(),
            sessions: self.bytes_of_sessions(),
            tables: self.table_bytes,
            connections: connections + self.buffer_bytes + layers + answers,
            messages: self.gauge.bytes(),
            ..self.relief.found()
        }
    }

    /// Bytes of memory that count against the node's.
    pub(crate) fn used_bytes(&self) -> usize {
        let inbox = self.inbox.capacity() * size_of::<(ShardId, ShardMessage)>();
        let connections = self.connections.len() * CONNECTION_BYTES + self.client_gauge.bytes();
        let clients = self.bytes_of_sessions() + connections;
        let lobby = self.lobby.request_bytes() + self.layer_bytes;
        let kept = self.subscription_bytes + self.will_bytes + clients + lobby;
        let groups = self.groups.memory_bytes() + self.answer_bytes + self.table_bytes;
        let groups = groups + self.relief.memory_bytes();
        let beside = self.fan_outs.bytes() + inbox + self.routes.memory_bytes() + groups;
        self.gauge.bytes() + self.buffer_bytes + self.gated_bytes + kept + beside
    }

    /// Bytes of output that may wait for one client: a quarter of the node's memory is enough for
    /// the output of all, but each has some.
    fn output_share(&self, limit: Option<usize>) -> usize {
        let most = self.settings.limits.output_bytes as usize;
        let Some(limit) = limit else {
            return most;
        };
        // Clients are dealt out evenly over the shards.
        let clients = self.accepted_count.max(1) * usize::from(self.shard_count);
        most.min((limit / 4 / clients).max(OUTPUT_SHARE_MIN))
    }

    /// Counts the bytes of memory that are kept for reuse.
    fn count_pool_bytes(&self) -> usize {
        let buffers = self.scratch.capacity() + self.forwarded.capacity();
        self.pool.bytes() + self.messages.bytes() + buffers
    }

    /// Counts the bytes of tables to which clients add entries.
    fn count_table_bytes(&self) -> usize {
        let routed = self.awaiting_routed.memory_bytes() + self.receipts.memory_bytes();
        let subacks = self.pending_subacks.capacity() * size_of::<PendingSubAck>();
        let expiring = self.expiring.capacity() * size_of::<(u64, QueueOwner)>();
        let ends = self.ends.memory_bytes() + self.reviews.memory_bytes();
        let ends = ends + self.losses_to_tell.memory_bytes();
        let timers = self.wheel.memory_bytes();
        routed + subacks + expiring + ends + self.unmatched.memory_bytes() + timers
    }

    /// Gives the memory of tables back that were long and are empty.
    fn shrink_tables(&mut self) {
        if self.gate.is_empty() && self.gate.capacity() > KEPT_ENTRIES {
            self.gate = VecDeque::new();
        }
        if self.pending_subacks.is_empty() && self.pending_subacks.capacity() > KEPT_ENTRIES {
            self.pending_subacks = Slab::new();
        }
    }
}
