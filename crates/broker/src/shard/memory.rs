//! Memory that a shard holds, as it counts against the node's, and settling that with the node.

use crate::effect::ShardMessage;
use crate::memory_use::{Growth, subscriptions_part};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::work::FREED_MESSAGE;

/// Bytes of output that may wait for a client however many there are.
const OUTPUT_SHARE_MIN: usize = 32 * 1024;
impl Shard {
    /// Reports the use to the node's memory. If memory is short, the clients that hold most give
    /// back first.
    pub(super) fn settle_memory<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if self.memory.end_turn() {
            self.store.gate.shrink();
            self.subscribing.subacks.shrink();
            self.memory.pools = self.buffers.bytes();
            self.memory.tables = self.count_table_bytes();
        }
        let used = self.used_bytes();
        let keeps_no_spare = cx.node.memory_pressure().is_nearly_used;
        self.memory.settle(cx.node, used, keeps_no_spare);
        let pressure = cx.node.memory_pressure();
        self.memory.client_bytes_max = pressure.client_max;
        self.memory.output_bytes_max = self.output_share(pressure.limit);
        if self.memory.looks_at_kept(pressure.is_watched) {
            self.note_memory(cx, pressure.is_watched);
        }
        if self.memory.has_new_parts(&pressure) {
            self.memory.subscriptions_max = pressure.limit.map_or(usize::MAX, |limit| {
                subscriptions_part(limit) / usize::from(self.shard_count.max(1))
            });
            self.lobby.memory.set_part(&pressure, self.shard_count);
            self.router.cache.set_part(&pressure, self.shard_count);
        }
        let relieved = self.lobby.memory.is_over() && self.relieve_lobby(cx);
        if pressure.is_short {
            self.notify_memory_short(cx);
            if !relieved {
                self.relieve(cx, used);
            }
            // What has been given back serves the next publisher.
            let used = self.used_bytes();
            self.memory.settle(cx.node, used, keeps_no_spare);
        } else if self.memory.relief.is_searching() {
            self.relieve(cx, used);
        } else {
            self.memory.relief.rest();
        }
        if !pressure.is_watched {
            self.memory.relief.forget();
        }
    }

    /// Frees some routes that were forgotten.
    ///
    /// Tells the node what this shard uses memory for, and asks what may grow. While enough memory
    /// is left, it gets what is kept, so that it is up to date when the shard has nothing to do.
    #[cold]
    fn note_memory<N: Node>(&mut self, cx: &mut Cx<'_, N>, is_watched: bool) {
        if self.router.cache.has_forgotten() {
            let freed = self.router.cache.free_forgotten();
            self.work.add(freed as u64 * FREED_MESSAGE);
        }
        let kept = self.kept_bytes();
        if self.memory.notes_kept(kept, is_watched) {
            cx.node.note_memory(self.id, self.memory_uses());
        }
        self.memory.growth = match is_watched {
            true => cx.node.memory_use().growth(),
            false => Growth::default(),
        };
    }

    /// Wakes the other shards at intervals, so that they search for their largest holders.
    fn notify_memory_short<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if !self.memory.is_shortage_notice_due(cx.now.mono_ms) {
            return;
        }
        for (shard, batch) in cx.effects.batches.iter_mut().enumerate() {
            if shard != usize::from(self.id.0) {
                batch.push(ShardMessage::MemoryShort);
            }
        }
    }

    /// Bytes of output that may wait for one client: a quarter of the node's memory is enough for
    /// the output of all, but each has some.
    fn output_share(&self, limit: Option<usize>) -> usize {
        let most = self.settings.limits.output_bytes as usize;
        let Some(limit) = limit else {
            return most;
        };
        // Clients are dealt out evenly over the shards.
        let clients = self.connections.accepted.max(1) * usize::from(self.shard_count);
        most.min((limit / 4 / clients).max(OUTPUT_SHARE_MIN))
    }
}
