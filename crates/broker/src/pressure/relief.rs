//! State of the search for the clients and groups that hold most.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::id::{ConnectionId, SessionAddress, SessionId};
use crate::memory_use::{HeldBySize, SMALL_BYTES, ShardMemory};
use crate::node::Node;
use crate::pressure::sources::Sources;
use crate::share::ticket::GroupId;

/// Interval to the next search at least, when one has found nothing, milliseconds.
pub(super) const INTERVAL_AFTER_NOTHING_MS: u64 = 100;

/// Interval to the next search at least, after the first one, until when other shards have searched
/// too, milliseconds.
pub(super) const INTERVAL_AFTER_FIRST_MS: u64 = 10;

/// Holders of each kind that give back memory after one search, at most.
const HOLDERS_PER_SEARCH: usize = 256;

/// Memory that a member takes in the table of what members hold, about.
const MEMBER_BYTES: usize = 48;

/// A holder of memory for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A connected client.
    Client(ConnectionId),
    /// A session, with what stays when its connection ends.
    Session(SessionId),
    /// A share group.
    Group(GroupId),
}

/// The search for the largest holders.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    /// When the next one may begin, monotonic milliseconds.
    pub(super) next_ms: u64,
    pub(super) stage: Stage,
    /// Holders found so far that may give back, of each kind; on top the one that would be the last
    /// to do so.
    pub(super) found: [BinaryHeap<Reverse<Candidate>>; KINDS],
    /// Bytes that members of share groups hold by these groups.
    pub(super) by_member: BTreeMap<SessionAddress, usize>,
    /// Bytes that clients of one address hold together.
    pub(super) sources: Sources,
    /// Bytes that the largest holders of the node counted as at least, as known when the search
    /// began.
    least_before: usize,
    /// Bytes that those of this shard's clients held that hold most by themselves, likewise.
    least_alone: usize,
    /// Bytes of the holders found so far.
    pub(super) sums: Sums,
    /// Bytes of the holders of the last complete search.
    pub(super) last: Sums,
    /// There has been one since there was enough memory.
    pub(super) is_known: bool,
    /// Bytes that are still to be taken back.
    pub(super) to_take: usize,
}

/// Sums over holders, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Holders by what they hold.
    held: HeldBySize,
    /// Holders by what they count as.
    pub(super) counted: HeldBySize,
    /// Clients alone, by what they hold.
    clients: HeldBySize,
    /// Bytes that all share groups hold.
    pub(super) groups: usize,
    /// Bytes of clients' packets that are not complete or wait for their turn.
    pub(super) input: usize,
}

/// A holder that may give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// Whether it is one of the largest, as far as is known.
    is_large: bool,
    /// Whether it is one of the largest holders by itself, without others of its address.
    is_large_alone: bool,
    /// Rank within one kind: those with higher numbers give back first.
    rank: u64,
    /// Bytes that it counts as.
    bytes: usize,
    holder: Holder,
}

/// Bytes that are noted of a holder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HolderBytes {
    /// Bytes that it gives back.
    pub(super) held: usize,
    /// Bytes that it is as large as.
    pub(super) size: usize,
    /// Bytes that it counts as beside other holders.
    pub(super) counted: usize,
}

impl HolderBytes {
    /// A holder that counts as what it holds.
    pub(super) fn of(bytes: usize) -> Self {
        Self {
            held: bytes,
            size: bytes,
            counted: bytes,
        }
    }
}

/// Kinds of holders.
const KINDS: usize = 3;

