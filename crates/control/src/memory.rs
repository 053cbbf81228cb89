//! Uses of the memory of the node beside the shards: each part is bounded, counted against
//! `limits.memory_bytes` and shown by name.

mod warning;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use warning::warning;

/// Answers how many bytes something takes now.
pub type CountBytes = Box<dyn Fn() -> usize + Send + Sync>;

/// Bytes of memory, and what they are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHeld {
    /// `shards`, `journal`, `presence` and so on.
    pub held_for: &'static str,
    /// Number of bytes.
    pub bytes: u64,
}

/// Report about what the memory is held for, as one looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Each part.
    pub held: Vec<MemoryHeld>,
    /// Bytes that count against the limit: all parts, and what shards have reserved beside that.
    pub used: u64,
    /// `limits.memory_bytes`.
    pub limit: u64,
}

/// Memory that other parts of the node hold.
pub(crate) struct Outside {
    others: Mutex<Vec<Other>>,
    /// Bytes that one kind may take at most; none: no limit is known.
    part: Option<usize>,
}

/// One of them.
pub(crate) struct Other {
    pub(crate) held_for: &'static str,
    /// Whether it was borrowed from the memory of the node, where it is counted already.
    pub(crate) is_borrowed: bool,
    pub(crate) count: CountBytes,
}

impl Outside {
    pub(crate) fn new(part: Option<usize>) -> Self {
        Self {
            others: Mutex::default(),
            part,
        }
    }

    pub(crate) fn add(&self, other: Other) {
        self.others().push(other);
    }

    /// All of them.
    pub(crate) fn others(&self) -> MutexGuard<'_, Vec<Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that one kind may take; none: no limit is known.
    pub(crate) fn part(&self) -> Option<usize> {
        self.part
    }
}

/// One kind of memory outside of the shards may take the limit divided by this number.
const PARTS: usize = 16;

/// Bytes that one kind of memory outside of the shards may take, of these for the node.
pub fn part_of_memory(memory_bytes: usize) -> usize {
    memory_bytes / PARTS
}
