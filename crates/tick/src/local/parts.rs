//! The part of an in-memory node that differs between kinds of tests.

use martlet_broker::{
    Cx, Effects, LostMessage, Node, Now, QueueRead, Record, RecordNumber, Shard, ShardId,
};

/// The part of an in-memory node that differs between kinds of tests.
pub trait Parts {
    /// State shared by the shards.
    type Node: Node;

    /// State shared by the shards.
    fn node(&self) -> &Self::Node;

    /// Makes a call into a shard: see [`Outside::call`](crate::Outside::call).
    #[inline(always)]
    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, Self::Node>) -> T,
    ) -> T {
        let node = self.node();
        let result = call(shard, &mut Cx { now, node, effects });
        self.called(shard);
        result
    }

    /// Inspects a shard after each call into it.
    #[inline(always)]
    fn called(&mut self, shard: &Shard) {
        let _ = shard;
    }

    /// Takes records of a shard: see [`Storage::append`](crate::Storage::append).
    fn append(
        &mut self,
        shard: ShardId,
        records: &[Record],
        last: RecordNumber,
        now: Now,
    ) -> Option<RecordNumber>;

    /// Takes all `reads` of a shard: see [`Storage::read_back`](crate::Storage::read_back).
    fn read_back(&mut self, shard: ShardId, reads: &mut Vec<QueueRead>) {
        let _ = shard;
        assert!(reads.is_empty(), "nothing is read back from this store");
    }

    /// Takes all of `lost`.
    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        lost.clear();
    }
}
