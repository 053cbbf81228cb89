//! Relief when memory is short: the largest holders give back first.
//!
//! A holder is a client, a session whose client is away, or a share group. A share group counts as
//! much as that member holds that holds most by all its groups of this shard, each divided by its
//! members: so nobody holds less by many groups than by one. While less than an eighth of the
//! node's memory is left, each shard searches its part for the largest holders.
//!
//! Share groups and sessions of absent clients lose their oldest messages first; what the store has
//! too is only taken out of memory. If that is not enough, clients lose the QoS 0 messages in their
//! output, and then their connections, the newest first; where the session ends with the
//! connection, its messages go too. Connections that have not logged in give back before all of
//! these (`lobby_memory.rs`).
//!
//! The largest holders of the node are so many that together they hold an eighth of the memory, or
//! half of what all holders with 4 KiB or more hold, if that is less. Holders of about the same
//! size are taken together (`memory_use.rs`). Only these give back. They begin when holders with
//! 64 KiB or more hold a sixteenth of the memory together. Once less than a sixteenth is left, they
//! begin when all with 4 KiB or more do: then these fill the memory, however little each of them
//! holds. Otherwise something else fills the memory, and its growth is stopped.
//!
//! Search and relief go on over turns: there may be a million clients.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use martlet_codec::ReasonCode;

use crate::connection::Phase;
use crate::counters::DropReason;
use crate::decision::Limit;
use crate::effect::ConnectionEffect;
use crate::id::{ConnectionId, SessionAddress, SessionId};
use crate::memory_use::{Held, SMALL_BYTES, ShardMemory};
use crate::node::{Cx, Node};
use crate::session::queue::Window;
use crate::shard::{Ending, Shard};
use crate::share::GroupId;
use crate::work::{BYTES_PER_UNIT, CLOSING, DELIVERY, HOLDINGS};

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
/// Bytes below which a member's part of a share group is not counted as held by it.
const PART_BYTES: usize = 256;
/// Members of share groups that are looked at in one unit of work.
const MEMBERS_PER_UNIT: usize = 8;
/// What a member takes in the table of what members hold, about.
const MEMBER_BYTES: usize = 48;
/// Messages in flight that are looked at in one unit of work.
const IN_FLIGHT_PER_UNIT: usize = 8;

/// A holder of memory for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// A connected client.
    Client(ConnectionId),
    /// A session whose client is away.
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
    /// What the largest holders of the node held at least, as known when the search began.
    least_before: usize,
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
    /// Those of one kind with higher numbers give back first.
    rank: u64,
    /// What it counts as.
    bytes: usize,
    holder: Holder,
}

/// Kinds of holders.
const KINDS: usize = 3;

