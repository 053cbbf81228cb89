//! Memory for buffers and queues, lent to shards in slices from one counter of the node, so that
//! one hot shard may use what the others do not.

use crate::node::Node;

/// Memory that a shard has borrowed.
#[derive(Debug, Default)]
pub(crate) struct MemoryLoan {
    borrowed: usize,
    spent: bool,
}

/// Borrowed and given back in multiples of this: small beside any limit, since each shard rounds
/// up.
const SLICE_BYTES: usize = 64 * 1024;
/// A shard keeps an eighth more than it uses, up to this, so that it does not ask each tick. One
/// that uses little keeps little: what it kept would be refused to the others.
const SPARE_BYTES_MAX: usize = 2 * 1024 * 1024;

impl MemoryLoan {
    /// The node had nothing more to lend when last asked, and the loan is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Adjusts the loan to the bytes in use. While memory is nearly used up a shard keeps no more
    /// than it uses.
    pub(crate) fn settle<N: Node>(&mut self, node: &N, used: usize, is_nearly_used: bool) {
        self.spent = false;
        let needed = used.next_multiple_of(SLICE_BYTES);
        if needed > self.borrowed && node.borrow_memory(needed - self.borrowed) {
            self.borrowed = needed;
        }
        while self.borrowed < used {
            if !node.borrow_memory(SLICE_BYTES) {
                self.spent = true;
                return;
            }
            self.borrowed += SLICE_BYTES;
        }
        let spare = match is_nearly_used {
            true => 0,
            false => (used / 8).min(SPARE_BYTES_MAX),
        };
        let kept = (used + spare).next_multiple_of(SLICE_BYTES);
        // One slice more, for a shard at the edge of one.
        let spare = self.borrowed.saturating_sub(kept + SLICE_BYTES);
        if spare > 0 {
            node.return_memory(spare);
            self.borrowed -= spare;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};

    use super::*;
    use crate::id::ShardId;
    use crate::interest::{EpochKey, Interest, InterestClass};
    use crate::retained::Retained;
    use martlet_permission::TenantId;

    struct Lender {
        left: Cell<usize>,
        index: Interest,
        store: RefCell<Retained>,
    }

    impl Node for Lender {
        fn interest<T>(&self, read: impl FnOnce(&Interest) -> T) -> T {
            read(&self.index)
        }

        fn set_interest(&self, _: ShardId, _: TenantId, _: &str, _: InterestClass) {}

        fn interest_epoch(&self, _: EpochKey) -> u64 {
            0
        }

        fn retained<T>(&self, access: impl FnOnce(&mut Retained) -> T) -> T {
            access(&mut self.store.borrow_mut())
        }

        fn borrow_memory(&self, bytes: usize) -> bool {
            let left = self.left.get().checked_sub(bytes);
            self.left.set(left.unwrap_or(self.left.get()));
            left.is_some()
        }

        fn return_memory(&self, bytes: usize) {
            self.left.set(self.left.get() + bytes);
        }

        fn borrow_connection_slot(&self, _: usize) -> bool {
            true
        }

        fn return_connection_slot(&self) {}
    }

    #[test]
    fn a_shard_that_used_much_once_leaves_the_others_enough() {
        let limit = 3_000_000;
        let node = Lender {
            left: Cell::new(limit),
            index: Interest::new(1),
            store: RefCell::new(Retained::new()),
        };
        let mut loans = [(); 8].map(|()| MemoryLoan::default());
        loans[0].settle(&node, limit, true);
        assert!(loans[0].is_spent());
        loans[0].settle(&node, 1000, false);
        for loan in &mut loans {
            loan.settle(&node, 100_000, false);
            assert!(!loan.is_spent());
        }
        for loan in &mut loans {
            loan.settle(&node, 0, false);
        }
        assert!(node.left.get() >= limit - loans.len() * SLICE_BYTES);
    }
}
