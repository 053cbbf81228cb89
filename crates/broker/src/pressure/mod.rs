//! Relief when memory is short: the largest holders give back first.
//!
//! A holder is a client, a session, or a share group. A session holds what stays when its
//! connection ends: the messages of an absent client, and of a long queue whose messages are in the
//! store, the rows that name them. A share group counts as much as that member holds that holds
//! most by all its groups of this shard, each divided by its members: so no client holds less by
//! many groups than by one. For the same reason a client counts as a part of what all clients of
//! its address hold, if that is more (`sources.rs`). While less than an eighth of the node's memory
//! is left, each shard searches its part for the largest holders.
//!
//! Share groups and sessions lose their oldest messages first. What the store has too is taken out
//! of memory, and is lost only where the rows take too much by themselves. If that is not enough,
//! clients lose the QoS 0 messages in their output, and then their connections, the newest first;
//! where the session ends with the connection, its messages go too. Connections that have not
//! logged in give back before all of these (`lobby_memory.rs`).
//!
//! The largest holders of the node are those that together hold an eighth of the memory, or half
//! of what all holders with 4 KiB or more hold, if that is less. Holders of about the same
//! size are taken together (`memory_use.rs`). Only these give back. They begin when holders with
//! 64 KiB or more hold a sixteenth of the memory together. Once less than a sixteenth is left, they
//! begin when all with 4 KiB or more do: then these fill the memory, however little each of them
//! holds. Otherwise something else fills the memory, and its growth is stopped.
//!
//! Search and relief go on over turns: there may be a million clients, and as many members of one
//! share group. How holders are found is in `search`, how they give back in `give_back`.

mod answers;
mod give_back;
mod search;
mod sources;

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use self::sources::Sources;
use crate::id::{ConnectionId, SessionAddress, SessionId};
use crate::memory_use::{Held, SMALL_BYTES, ShardMemory};
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::share::ticket::GroupId;

pub(crate) use self::answers::AnswerBytes;

/// Clients per millisecond of the interval between two searches: few clients are searched each
/// turn, more of them less often, so that searches cost little.
const CLIENTS_PER_MS: usize = 1000;
/// Interval to the next search at least, when one has found nothing, milliseconds.
const INTERVAL_AFTER_NOTHING_MS: u64 = 100;
/// Part of a turn that a search may take, as a divisor.
const PART_OF_TURN: u64 = 8;
/// The same after the first one, until when other shards have searched too.
const INTERVAL_AFTER_FIRST_MS: u64 = 10;
/// Holders of each kind that give back memory after one search, at most.
const HOLDERS_PER_SEARCH: usize = 256;
/// What a member takes in the table of what members hold, about.
const MEMBER_BYTES: usize = 48;

/// A holder of memory for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
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
    next_ms: u64,
    stage: Stage,
    /// Holders found so far that may give back, of each kind; on top the one that would be the last
    /// to do so.
    found: [BinaryHeap<Reverse<Found>>; KINDS],
    /// What members of share groups hold by these, bytes.
    by_member: BTreeMap<SessionAddress, usize>,
    /// What clients of one address hold together.
    sources: Sources,
    /// What the largest holders of the node counted as at least, as known when the search began.
    least_before: usize,
    /// What those of this shard's clients held that hold most by themselves, likewise.
    least_alone: usize,
    /// Bytes of the holders found so far.
    sums: Sums,
    /// The same, of the last complete search.
    last: Sums,
    /// There has been one since there was enough memory.
    is_known: bool,
    /// Bytes that are still to be taken back.
    to_take: usize,
}

/// Sums over holders, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// By holders.
    held: Held,
    /// The same, by what the holders count as.
    counted: Held,
    /// By clients alone.
    clients: Held,
    /// By all share groups.
    groups: usize,
    /// By packets of clients that are not complete or wait for their turn.
    input: usize,
}

/// A holder that may give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// It is one of the largest, as far as is known.
    is_large: bool,
    /// It is one of the largest by what it holds itself, whatever others of its address hold.
    is_large_alone: bool,
    /// Those of one kind with higher numbers give back first.
    rank: u64,
    /// What it counts as.
    bytes: usize,
    holder: Holder,
}

