//! Memory for buffers and queues, lent to shards in slices from one counter of the node, so that
//! one hot shard may use what the others do not.

use crate::node::Node;

/// What a shard has borrowed.
#[derive(Debug, Default)]
pub(crate) struct MemoryLoan {
    borrowed: usize,
    spent: bool,
}

/// Borrowed and given back in multiples of this.
const SLICE_BYTES: usize = 1024 * 1024;
/// Slices kept beyond what is used, so that a shard at the edge of one does not ask each tick.
const SPARE_SLICES: usize = 2;

impl MemoryLoan {
    /// The node had nothing more to lend when last asked, and the loan is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// Adjusts the loan to the bytes in use.
    pub(crate) fn settle<N: Node>(&mut self, node: &N, used: usize) {
        self.spent = false;
        while self.borrowed < used {
            if !node.borrow_memory(SLICE_BYTES) {
                self.spent = true;
                return;
            }
            self.borrowed += SLICE_BYTES;
        }
        let kept = used.div_ceil(SLICE_BYTES) + SPARE_SLICES;
        let spare = (self.borrowed / SLICE_BYTES).saturating_sub(kept);
        if spare > 0 {
            node.return_memory(spare * SLICE_BYTES);
            self.borrowed -= spare * SLICE_BYTES;
        }
    }
}
