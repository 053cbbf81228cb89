//! The shards of a node that is not running yet, and the batches between them.

use std::sync::Arc;

use martlet_broker::{
    Cx, Effects, ListenerPolicy, Message, MessageId, Node, Now, SessionAddress, Settings, Shard,
    ShardId, shard_of,
};
use martlet_store::RecordBuffer;

use crate::body::StoredBody;
use crate::encode::encode;
use crate::fetch::Publishers;

/// All shards of a node, in order, each with its effects. Borrowed from the caller of the restore.
pub struct Shards<'a, N: Node> {
    /// The settings of the shards.
    pub settings: &'a Settings,
    /// The data shared by the shards.
    pub node: &'a N,
    /// The time of the start.
    pub now: Now,
    /// The listeners of the node, for publishers of messages.
    pub listeners: Arc<[Arc<ListenerPolicy>]>,
    /// The shards; there is at least one.
    pub shards: Vec<(&'a mut Shard, &'a mut Effects)>,
}

impl<N: Node> Shards<'_, N> {
    pub(super) fn count(&self) -> u16 {
        self.shards.len() as u16
    }

    /// Calls a function with one shard.
    pub(super) fn call<T>(
        &mut self,
        shard: ShardId,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, N>) -> T,
    ) -> T {
        let (shard, effects) = &mut self.shards[usize::from(shard.0)];
        let mut cx = Cx {
            now: self.now,
            node: self.node,
            effects,
        };
        call(shard, &mut cx)
    }

    /// Calls a function with each shard.
    pub(super) fn each(&mut self, mut each: impl FnMut(&mut Shard, &mut Cx<'_, N>)) {
        for shard in 0..self.count() {
            self.call(ShardId(shard), &mut each);
        }
    }

    /// The shard that handles a message that no client of this run has sent: the same for all
    /// messages that one shard received, so that their order is kept.
    pub(super) fn of_message(&self, id: MessageId) -> ShardId {
        ShardId(shard_of(id.0) % self.count())
    }

    /// A message from the store, counted by `shard`; `publisher` is the publishing session.
    pub(super) fn message(
        &self,
        shard: ShardId,
        body: &StoredBody<'_>,
        publisher: Option<SessionAddress>,
        publishers: &mut Publishers,
    ) -> Message {
        let gauge = self.shards[usize::from(shard.0)].0.gauge();
        let client = body.publisher.as_ref();
        let client = client.map(|stored| publishers.client(stored, &self.listeners, &gauge));
        Message::restored(&body.message, publisher, client, self.now, &gauge)
    }

    /// Delivers batches between shards until none is left. Their records are added to the buffer
    /// in an order in which no record precedes one that it depends on.
    pub(super) fn deliver(&mut self, records: &mut RecordBuffer) {
        let mut moved = true;
        while moved {
            moved = false;
            for from in 0..self.count() {
                let (shard, effects) = &mut self.shards[usize::from(from)];
                encode(&effects.records, self.now, records);
                shard.take_back(&mut effects.records);
                for to in 0..self.count() {
                    let batches = &mut self.shards[usize::from(from)].1.batches;
                    let mut batch = match batches.get_mut(usize::from(to)) {
                        Some(batch) if !batch.is_empty() => std::mem::take(batch),
                        _ => continue,
                    };
                    moved = true;
                    self.call(ShardId(to), |shard, cx| {
                        shard.receive_batch(cx, ShardId(from), &mut batch);
                    });
                }
            }
        }
    }
}

impl<N: Node> std::fmt::Debug for Shards<'_, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards")
            .field("count", &self.shards.len())
            .finish_non_exhaustive()
    }
}
