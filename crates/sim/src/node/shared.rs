//! The data shared by the shards, as accessed by one of them: each access is a step, before and
//! after which another shard may run a whole tick.

use martlet_broker::{EpochKey, Interest, InterestClass, Retained, ShardId, TenantId};

use super::Node;

/// The data shared by the shards of a node.
pub(super) struct Handle<'a>(pub(super) &'a Node);

impl martlet_broker::Node for Handle<'_> {
    fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
        self.0.step();
        let answer = read(&self.0.interest.borrow());
        self.0.step();
        answer
    }

    fn set_interest(&self, shard: ShardId, tenant: TenantId, filter: &str, class: InterestClass) {
        self.0.step();
        self.0
            .interest
            .borrow_mut()
            .set(shard, tenant, filter, class);
        self.0.step();
    }

    fn interest_epoch(&self, key: EpochKey) -> u64 {
        self.0.step();
        self.0.interest.borrow().epochs().at(key)
    }

    fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
        self.0.step();
        let answer = access(&mut self.0.retained.borrow_mut());
        self.0.step();
        answer
    }

    fn borrow_memory(&self, bytes: usize) -> bool {
        let left = self.0.free_memory.get().checked_sub(bytes);
        if let Some(left) = left {
            self.0.free_memory.set(left);
        }
        left.is_some()
    }

    fn return_memory(&self, bytes: usize) {
        let left = self.0.free_memory.get() + bytes;
        if left > self.0.memory_max {
            self.0
                .complain("more memory given back than lent".to_owned());
        }
        self.0.free_memory.set(left);
    }

    fn borrow_connection_slot(&self, count_max: usize) -> bool {
        let taken = self.0.connections.get();
        self.0
            .connections
            .set(taken + usize::from(taken < count_max));
        taken < count_max
    }

    fn return_connection_slot(&self) {
        match self.0.connections.get().checked_sub(1) {
            Some(left) => self.0.connections.set(left),
            None => self.0.complain("a place given back twice".to_owned()),
        }
    }
}
