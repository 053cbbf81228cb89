//! Memory runs short: who holds most gives back first.
//!
//! While less than an eighth of the node's memory is left, each shard looks for the clients that
//! hold most of its part. They lose the QoS 0 messages in their output first. Who still holds most
//! then loses the connection, and with it, if the session ends, all that waits for it. Others go
//! on. Before them, connections that have not logged in give back (`lobby_memory.rs`).
//!
//! The search goes on over turns, and so does the taking back: there may be a million clients.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use martlet_codec::ReasonCode;

use crate::connection::Phase;
use crate::counters::DropReason;
use crate::decision::Limit;
use crate::effect::ConnectionEffect;
use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::shard::{Ending, Shard};
use crate::work::{BYTES_PER_UNIT, CLOSING, DELIVERY, HOLDINGS};

/// Clients per millisecond of the interval between two searches: few clients are searched each
/// turn, more of them less often, so that searches cost little.
const CLIENTS_PER_MS: usize = 1000;
/// Part of a turn that a search may take, as a divisor.
const PART_OF_TURN: u64 = 8;
/// Clients that give back memory after one search, at most.
const CLIENTS_PER_SEARCH: usize = 256;
/// Bytes below which a client is not asked to give back memory.
const GREEDY_BYTES: usize = 64 * 1024;

/// The search for clients that hold much.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    /// When the next one may begin, monotonic milliseconds.
    next_ms: u64,
    stage: Stage,
    /// Clients that hold most of those found so far, and how many bytes; the least is on top.
    greedy: BinaryHeap<Reverse<(usize, ConnectionId)>>,
}

/// How far a search has come.
#[derive(Debug, Default)]
enum Stage {
    /// There is none.
    #[default]
    Resting,
    /// It looks through the connections, next at this place.
    Connections(u32),
    /// Clients that were found give back; who holds most is last.
    Clients(Vec<(usize, ConnectionId)>),
    /// It looks through the sessions, next at this place, for the one that holds most of those
    /// whose clients are away.
    Absent(u32, Option<(usize, SessionId)>),
    /// This session loses its oldest messages until no more than this number of bytes is left.
    Dropping(SessionId, u64),
}

