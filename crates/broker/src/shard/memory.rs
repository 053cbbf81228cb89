//! What a shard holds in memory, as it counts against the node's, and settling that with the node.

use std::collections::VecDeque;

use hashbrown::HashMap as RawMap;
use slab::Slab;

use crate::effect::ShardMessage;
use crate::id::{MessageId, ShardId};
use crate::node::{Cx, Node};
use crate::rate::Spent;
use crate::session::queue::QueueOwner;
use crate::shard::Shard;
use crate::subscribe::{HalfDone, PendingSubAck};

/// Bytes of a session beside its subscriptions, Will and messages: here, in the store's index and
/// in the node's presence.
const SESSION_BYTES: usize = 768;
/// What a connection takes beside its session and its buffers, bytes.
const CONNECTION_BYTES: usize = 512;
/// Bytes of output that may wait for a client however many there are.
const OUTPUT_SHARE_MIN: usize = 32 * 1024;
/// Turns between two counts of what waits to be used again, which changes slowly.
const TURNS_PER_LOOK_AT_POOLS: u32 = 64;
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
        self.memory.settle(cx.node, used + self.pool_bytes);
        let pressure = cx.node.memory_pressure();
        self.client_bytes_max = pressure.client_max;
        self.output_bytes_max = self.output_share(pressure.limit);
        if self.parts_of != (pressure.limit, pressure.is_short) {
            self.parts_of = (pressure.limit, pressure.is_short);
            self.lobby.set_part(&pressure, self.shard_count);
            self.routes.set_part(&pressure, self.shard_count);
        }
        let relieved = self.lobby.is_over() && self.relieve_lobby(cx);
        if pressure.is_short {
            if !relieved {
                self.relieve(cx, used, pressure.excess);
            }
            // What has been given back serves the next publisher.
            let used = self.used_bytes();
            self.memory.settle(cx.node, used + self.pool_bytes);
        } else {
            self.relief.rest();
        }
    }

    /// Bytes of memory that count against the node's.
    pub(crate) fn used_bytes(&self) -> usize {
        let inbox = self.inbox.capacity() * size_of::<(ShardId, ShardMessage)>();
        let clients =
            self.sessions.len() * SESSION_BYTES + self.connections.len() * CONNECTION_BYTES;
        let lobby = self.lobby.request_bytes() + self.layer_bytes;
        let kept = self.subscription_bytes + self.will_bytes + clients + lobby;
        let groups = self.groups.memory_bytes() + self.answer_bytes + self.table_bytes;
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

    /// Counts the bytes of tables whose entries clients bring about.
    fn count_table_bytes(&self) -> usize {
        let routed = self.awaiting_routed.capacity() * size_of::<(MessageId, u32)>();
        let spent = self.spent.capacity() * size_of::<(u32, Spent)>();
        let half_done = self.half_done.capacity() * size_of::<(u32, HalfDone)>();
        let subacks = self.pending_subacks.capacity() * size_of::<PendingSubAck>();
        let expiring = self.expiring.capacity() * size_of::<(u64, QueueOwner)>();
        let ends = self.ends.memory_bytes() + self.reviews.memory_bytes();
        let answers = self.answers.len() * size_of::<(u32, usize)>();
        let timers = self.wheel.memory_bytes();
        routed + spent + half_done + subacks + expiring + ends + answers + timers
    }

    /// Gives the memory of tables back that were long and are empty.
    fn shrink_tables(&mut self) {
        if self.awaiting_routed.is_empty() && self.awaiting_routed.capacity() > KEPT_ENTRIES {
            self.awaiting_routed = RawMap::with_hasher(self.seed.clone());
        }
        if self.spent.is_empty() && self.spent.capacity() > KEPT_ENTRIES {
            self.spent = RawMap::with_hasher(self.seed.clone());
        }
        if self.gate.is_empty() && self.gate.capacity() > KEPT_ENTRIES {
            self.gate = VecDeque::new();
        }
        if self.pending_subacks.is_empty() && self.pending_subacks.capacity() > KEPT_ENTRIES {
            self.pending_subacks = Slab::new();
        }
    }
}