/// What is noted of a holder, bytes.
#[derive(Clone, Copy, Debug)]
struct Noted {
    /// What it gives back.
    held: usize,
    /// What it is as large as.
    size: usize,
    /// What it counts as beside other holders.
    counted: usize,
}

impl Noted {
    /// Of a holder that counts as what it holds.
    fn of(bytes: usize) -> Self {
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
enum Stage {
    /// There is none.
    #[default]
    Resting,
    /// It looks through the share groups for what their members hold, next at this place and the
    /// member at that place of it.
    Members(usize, usize),
    /// It looks through the connections for what those of one address hold, next at this place.
    Sources(u32),
    /// It looks through the connections, next at this place.
    Connections(u32),
    /// It looks through the sessions, next at this place.
    Sessions(u32),
    /// It looks through the share groups, next at this place and the member at that place of it; so
    /// far one of its members holds this number of bytes, and none holds more.
    Groups(usize, usize, usize),
    /// It forgets what members and addresses hold.
    Forgetting,
    /// Those that were found give back, the last one first.
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

    /// It looks for holders. It does so to the end even if memory is not short any more, so that
    /// other shards know what this one has.
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

    /// What the last search found.
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
    fn note(&mut self, noted: Noted, holder: Holder) {
        let Noted {
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
            // Of those who hold about the same the newest ones go: they are as much the cause as
            // the others, who have been served for longer.
            Holder::Client(id) => {
                self.sums.clients.add(held, size);
                (0, id.generation.into())
            }
            Holder::Session(id) => (1, id.generation.into()),
            // Small groups of one member do not hide a large one.
            Holder::Group(_) => (2, held as u64),
        };
        let found = &mut self.found[kind];
        found.push(Reverse(Found {
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

    /// Those of them that count as `least` bytes or more; who gives back first is last.
    fn take_found(&mut self, least: usize) -> Vec<Holder> {
        let mut all = Vec::new();
        for found in core::mem::take(&mut self.found) {
            let mut found: Vec<Found> = found.into_iter().map(|Reverse(found)| found).collect();
            found.retain(|found| found.bytes >= least);
            found.sort_unstable();
            all.extend(found.into_iter().map(|found| found.holder));
        }
        all
    }
}

impl Shard {
    /// Takes memory back from the largest holders of this shard, which uses `used` bytes.
    /// Goes on with that for a part of this turn.
    pub(crate) fn relieve<N: Node>(&mut self, cx: &mut Cx<'_, N>, used: usize) {
        if used < SMALL_BYTES {
            return self.relief.rest();
        }
        self.relief.begin(cx.node, cx.now.mono_ms);
        if !self.relief.is_under_way() {
            return;
        }
        let was_known = self.relief.is_known;
        let until = self.work.done + self.settings.work.turn / PART_OF_TURN;
        while self.relief.is_under_way() && self.work.done < until {
            self.relief.stage = match core::mem::take(&mut self.relief.stage) {
                Stage::Resting => Stage::Resting,
                Stage::Members(place, member) => self.look_at_members(place, member),
                Stage::Sources(place) => self.look_at_source(place),
                Stage::Connections(place) => self.look_at_connection(place),
                Stage::Sessions(place) => self.look_at_session(place),
                Stage::Groups(place, member, most) => self.look_at_group(place, member, most),
                Stage::Forgetting => self.forget_search(cx),
                Stage::Holders(greedy) => self.take_back_from_last(cx, greedy),
                Stage::Dropping(holder, left, greedy) => {
                    self.drop_oldest_of(cx, holder, left, greedy)
                }
            };
        }
        if !self.relief.is_under_way() {
            let places = self.connections.len() + self.sessions.places() as usize;
            let mut interval_ms = (places / CLIENTS_PER_MS) as u64;
            if !was_known {
                interval_ms = interval_ms.max(INTERVAL_AFTER_FIRST_MS);
            } else if self.relief.to_take == 0 {
                interval_ms = interval_ms.max(INTERVAL_AFTER_NOTHING_MS);
            }
            self.relief.next_ms = cx.now.mono_ms + interval_ms;
        }
        self.settle(cx);
    }
}
