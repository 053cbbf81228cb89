//! Uses of the node's memory, and which of them may grow.
//!
//! What a node keeps (retained messages, Wills, subscriptions, sessions, and tables outside of the
//! shards) may take a part of the memory. The rest is for what passes through: buffers and messages
//! that wait. So publishers are served however much is kept, and what fills the memory is refused
//! by its kind: retained messages and Wills at three quarters; subscriptions and sessions, which a
//! client needs in order to be served at all, at seven eighths. A kind that takes little may still
//! grow then. At fifteen sixteenths nothing that is kept may grow: the last sixteenth is for what
//! passes through, and half of it for short Wills of clients that have sessions.

/// Eighths of the limit from which on shards note what uses the memory.
const WATCHED_EIGHTHS: usize = 5;
/// Eighths of the limit from which on memory is short.
const SHORT_EIGHTHS: usize = 7;
/// Parts of the limit in which kept data is measured.
const PARTS: usize = 32;
/// Parts from which on kept data stops retained messages and Wills from growing.
const KEPT_PARTS: usize = 24;
/// Parts from which on kept data stops subscriptions and sessions from growing.
const CLIENTS_PARTS: usize = 28;
/// Parts from which on kept data stops all kinds from growing, however little they take.
const ALL_PARTS: usize = 30;
/// Parts from which on kept data stops short Wills of clients that have sessions from growing.
const RESERVE_PARTS: usize = 31;
/// Parts of the limit that are in use while it is nearly used up: clients that hold little also
/// give back then.
const NEARLY_USED_PARTS: usize = 30;
/// A kind that takes less than this part of the limit, as a divisor, is small.
const SMALL_KIND: usize = 16;
/// Part of the limit, as a divisor, from which on clients and share groups give back memory.
const REAL_SHARE: usize = 16;

/// Enough is used that shards note what uses it.
pub(crate) fn is_watched(used: usize, limit: usize) -> bool {
    used > limit / 8 * WATCHED_EIGHTHS
}

/// Less than an eighth is left: clients that hold much give back.
pub(crate) fn is_short(used: usize, limit: usize) -> bool {
    used > limit / 8 * SHORT_EIGHTHS
}

/// Less than a sixteenth is left: clients that hold little also give back.
pub(crate) fn is_nearly_used(used: usize, limit: usize) -> bool {
    used > limit / PARTS * NEARLY_USED_PARTS
}

/// Bytes of kept data above which no subscription is added, of `limit` bytes of memory.
pub fn subscriptions_part(limit: usize) -> usize {
    limit / PARTS * CLIENTS_PARTS
}

/// Sizes of holders: each is twice the one before.
const SIZES: usize = 16;
/// Bytes below which a holder is not asked to give back memory: the first of the sizes.
pub(crate) const SMALL_BYTES: usize = 4 * 1024;
/// The first size of holders that hold much: 64 KiB.
const LARGE_SIZE: usize = 4;
/// Part of the limit, as a divisor, that the largest holders hold together.
const LARGEST_PART: usize = 8;

/// Bytes that clients and share groups hold that hold [`SMALL_BYTES`] or more, by the size of the
/// holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBySize(pub(super) [usize; SIZES]);

impl HeldBySize {
    /// Adds `held` bytes of a holder that counts as one of `bytes`.
    pub(crate) fn add(&mut self, held: usize, bytes: usize) {
        let size = (bytes / SMALL_BYTES).max(1).ilog2() as usize;
        self.0[size.min(SIZES - 1)] += held;
    }

    fn and(mut self, other: Self) -> Self {
        for (sum, bytes) in self.0.iter_mut().zip(other.0) {
            *sum += bytes;
        }
        self
    }

    /// Bytes of holders of this size or larger.
    fn from(&self, size: usize) -> usize {
        self.0[size..].iter().sum()
    }
}

/// Use of the node's memory by one shard, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardMemory {
    /// Wills.
    pub wills: usize,
    /// Subscriptions and share groups.
    pub subscriptions: usize,
    /// Sessions beside their subscriptions, Wills and messages.
    pub sessions: usize,
    /// Tables to which clients add entries.
    pub tables: usize,
    /// Connections, with their buffers and what waits to be answered.
    pub connections: usize,
    /// Messages: retained, queued and in flight.
    pub messages: usize,
    /// Bytes that clients and share groups hold, as found by the last search (`pressure.rs`).
    pub held: HeldBySize,
    /// Bytes, likewise, by what the holders count as beside others: many clients of one
    /// address count as larger than they are.
    pub counted: HeldBySize,
    /// Bytes that all share groups hold, as found by the last search.
    pub groups: usize,
    /// Packets of clients that are not complete or wait for their turn, likewise; they are in the
    /// buffers of connections.
    pub input: usize,
}