/// How far a search has come.
#[derive(Debug, Default)]
pub(crate) enum Stage {
    /// There is none.
    #[default]
    Resting,
    /// The search looks through the share groups for what their members hold, next at this place
    /// and the member at that place of it.
    Members(usize, usize),
    /// The search looks through the connections for what those of one address hold, next at this
    /// place.
    Sources(u32),
    /// The search looks through the connections, next at this place.
    Connections(u32),
    /// The search looks through the sessions, next at this place.
    Sessions(u32),
    /// The search looks through the share groups, next at this place and the member at that place
    /// of it; so far one of its members holds this number of bytes, and none holds more.
    Groups(usize, usize, usize),
    /// The search forgets what members and addresses hold.
    Forgetting,
    /// The holders that were found give back, the last one first.
    Holders(Vec<Holder>),
    /// This session or share group loses its oldest messages until no more than this number of
    /// bytes is left; then the others give back.
    Dropping(Holder, usize, Vec<Holder>),
}

impl Relief {
    /// Whether a search goes on in later turns.
    #[inline]
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Resting)
    }

    /// Begins a search, if none is under way and the last one was long enough ago.
    pub(crate) fn begin<N: Node>(&mut self, node: &N, now_ms: u64) {
        if !self.is_under_way() && now_ms >= self.next_ms {
            let all = node.memory_use();
            self.sums = Sums::default();
            self.least_before = all.least_of_largest();
            self.least_alone = all.least_of_largest_of(&self.last.clients);
            self.stage = Stage::Members(0, 0);
        }
    }

    /// Bytes of memory that the search takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.by_member.len() * MEMBER_BYTES + self.sources.memory_bytes()
    }

    /// Whether it looks for holders. It does so to the end even if memory is not short any more, so
    /// that other shards know what this one has.
    pub(crate) fn is_searching(&self) -> bool {
        self.is_under_way() && !matches!(self.stage, Stage::Holders(_) | Stage::Dropping(..))
    }

    /// Ends the search.
    pub(crate) fn rest(&mut self) {
        if self.is_under_way() {
            *self = Self {
                next_ms: self.next_ms,
                last: self.last,
                is_known: self.is_known,
                ..Self::default()
            };
        }
    }

    /// There is enough memory: what the last search found is of no use any more.
    pub(crate) fn forget(&mut self) {
        if self.is_known && !self.is_under_way() {
            *self = Self::default();
        }
    }

    /// Returns what the last search found.
    pub(crate) fn found(&self) -> ShardMemory {
        ShardMemory {
            held: self.last.held,
            counted: self.last.counted,
            groups: self.last.groups,
            input: self.last.input,
            ..ShardMemory::default()
        }
    }

    /// Remembers a holder, if it may have to give back.
    pub(super) fn note(&mut self, noted: HolderBytes, holder: Holder) {
        let HolderBytes {
            held,
            size,
            counted,
        } = noted;
        if size < SMALL_BYTES || held == 0 {
            return;
        }
        self.sums.held.add(held, size);
        self.sums.counted.add(held, counted);
        let (kind, rank) = match holder {
            // Among holders of about the same size the newest ones go: they are as much the cause
            // as the others, which have been served for longer.
            Holder::Client(id) => {
                self.sums.clients.add(held, size);
                (0, id.generation.into())
            }
            Holder::Session(id) => (1, id.generation.into()),
            // Small groups of one member do not hide a large one.
            Holder::Group(_) => (2, held as u64),
        };
        let found = &mut self.found[kind];
        found.push(Reverse(Candidate {
            is_large: counted >= self.least_before,
            is_large_alone: size >= self.least_alone,
            rank,
            bytes: counted,
            holder,
        }));
        if found.len() > HOLDERS_PER_SEARCH {
            found.pop();
        }
    }

    /// Takes the holders found that count as `least` bytes or more; the first to give back is last.
    pub(super) fn take_found(&mut self, least: usize) -> Vec<Holder> {
        let mut all = Vec::new();
        for found in core::mem::take(&mut self.found) {
            let mut found: Vec<Candidate> = found.into_iter().map(|Reverse(found)| found).collect();
            found.retain(|found| found.bytes >= least);
            found.sort_unstable();
            all.extend(found.into_iter().map(|found| found.holder));
        }
        all
    }

    pub(super) fn has_taken(&mut self, bytes: usize) {
        self.to_take = self.to_take.saturating_sub(bytes);
    }
}