/// How far a search has come.
#[derive(Debug, Default)]
enum Stage {
    /// There is none.
    #[default]
    Resting,
    /// It looks through the share groups for what their members hold, next at this place.
    Members(usize),
    /// It looks through the connections, next at this place.
    Connections(u32),
    /// It looks through the sessions whose clients are away, next at this place.
    Sessions(u32),
    /// It looks through the share groups, next at this place.
    Groups(usize),
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
            self.sums = Sums::default();
            self.by_member = BTreeMap::new();
            self.least_before = node.memory_use().least_of_largest();
            self.stage = Stage::Members(0);
        }
    }

    /// Bytes of memory that the search takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.by_member.len() * MEMBER_BYTES
    }

    /// It looks for holders: that is gone on with even if memory is not short any more, so that
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
            groups: self.last.groups,
            input: self.last.input,
            ..ShardMemory::default()
        }
    }

    /// Remembers a holder, if it may have to give back. It holds `held` bytes, and counts as a
    /// holder of `bytes`.
    fn note(&mut self, held: usize, bytes: usize, holder: Holder) {
        if bytes < SMALL_BYTES || held == 0 {
            return;
        }
        self.sums.held.add(held, bytes);
        let (kind, rank) = match holder {
            // Of those who hold about the same the newest ones go: they are as much the cause as
            // the others, who have been served for longer.
            Holder::Client(id) => (0, id.generation.into()),
            Holder::Session(id) => (1, id.generation.into()),
            // Small groups of one member do not hide a large one.
            Holder::Group(_) => (2, held as u64),
        };
        let is_large = bytes >= self.least_before;
        let found = &mut self.found[kind];
        found.push(Reverse(Found {
            is_large,
            rank,
            bytes,
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

/// Bytes of encoded answers that wait for the store or for share groups, by the places of their
/// connections. Acknowledgements have none: how many wait is counted with the connection.
#[derive(Debug, Default)]
pub(crate) struct AnswerBytes(BTreeMap<u32, usize>);

impl AnswerBytes {
    pub(crate) fn add(&mut self, index: u32, bytes: usize) {
        if bytes > 0 {
            *self.0.entry(index).or_default() += bytes;
        }
    }

    pub(crate) fn remove(&mut self, index: u32, bytes: usize) {
        if let Some(held) = self.0.get_mut(&index) {
            *held -= bytes;
            if *held == 0 {
                self.0.remove(&index);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, index: u32) {
        self.0.remove(&index);
    }

    pub(crate) fn of(&self, index: u32) -> usize {
        self.0.get(&index).copied().unwrap_or_default()
    }

    /// Whether these are the bytes, given for each answer.
    pub(crate) fn is_sum_of(&self, answers: impl Iterator<Item = (u32, usize)>) -> bool {
        let mut sum = Self::default();
        answers.for_each(|(index, bytes)| sum.add(index, bytes));
        sum.0 == self.0
    }

    /// Connections that have some.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
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
                Stage::Members(place) => self.look_at_members(place),
                Stage::Connections(place) => self.look_at_connection(place),
                Stage::Sessions(place) => self.look_at_absent(place),
                Stage::Groups(place) => self.look_at_group(cx, place),
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

    fn look_at_members(&mut self, place: usize) -> Stage {
        if place >= self.groups.places() {
            return Stage::Connections(0);
        }
        self.work.add(HOLDINGS);
        if let Some((_, bytes)) = self.groups.bytes_at(place) {
            self.relief.sums.groups += bytes;
            for (member, part) in self.groups.parts_at(place, PART_BYTES) {
                *self.relief.by_member.entry(member).or_default() += part;
            }
            self.count_members(place);
        }
        Stage::Members(place + 1)
    }

    /// The work of looking at the members of the group at this place.
    fn count_members(&mut self, place: usize) {
        let members = self.groups.parts_at(place, PART_BYTES).count();
        self.work.add((members / MEMBERS_PER_UNIT) as u64);
    }

    fn look_at_connection(&mut self, place: u32) -> Stage {
        if place >= self.connections.places() {
            return match self.reads_back {
                // Their messages are in the store.
                true => Stage::Groups(0),
                false => Stage::Sessions(0),
            };
        }
        self.work.add(HOLDINGS);
        let connection = self.connections.look_at(place);
        if connection.is_some_and(|connection| connection.phase == Phase::Accepted) {
            let id = self.connections.id_of(place);
            self.relief.sums.input += connection.map_or(0, |connection| connection.input_len());
            let bytes = self.bytes_held_by(place);
            self.relief.note(bytes, bytes, Holder::Client(id));
        }
        Stage::Connections(place + 1)
    }

    fn look_at_absent(&mut self, place: u32) -> Stage {
        if place >= self.sessions.places() {
            return Stage::Groups(0);
        }
        self.work.add(HOLDINGS);
        let session = self.sessions.look_at(place);
        if let Some(session) = session.filter(|session| session.connection().is_none()) {
            let bytes = session.outbound.bytes_in_memory();
            self.count_in_flight(session.outbound.count_in_flight());
            let id = self.sessions.id_of(place);
            self.relief.note(bytes, bytes, Holder::Session(id));
        }
        Stage::Sessions(place + 1)
    }

    fn look_at_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, place: usize) -> Stage {
        if place < self.groups.places() {
            self.work.add(HOLDINGS);
            if let Some((id, bytes)) = self.groups.bytes_at(place) {
                let members = self.groups.parts_at(place, PART_BYTES);
                let by_member = &self.relief.by_member;
                let most = members
                    .filter_map(|(member, _)| by_member.get(&member))
                    .max();
                let most = most.copied().unwrap_or_default();
                self.relief.note(bytes, bytes.max(most), Holder::Group(id));
                self.count_members(place);
            }
            return Stage::Groups(place + 1);
        }
        // All have been looked at.
        self.relief.by_member = BTreeMap::new();
        self.relief.last = self.relief.sums;
        cx.node.note_memory(self.id, self.memory_uses());
        let all = cx.node.memory_use();
        let is_first = !core::mem::replace(&mut self.relief.is_known, true);
        let others_are_asked = is_first && self.shard_count > 1 && !all.is_nearly_used();
        if others_are_asked || !all.is_short() {
            self.relief.to_take = 0;
            self.relief.found = Default::default();
            return Stage::Resting;
        }
        self.relief.to_take = all.excess_of(&self.relief.sums.held);
        let found = self.relief.take_found(all.least_of_largest());
        match self.relief.to_take {
            0 => Stage::Resting,
            _ => Stage::Holders(found),
        }
    }

    /// The work of looking at these messages in flight.
    fn count_in_flight(&mut self, count: usize) {
        self.work.add((count / IN_FLIGHT_PER_UNIT) as u64);
    }

    fn take_back_from_last<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        mut greedy: Vec<Holder>,
    ) -> Stage {
        if self.relief.to_take == 0 {
            return Stage::Resting;
        }
        let Some(holder) = greedy.pop() else {
            return Stage::Resting;
        };
        self.work.add(HOLDINGS);
        match holder {
            Holder::Client(id) => {
                let connection = self.connections.get(id);
                if connection.is_some_and(|connection| connection.phase == Phase::Accepted) {
                    let bytes = self.bytes_held_by(id.index);
                    if bytes >= SMALL_BYTES {
                        self.take_back_from(cx, id.index, bytes);
                        self.has_taken(bytes);
                    }
                }
                Stage::Holders(greedy)
            }
            Holder::Session(id) => self.take_back_from_absent(cx, id, greedy),
            Holder::Group(id) => {
                let reads_back = self.reads_back;
                let Some(queue) = self.groups.queue(id) else {
                    return Stage::Holders(greedy);
                };
                let bytes = queue.bytes_in_memory();
                if reads_back {
                    // What is in the store is read back once a member takes it.
                    queue.put_away(Window::Nothing);
                }
                let put_away = bytes - queue.bytes_in_memory();
                self.has_taken(put_away);
                Stage::Dropping(holder, bytes / 2, greedy)
            }
        }
    }

    fn has_taken(&mut self, bytes: usize) {
        self.relief.to_take = self.relief.to_take.saturating_sub(bytes);
    }

    /// A session whose client is away, and whose messages are in memory alone, loses the oldest
    /// half of those that were not sent yet. If most of them were sent and never acknowledged, the
    /// session ends: so its client learns that they are lost.
    fn take_back_from_absent<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        greedy: Vec<Holder>,
    ) -> Stage {
        let session = self.sessions.get(id);
        let Some(session) = session.filter(|session| session.connection().is_none()) else {
            return Stage::Holders(greedy);
        };
        let bytes = session.outbound.bytes_in_memory();
        if bytes < SMALL_BYTES {
            return Stage::Holders(greedy);
        }
        let left = bytes / 2;
        if session.outbound.queue().bytes_in_memory() <= left {
            self.counters.clients_relieved += 1;
            self.end_session(cx, id.index, Limit::MemoryOfClient.meaning());
            self.has_taken(bytes);
            return Stage::Holders(greedy);
        }
        Stage::Dropping(Holder::Session(id), left, greedy)
    }

    /// Drops the oldest message of a session or share group.
    fn drop_oldest_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        holder: Holder,
        left: usize,
        greedy: Vec<Holder>,
    ) -> Stage {
        let reads_back = self.reads_back;
        let queue = match holder {
            Holder::Session(id) => {
                let index = self.live_session(id);
                index.map(|index| self.sessions.at(index).outbound.queue_mut())
            }
            Holder::Group(id) => self.groups.queue(id),
            Holder::Client(_) => None,
        };
        // What is in the store too stays.
        let queue = queue.filter(|queue| queue.bytes_in_memory() > left);
        let queue = queue.filter(|queue| !reads_back || !queue.is_oldest_recorded());
        let Some(oldest) = queue.and_then(|queue| queue.take_oldest()) else {
            return Stage::Holders(greedy);
        };
        self.work.add(DELIVERY);
        self.has_taken(oldest.message().map_or(0, |message| message.bytes()));
        match holder {
            Holder::Session(id) => {
                self.drop_entry(cx, id.index, oldest, DropReason::MemoryFull);
            }
            Holder::Group(id) => self.drop_taken_from_group(cx, id, &oldest),
            Holder::Client(_) => {}
        }
        Stage::Dropping(holder, left, greedy)
    }

    /// Bytes that a client makes the node hold and that it gives back when its connection ends: its
    /// buffers and user name, the messages that wait for it, the answers to it that wait for the
    /// store or for share groups, and its Will if that is published then.
    fn bytes_held_by(&mut self, index: u32) -> usize {
        let Some(connection) = self.connections.look_at(index) else {
            return 0;
        };
        let session = connection.session();
        let session = session.and_then(|session| self.sessions.look_at(session));
        let outbound = session.map(|session| &session.outbound);
        let waiting = outbound.map_or(0, |outbound| outbound.bytes_in_memory());
        let in_flight = outbound.map_or(0, |outbound| outbound.count_in_flight());
        let will = session
            .and_then(|session| session.will.as_ref())
            .map_or(0, |will| match will.delay_secs {
                0 => will.bytes(),
                _ => 0,
            });
        let half_done = match self.half_done.is_empty() {
            true => 0,
            false => self.half_done.get(&index).map_or(0, |half| half.bytes()),
        };
        let answers = Self::bytes_in_gate(connection.answers_gated) + self.answers.of(index);
        let buffers = connection.buffer_bytes() + self.layer_bytes_of(index);
        let buffers = buffers + connection.name_bytes();
        self.count_in_flight(in_flight);
        buffers + waiting + half_done + answers + will
    }

    /// `bytes` is what the client holds.
    fn take_back_from<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, bytes: usize) {
        let connection = self.connections.at(index);
        let owner = connection.owner();
        self.work
            .add((connection.output_len() / BYTES_PER_UNIT) as u64);
        let dropped = u64::from(connection.drop_qos0_output());
        if dropped > 0 {
            let reason = DropReason::MemoryFull;
            match owner.and_then(|owner| self.live_session(owner)) {
                Some(session) => {
                    self.count_drop(session, reason, dropped, cx.now.wall_ms);
                    self.tell_losses(cx, session, reason, "");
                }
                None => self.counters.drop_messages(reason, dropped),
            }
            self.charge_buffers(index);
        }
        if self.bytes_held_by(index) > bytes / 2 {
            self.counters.clients_relieved += 1;
            let id = self.connections.id_of(index);
            let (reason, limit) = (ReasonCode::QuotaExceeded, Limit::MemoryOfClient);
            if self.connections.at(index).output_len() == 0 {
                return self.end_connection(cx, index, Ending::told(reason, limit));
            }
            // It does not read, so there is no use in telling it, and its output goes at once.
            self.end_connection(cx, index, Ending::untold(reason, limit));
            self.forget_connection(id);
            self.work.add(CLOSING);
            cx.effects.connections.push(ConnectionEffect::Abort(id));
        }
    }
}