impl ShardMemory {
    /// The sum of both, and the greater `most`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            wills: self.wills + other.wills,
            subscriptions: self.subscriptions + other.subscriptions,
            sessions: self.sessions + other.sessions,
            tables: self.tables + other.tables,
            connections: self.connections + other.connections,
            messages: self.messages + other.messages,
            held: self.held.and(other.held),
            counted: self.counted.and(other.counted),
            groups: self.groups + other.groups,
            input: self.input + other.input,
        }
    }
}

/// Use of the node's memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// All that counts; none of the other numbers is known while this is low.
    pub used: usize,
    /// `limits.memory_bytes`; none: unlimited.
    pub limit: Option<usize>,
    /// Memory that is used outside of the shards.
    pub outside: usize,
    /// Retained messages.
    pub retained: usize,
    /// The sum over all shards.
    pub shards: ShardMemory,
}

impl MemoryUse {
    /// Less than an eighth is left: clients that hold much give back.
    pub fn is_short(&self) -> bool {
        self.limit.is_some_and(|limit| is_short(self.used, limit))
    }

    /// Enough is used that shards note what uses it.
    pub fn is_watched(&self) -> bool {
        self.limit.is_some_and(|limit| is_watched(self.used, limit))
    }

    /// Less than a sixteenth is left.
    pub(crate) fn is_nearly_used(&self) -> bool {
        self.limit
            .is_some_and(|limit| is_nearly_used(self.used, limit))
    }

    /// Kept data takes at least this number of [`PARTS`] of the limit.
    fn keeps(&self, parts: usize) -> bool {
        let kept = self.retained
            + self.outside
            + self.shards.wills
            + self.shards.subscriptions
            + self.shards.sessions
            + self.shards.tables;
        self.limit
            .is_some_and(|limit| kept >= limit / PARTS * parts)
    }

    /// Returns what may grow.
    pub fn growth(&self) -> Growth {
        let Some(limit) = self.limit.filter(|_| self.keeps(KEPT_PARTS)) else {
            return Growth::default();
        };
        let all_stop = self.keeps(ALL_PARTS);
        let stops = |bytes: usize| all_stop || bytes >= limit / SMALL_KIND;
        let clients_stop = self.keeps(CLIENTS_PARTS);
        Growth {
            retained_stops: stops(self.retained),
            wills_stop: stops(self.shards.wills),
            subscriptions_stop: clients_stop && stops(self.shards.subscriptions),
            sessions_stop: clients_stop && stops(self.shards.sessions),
            reserve_stops: self.keeps(RESERVE_PARTS),
        }
    }

    /// Messages that wait for clients and share groups.
    pub fn waiting(&self) -> usize {
        self.shards.messages.saturating_sub(self.retained)
    }

    /// Bytes that clients and share groups are to give back: none unless they hold a real share.
    /// That is so for those that hold much, or for all while the memory is nearly used up.
    pub(crate) fn excess(&self) -> usize {
        let Some(limit) = self.limit else {
            return 0;
        };
        // A message that many hold is there once.
        let most = self.waiting() + self.shards.connections + self.shards.wills;
        let large = self.shards.held.from(LARGE_SIZE).min(most);
        let (held, goal) = match large < limit / REAL_SHARE {
            false => (large, limit / 2),
            true if !self.is_nearly_used() => return 0,
            true => (
                self.shards.held.from(0).min(most),
                limit / 8 * SHORT_EIGHTHS,
            ),
        };
        if held < limit / REAL_SHARE {
            return 0;
        }
        let excess = self.used.saturating_sub(goal);
        excess.min(held - limit / REAL_SHARE / 2)
    }

    /// Returns what the largest clients and share groups count as at least, bytes.
    pub(crate) fn least_of_largest(&self) -> usize {
        self.least_of_largest_of(&self.shards.counted)
    }

    /// Returns what the largest of these holders have at least, bytes.
    pub(crate) fn least_of_largest_of(&self, held: &HeldBySize) -> usize {
        let enough = (self.limit.unwrap_or(usize::MAX) / LARGEST_PART).min(held.from(0) / 2);
        let size = (0..SIZES)
            .rev()
            .find(|size| held.from(*size) >= enough.max(1));
        SMALL_BYTES << size.unwrap_or_default()
    }

    /// The part of the excess that a shard is to see to whose clients and share groups have `own`,
    /// by what they count as.
    pub(crate) fn excess_of(&self, own: &HeldBySize) -> usize {
        let least = self.least_of_largest() / SMALL_BYTES;
        let size = least.ilog2() as usize;
        let (own, all) = (own.from(size), self.shards.counted.from(size).max(1));
        let part = self.excess() as u128 * own as u128 / all as u128;
        (part as usize).min(own)
    }

