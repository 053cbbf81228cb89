//! Names of the things a node holds: shards, connections, sessions, messages, records.
//!
//! Handles are an index and a generation, so that a late reference to something that has ended
//! finds nothing instead of its successor. They mean something on their own shard only.

use core::fmt;

use smallvec::SmallVec;

/// A shard of this node, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

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

impl SessionId {
    /// No session's.
    pub(crate) const NONE: Self = Self {
        index: u32::MAX,
        generation: 0,
    };
}

/// A session wherever it lives: what a message remembers of its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionAddress {
    /// The shard that owns the session.
    pub shard: ShardId,
    /// Place of the session there.
    pub session: SessionId,
}

/// A message: the shard that received it in the upper 6 bits, that shard's counter below. The
/// counter begins anew above all earlier ones with each run of the node (see [`first_number`]), so
/// that no name is ever used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The `counter`-th message that `shard` received; counters have 58 bits.
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self(numbered(shard, counter))
    }

    /// A part has asked for receipts of it: see [`Receipt`](crate::Receipt). Its counter is a
    /// multiple of 256, and those of other messages are not. In the stores of earlier versions
    /// they may be; there the body of the message does not ask for receipts.
    #[inline]
    pub fn wants_receipts(self) -> bool {
        is_kept_for_receipts(self.0)
    }
}

/// Whether a counter is kept for messages that ask for receipts. Few are, so that names of
/// neighbours nearly always differ by one and pack well.
pub(crate) fn is_kept_for_receipts(counter: u64) -> bool {
    counter.is_multiple_of(RECEIPTS_EVERY)
}

/// The first counter behind this one that is kept for a message which asks for receipts.
pub(crate) fn next_for_receipts(counter: u64) -> u64 {
    counter - counter % RECEIPTS_EVERY + RECEIPTS_EVERY
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a shard's counters begin in run number `start` of the node. There is room for 2^36 names
/// before those of the next run begin; code that counts runs takes that into account.
pub fn first_number(start: u32) -> u64 {
    u64::from(start) << START_SHIFT
}

/// The run of the node that a name, such as that of a message, was given in.
pub fn start_of(name: u64) -> u32 {
    (counter_of(name) >> START_SHIFT) as u32
}

/// The number of the shard that gave a name, such as that of a message, in whichever run.
pub fn shard_of(name: u64) -> u16 {
    (name >> COUNTER_BITS) as u16
}

/// The counter in a name, whichever shard gave it.
pub(crate) fn counter_of(name: u64) -> u64 {
    name & COUNTER_MASK
}

/// A name that no other shard gives.
pub(crate) fn numbered(shard: ShardId, counter: u64) -> u64 {
    (u64::from(shard.0) << COUNTER_BITS) | (counter & COUNTER_MASK)
}

const COUNTER_BITS: u32 = 58;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;
const START_SHIFT: u32 = 36;
const RECEIPTS_EVERY: u64 = 256;

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

/// A session or share group across its whole life: given to each new one, never used again, by no
/// later run of the node either. Its records are keyed by it, so that late records of a session
/// that was discarded cannot come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionEpoch(pub u64);

impl SessionEpoch {
    /// The greater, the younger, whichever shards gave the two.
    pub fn age(self) -> u64 {
        counter_of(self.0)
    }
}

/// Subscription Identifiers that go with a message; nearly always none or one.
pub type SubscriptionIds = SmallVec<[u32; 2]>;

/// Copies the identifiers. As a rule there are none, and `clone` looks for them one by one.
#[inline]
pub(crate) fn same_subscription_ids(ids: &SubscriptionIds) -> SubscriptionIds {
    match ids.is_empty() {
        true => SmallVec::new(),
        false => SmallVec::from_slice(ids),
    }
}

/// Stands between the name of a part and the number of a lane.
const LANE_MARK: char = '@';

/// Client Identifier of a lane of a part.
pub fn lane_name(part: &str, lane: u16) -> String {
    format!("{part}{LANE_MARK}{lane}")
}

/// The part and the number of a lane with this Client Identifier; none if it is none.
pub fn lane_of(client_id: &str) -> Option<(&str, u16)> {
    // Clients have no identifier like that; share groups have such names.
    if !client_id.starts_with('$') || client_id.starts_with("$share/") {
        return None;
    }
    let (part, number) = client_id.rsplit_once(LANE_MARK)?;
    let lane = number.parse().ok()?;
    // No other spelling of the number, such as `+1` or `01`.
    (lane_name(part, lane) == client_id).then_some((part, lane))
}
