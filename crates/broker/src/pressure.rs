//! Memory runs short: who holds most gives back first.
//!
//! While less than an eighth of the node's memory is left, each shard looks for the clients that
//! hold most of its part. They lose the QoS 0 messages in their output first. Who still holds most
//! then loses the connection, and with it, if the session ends, all that waits for it. Others go
//! on. Before them, connections that have not logged in give back (`lobby_memory.rs`).

use std::collections::BTreeMap;

use martlet_codec::ReasonCode;

use crate::connection::Phase;
use crate::counters::DropReason;
use crate::decision::Limit;
use crate::effect::ConnectionEffect;
use crate::node::{Cx, Node};
use crate::shard::{Ending, Shard};
use crate::subscribe::Asked;
use crate::work::CLOSING;

/// Clients per millisecond of the interval between two checks: few clients are checked each time,
/// more of them less often, so that checks cost little.
const CLIENTS_PER_MS: usize = 1000;
/// Clients that give back memory in one check, at most.
const CLIENTS_PER_LOOK: usize = 256;
/// Bytes below which a client is not asked to give back memory.
const GREEDY_BYTES: usize = 64 * 1024;

impl Shard {
    /// Takes memory back from the clients of this shard that hold most, up to `excess` bytes;
    /// `used` bytes are in use here.
    pub(crate) fn relieve<N: Node>(&mut self, cx: &mut Cx<'_, N>, used: usize, excess: usize) {
        if cx.now.mono_ms < self.next_relief_ms || used < GREEDY_BYTES {
            return;
        }
        let interval_ms = (self.connections.len() / CLIENTS_PER_MS) as u64;
        self.next_relief_ms = cx.now.mono_ms + interval_ms;
        let answers = self.answers_held();
        let answers_for = |index: u32| answers.get(&index).copied().unwrap_or_default();
        let mut greedy: Vec<(usize, u32)> = self
            .connections
            .indexed()
            .filter(|(_, connection)| connection.phase == Phase::Accepted)
            .map(|(index, _)| (self.bytes_held_by(index) + answers_for(index), index))
            .filter(|(bytes, _)| *bytes >= GREEDY_BYTES)
            .collect();
        let Some(&(most, _)) = greedy.iter().max() else {
            return self.relieve_of_absent(cx);
        };
        greedy.retain(|(bytes, _)| *bytes >= most / 2);
        greedy.sort_unstable_by(|one, other| other.cmp(one));
        greedy.truncate(CLIENTS_PER_LOOK);
        for (bytes, index) in greedy {
            self.take_back_from(cx, index, bytes, answers_for(index));
            if used.saturating_sub(self.used_bytes()) >= excess {
                break;
            }
        }
        self.settle(cx);
    }

    /// No client that is there holds much: of those that are away, whose messages are in memory
    /// alone, who holds most loses the oldest half of those that were not sent yet. If most of them
    /// were sent and never acknowledged, the session ends: so its client learns that they are lost.
    fn relieve_of_absent<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if self.reads_back {
            return;
        }
        let absent = self.sessions.iter();
        let absent = absent.map(|(index, session)| (session.outbound.bytes_in_memory(), index));
        let Some((bytes, index)) = absent.max().filter(|(bytes, _)| *bytes >= GREEDY_BYTES) else {
            return;
        };
        let left = (bytes / 2) as u64;
        if self.sessions.at(index).outbound.queue().bytes() <= left {
            self.counters.clients_relieved += 1;
            return self.end_session(cx, index, Limit::MemoryOfClient.meaning());
        }
        loop {
            let queue = self.sessions.at(index).outbound.queue_mut();
            if queue.bytes() <= left {
                return;
            }
            let Some(oldest) = queue.take_oldest() else {
                return;
            };
            self.drop_entry(cx, index, oldest, DropReason::MemoryFull);
        }
    }

    /// Bytes that a client makes the node hold: its buffers and the messages that wait for it.
    fn bytes_held_by(&self, index: u32) -> usize {
        let Some(connection) = self.connections.look_at(index) else {
            return 0;
        };
        let session = connection.session();
        let session = session.and_then(|session| self.sessions.look_at(session));
        let waiting = session.map_or(0, |session| session.outbound.bytes_in_memory());
        connection.buffer_bytes() + self.layer_bytes_of(index) + waiting
    }

    /// Bytes of the answers that wait for the store or for share groups, by the places of the
    /// connections that wait for them.
    fn answers_held(&self) -> BTreeMap<u32, usize> {
        let mut held = BTreeMap::new();
        if self.gated_bytes() + self.answer_bytes < GREEDY_BYTES {
            return held;
        }
        let mut add = |index: u32, bytes: usize| *held.entry(index).or_default() += bytes;
        for (connection, bytes) in self.gated_answers() {
            if self.connections.get(connection).is_some() {
                add(connection.index, bytes);
            }
        }
        for (_, pending) in &self.pending_subacks {
            if let Asked::Client { connection, .. } = &pending.asked
                && self.connections.get(*connection).is_some()
            {
                add(connection.index, pending.asked.bytes());
            }
        }
        for (index, half) in &self.half_done {
            add(*index, half.bytes());
        }
        held
    }

    /// `bytes` is what the client holds, `answers` of it are answers that wait.
    fn take_back_from<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        bytes: usize,
        answers: usize,
    ) {
        let connection = self.connections.at(index);
        let owner = connection.owner();
        let dropped = u64::from(connection.drop_qos0_output());
        if dropped > 0 {
            self.counters.drop_messages(DropReason::MemoryFull, dropped);
            if let Some(session) = owner.and_then(|owner| self.live_session(owner)) {
                let session = self.sessions.at(session);
                session.count_drop(DropReason::MemoryFull, dropped, cx.now.wall_ms);
            }
            self.charge_buffers(index);
        }
        if self.bytes_held_by(index) + answers > bytes / 2 {
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