    /// Lists what uses the memory, largest first, each with its bytes.
    pub fn parts(&self) -> Vec<(&'static str, usize)> {
        let shards = &self.shards;
        let groups = shards.groups.min(self.waiting());
        let input = shards.input.min(shards.connections);
        let mut parts = vec![
            ("retained messages", self.retained),
            ("messages that wait for clients", self.waiting() - groups),
            ("messages that wait in share groups", groups),
            ("Wills", shards.wills),
            ("subscriptions", shards.subscriptions),
            ("sessions", shards.sessions),
            ("packets that are not complete or wait", input),
            ("connections and their buffers", shards.connections - input),
            (
                "tables and what is remembered about clients",
                self.outside + shards.tables,
            ),
        ];
        parts.retain(|(_, bytes)| *bytes > 0);
        parts.sort_by_key(|(_, bytes)| core::cmp::Reverse(*bytes));
        parts
    }
}

/// Kinds of kept data that may not grow now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Retained messages.
    pub retained_stops: bool,
    /// Wills.
    pub wills_stop: bool,
    /// Subscriptions.
    pub subscriptions_stop: bool,
    /// Sessions.
    pub sessions_stop: bool,
    /// Short Wills of clients that have sessions.
    pub reserve_stops: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(retained: usize, wills: usize) -> MemoryUse {
        MemoryUse {
            used: retained + wills,
            limit: Some(1600),
            retained,
            shards: ShardMemory {
                wills,
                ..ShardMemory::default()
            },
            ..MemoryUse::default()
        }
    }

    #[test]
    fn what_is_kept_leaves_a_quarter_and_small_kinds_may_grow() {
        assert_eq!(used(1100, 50).growth(), Growth::default());
        let growth = used(1150, 50).growth();
        assert!(growth.retained_stops && !growth.wills_stop);
        let growth = used(1100, 100).growth();
        assert!(growth.retained_stops && growth.wills_stop);
        let mut all = used(0, 0);
        all.shards.sessions = 1300;
        assert_eq!(all.growth(), Growth::default());
        all.shards.sessions = 1400;
        assert!(all.growth().sessions_stop && !all.growth().subscriptions_stop);
    }

    #[test]
    fn nothing_that_is_kept_takes_the_last_sixteenth() {
        let mut all = used(99, 99);
        all.shards.subscriptions = 1300;
        assert!(!all.growth().retained_stops && !all.growth().wills_stop);
        all.shards.tables = 2;
        let growth = all.growth();
        assert!(growth.retained_stops && growth.wills_stop && growth.sessions_stop);
        assert!(!growth.reserve_stops);
        all.shards.tables = 52;
        assert!(all.growth().reserve_stops);
    }

    #[test]
    fn clients_give_back_only_if_they_hold_a_real_share() {
        let mut all = used(1400 << 16, 0);
        all.limit = Some(1600 << 16);
        all.shards.messages = 1600 << 16;
        all.shards.held.add(99 << 16, 99 << 16);
        all.shards.held.add(200 << 16, 32 * 1024);
        assert_eq!(all.excess(), 0);
        all.shards.held.add(51 << 16, 51 << 16);
        assert_eq!(all.excess(), 100 << 16);
        // It is the retained messages that they hold.
        all.shards.messages = 1400 << 16;
        assert_eq!(all.excess(), 0);
    }

    #[test]
    fn many_who_hold_little_give_back_once_the_memory_is_nearly_used_up() {
        let mut all = used(1300, 0);
        all.used = 1500;
        all.shards.messages = 1500;
        all.shards.held.add(200, SMALL_BYTES);
        assert_eq!(all.excess(), 0);
        all.used = 1510;
        assert_eq!(all.excess(), 110);
        all.shards.counted = all.shards.held;
        let mut own = HeldBySize::default();
        own.add(100, SMALL_BYTES);
        assert_eq!(all.excess_of(&own), 55);
    }

    #[test]
    fn the_largest_holders_hold_an_eighth_of_the_memory_together() {
        const KIB: usize = 1024;
        let mut all = used(0, 0);
        // One that holds more than an eighth, however many hold little.
        all.shards.counted.add(220, 1000 * KIB);
        all.shards.counted.add(1000, 10 * KIB);
        assert_eq!(all.least_of_largest(), 512 * KIB);
        // Many who hold little, and a few who hold more, but not an eighth.
        all.shards.counted = HeldBySize::default();
        all.shards.counted.add(120, 100 * KIB);
        all.shards.counted.add(1200, 60 * KIB);
        assert_eq!(all.least_of_largest(), 32 * KIB);
        // What all hold is little.
        all.shards.counted = HeldBySize::default();
        all.shards.counted.add(30, 100 * KIB);
        all.shards.counted.add(20, 10 * KIB);
        assert_eq!(all.least_of_largest(), 64 * KIB);
    }
}
