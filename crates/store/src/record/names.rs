//! Names of records, bodies, queues and states.

/// Number of a record: its position in the total order. The first is 1.
pub type Lsn = u64;

/// A body's id. The upper six bits are the shard that assigned it; ids are never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u64);

impl BodyId {
    /// Rotated so that the shard's bits come last: ids that several shards assign at the same time
    /// are then close together.
    pub(crate) fn turned(self) -> u64 {
        self.0.rotate_left(6)
    }

    pub(crate) fn of_turned(turned: u64) -> Self {
        BodyId(turned.rotate_right(6))
    }
}

/// A queue's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A state's key. `owner` is the queue's number if both are forgotten together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// The owner; its meaning is up to the caller.
    pub owner: u64,
    /// Kind; its meaning is up to the caller.
    pub kind: u8,
    /// Number within the kind.
    pub number: u32,
}

/// Reasons to keep a body to which no entry refers: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holds(pub(super) u8);

impl Holds {
    /// None.
    pub const NONE: Holds = Holds(0);
    /// Not yet in all queues that should get it.
    pub const ROUTING: Holds = Holds(1);
    /// The body is retained.
    pub const RETAINED: Holds = Holds(2);
    /// The body is kept for another reason.
    pub const KEPT: Holds = Holds(4);

    /// From bits; undefined bits are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Holds(bits & 7)
    }

    /// As bits: 0 to 7.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Union of both.
    pub const fn with(self, other: Holds) -> Self {
        Holds(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Holds) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: Holds) -> bool {
        self.0 & other.0 != 0
    }
}

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryKey {
    pub(crate) queue: QueueId,
    pub(crate) body: BodyId,
    pub(crate) lane: u8,
}
