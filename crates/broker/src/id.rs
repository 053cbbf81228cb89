//! Names of the things a node holds: shards, connections, sessions, tenants, messages, records.
//!
//! Handles are an index and a generation, so that a late reference to something that has ended
//! finds nothing instead of its successor. They mean something on their own shard only.

use core::fmt;

/// A shard of this node, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Whose topics and client identifiers these are; those of different tenants never meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// A Network Connection of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Place in the shard's table; dense, so that a reactor may index an array by it.
    pub index: u32,
    /// Raised each time the place is used again.
    pub generation: u32,
}

/// A session of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Place in the shard's table.
    pub index: u32,
    /// Raised each time the place is used again.
    pub generation: u32,
}

/// A session wherever it lives: what a message remembers of its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionAddress {
    /// The shard that owns the session.
    pub shard: ShardId,
    /// Its place there.
    pub session: SessionId,
}

/// A message, unique within one run of a node: the shard that received it in the upper 16 bits,
/// that shard's counter below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The `counter`-th message that `shard` received; counters wrap at 2^48.
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self((u64::from(shard.0) << 48) | (counter & 0xFFFF_FFFF_FFFF))
    }
}

/// The place of a record in a shard's sequence of appended records, from 1; 0 is "nothing".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(pub u64);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}