impl Relief {
    /// Whether a search goes on in later turns.
    #[inline]
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Resting)
    }

    /// Ends the search.
    pub(crate) fn rest(&mut self) {
        if self.is_under_way() {
            self.stage = Stage::Resting;
            self.greedy = BinaryHeap::new();
        }
    }

    /// Remembers a client that holds this number of bytes, if it is one of those with most.
    fn found(&mut self, bytes: usize, id: ConnectionId) {
        if bytes >= GREEDY_BYTES {
            self.greedy.push(Reverse((bytes, id)));
            if self.greedy.len() > CLIENTS_PER_SEARCH {
                self.greedy.pop();
            }
        }
    }

    /// Those of them that hold at least half of what the first of them holds; that one is last.
    fn take_greedy(&mut self) -> Vec<(usize, ConnectionId)> {
        let greedy = core::mem::take(&mut self.greedy).into_iter();
        let mut greedy: Vec<_> = greedy.map(|Reverse(found)| found).collect();
        greedy.sort_unstable();
        let most = greedy.last().map_or(0, |(bytes, _)| *bytes);
        greedy.retain(|(bytes, _)| *bytes >= most / 2);
        greedy
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
    /// Takes memory back from the clients of this shard that hold most, up to `excess` bytes;
    /// `used` bytes are in use here. Goes on with that for a part of this turn.
    pub(crate) fn relieve<N: Node>(&mut self, cx: &mut Cx<'_, N>, used: usize, excess: usize) {
        if used < GREEDY_BYTES {
            return self.relief.rest();
        }
        if !self.relief.is_under_way() {
            if cx.now.mono_ms < self.relief.next_ms {
                return;
            }
            self.relief.stage = Stage::Connections(0);
        }
        let until = self.work.done + self.settings.work.turn / PART_OF_TURN;
        while self.relief.is_under_way() && self.work.done < until {
            self.relief.stage = match core::mem::take(&mut self.relief.stage) {
                Stage::Resting => Stage::Resting,
                Stage::Connections(place) => self.look_at_connection(place),
                Stage::Clients(greedy) => {
                    let next = self.take_back_from_last(cx, greedy);
                    match used.saturating_sub(self.used_bytes()) >= excess {
                        true => Stage::Resting,
                        false => next,
                    }
                }
                Stage::Absent(place, most) => self.look_at_absent(cx, place, most),
                Stage::Dropping(id, left) => self.drop_oldest_of(cx, id, left),
            };
        }
        if !self.relief.is_under_way() {
            let interval_ms = (self.connections.len() / CLIENTS_PER_MS) as u64;
            self.relief.next_ms = cx.now.mono_ms + interval_ms;
        }
        self.settle(cx);
    }

    fn look_at_connection(&mut self, place: u32) -> Stage {
        if place < self.connections.places() {
            self.work.add(HOLDINGS);
            let connection = self.connections.look_at(place);
            if connection.is_some_and(|connection| connection.phase == Phase::Accepted) {
                let id = self.connections.id_of(place);
                self.relief.found(self.bytes_held_by(place), id);
            }
            return Stage::Connections(place + 1);
        }
        let greedy = self.relief.take_greedy();
        match greedy.is_empty() {
            false => Stage::Clients(greedy),
            true if self.reads_back => Stage::Resting,
            true => Stage::Absent(0, None),
        }
    }

    fn take_back_from_last<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        mut greedy: Vec<(usize, ConnectionId)>,
    ) -> Stage {
        let Some((_, id)) = greedy.pop() else {
            return Stage::Resting;
        };
        self.work.add(HOLDINGS);
        let connection = self.connections.get(id);
        if connection.is_some_and(|connection| connection.phase == Phase::Accepted) {
            let bytes = self.bytes_held_by(id.index);
            if bytes >= GREEDY_BYTES {
                self.take_back_from(cx, id.index, bytes);
            }
        }
        Stage::Clients(greedy)
    }

    /// No client that is there holds much: of those that are away, whose messages are in memory
    /// alone, who holds most loses the oldest half of those that were not sent yet. If most of them
    /// were sent and never acknowledged, the session ends: so its client learns that they are lost.
    fn look_at_absent<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        place: u32,
        most: Option<(usize, SessionId)>,
    ) -> Stage {
        if place < self.sessions.places() {
            self.work.add(HOLDINGS);
            let session = self.sessions.look_at(place);
            let bytes = session.map_or(0, |session| session.outbound.bytes_in_memory());
            let found = (bytes >= GREEDY_BYTES).then(|| (bytes, self.sessions.id_of(place)));
            return Stage::Absent(place + 1, most.max(found));
        }
        let Some((bytes, id)) = most else {
            return Stage::Resting;
        };
        let left = (bytes / 2) as u64;
        let Some(session) = self.sessions.get(id) else {
            return Stage::Resting;
        };
        if session.outbound.queue().bytes() <= left {
            self.counters.clients_relieved += 1;
            self.end_session(cx, id.index, Limit::MemoryOfClient.meaning());
            return Stage::Resting;
        }
        Stage::Dropping(id, left)
    }

    fn drop_oldest_of<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId, left: u64) -> Stage {
        let Some(index) = self.live_session(id) else {
            return Stage::Resting;
        };
        let queue = self.sessions.at(index).outbound.queue_mut();
        if queue.bytes() <= left {
            return Stage::Resting;
        }
        let Some(oldest) = queue.take_oldest() else {
            return Stage::Resting;
        };
        self.work.add(DELIVERY);
        self.drop_entry(cx, index, oldest, DropReason::MemoryFull);
        Stage::Dropping(id, left)
    }

    /// Bytes that a client makes the node hold: its buffers, the messages that wait for it, and the
    /// answers to it that wait for the store or for share groups.
    fn bytes_held_by(&self, index: u32) -> usize {
        let Some(connection) = self.connections.look_at(index) else {
            return 0;
        };
        let session = connection.session();
        let session = session.and_then(|session| self.sessions.look_at(session));
        let waiting = session.map_or(0, |session| session.outbound.bytes_in_memory());
        let half_done = match self.half_done.is_empty() {
            true => 0,
            false => self.half_done.get(&index).map_or(0, |half| half.bytes()),
        };
        let answers = Self::bytes_in_gate(connection.answers_gated) + self.answers.of(index);
        connection.buffer_bytes() + self.layer_bytes_of(index) + waiting + half_done + answers
    }

    /// `bytes` is what the client holds.
    fn take_back_from<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, bytes: usize) {
        let connection = self.connections.at(index);
        let owner = connection.owner();
        self.work
            .add((connection.output_len() / BYTES_PER_UNIT) as u64);
        let dropped = u64::from(connection.drop_qos0_output());
        if dropped > 0 {
            self.counters.drop_messages(DropReason::MemoryFull, dropped);
            if let Some(session) = owner.and_then(|owner| self.live_session(owner)) {
                let session = self.sessions.at(session);
                session.count_drop(DropReason::MemoryFull, dropped, cx.now.wall_ms);
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
