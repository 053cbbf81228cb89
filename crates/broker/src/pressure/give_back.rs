//! How the largest holders give back memory.

use martlet_codec::ReasonCode;
use martlet_permission::Limit;

use crate::connection::Phase;
use crate::counters::DropReason;
use crate::effect::ConnectionEffect;
use crate::id::SessionId;
use crate::memory_use::SMALL_BYTES;
use crate::node::{Cx, Node};
use crate::pressure::relief::{Holder, Stage};
use crate::session::queue::Window;
use crate::shard::{Ending, Shard};
use crate::work::{BYTES_PER_UNIT, CLOSING, DELIVERY, HOLDINGS};

impl Shard {
    pub(super) fn take_back_from_last<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        mut greedy: Vec<Holder>,
    ) -> Stage {
        if self.memory.relief.to_take == 0 {
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
                        self.memory.relief.has_taken(bytes);
                    }
                }
                Stage::Holders(greedy)
            }
            Holder::Session(id) => self.take_back_from_session(cx, id, greedy),
            Holder::Group(id) => {
                let reads_back = self.store.reads_back;
                let Some(queue) = self.groups.queue(id) else {
                    return Stage::Holders(greedy);
                };
                let bytes = queue.bytes_held();
                if reads_back {
                    // What is in the store is read back once a member takes it.
                    queue.put_away(Window::Nothing);
                }
                let put_away = bytes.saturating_sub(queue.bytes_held());
                self.memory.relief.has_taken(put_away);
                Stage::Dropping(holder, bytes / 2, greedy)
            }
        }
    }

    /// A session loses the oldest half of what was not sent yet, unless it is that of a part whose
    /// publishers wait instead. If its messages are in memory
    /// alone, and most of them were sent and never acknowledged, it ends: so its client learns that
    /// they are lost.
    fn take_back_from_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        greedy: Vec<Holder>,
    ) -> Stage {
        if self.sessions.get(id).is_none() {
            return Stage::Holders(greedy);
        }
        let bytes = self.bytes_of_session(id.index);
        if bytes < SMALL_BYTES {
            return Stage::Holders(greedy);
        }
        if self.hold_for_memory(cx, id) {
            return Stage::Holders(greedy);
        }
        let left = bytes / 2;
        let reads_back = self.store.reads_back;
        if !reads_back && self.sessions.at(id.index).outbound.queue().bytes_held() <= left {
            self.counters.clients_relieved += 1;
            self.end_session(cx, id.index, Limit::MemoryOfClient.into());
            self.memory.relief.has_taken(bytes);
            return Stage::Holders(greedy);
        }
        Stage::Dropping(Holder::Session(id), left, greedy)
    }

    /// Drops the oldest message of a session or share group.
    pub(super) fn drop_oldest_of<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        holder: Holder,
        left: usize,
        greedy: Vec<Holder>,
    ) -> Stage {
        let reads_back = self.store.reads_back;
        let (queue, is_there) = match holder {
            Holder::Session(id) => match self.sessions.live(id) {
                Some(index) => {
                    let session = self.sessions.at(index);
                    let is_there = session.connection().is_some();
                    (session.outbound.queue_used(), is_there)
                }
                None => (None, false),
            },
            Holder::Group(id) => (self.groups.queue(id), false),
            Holder::Client(_) => (None, false),
        };
        let oldest = queue.and_then(|queue| {
            if reads_back && queue.bytes_of_rows() > left {
                return queue.take_oldest_stored();
            }
            // The window of a client that is there is its connection's, and what is in the store
            // too stays.
            let gives = !is_there && queue.bytes_held() > left;
            let gives = gives && !(reads_back && queue.is_oldest_recorded());
            gives.then(|| queue.take_oldest()).flatten()
        });
        let Some(oldest) = oldest else {
            return Stage::Holders(greedy);
        };
        self.work.add(DELIVERY);
        self.memory.relief.has_taken(oldest.bytes_in_memory());
        match holder {
            Holder::Session(id) => {
                self.drop_entry(cx, id.index, oldest, DropReason::MemoryFull);
            }
            Holder::Group(id) => self.drop_taken_from_group(cx, id, &oldest),
            Holder::Client(_) => {}
        }
        Stage::Dropping(holder, left, greedy)
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
            match owner.and_then(|owner| self.sessions.live(owner)) {
                Some(session) => {
                    self.count_drop(session, reason, dropped, cx.now.wall_ms);
                    self.notify_losses(cx, session, reason, "");
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
                return self.end_connection(cx, index, Ending::with_disconnect(reason, limit));
            }
            // It does not read, so a DISCONNECT would not reach it. Its output is dropped at once.
            self.end_connection(cx, index, Ending::without_disconnect(reason, limit));
            self.forget_connection(id);
            self.work.add(CLOSING);
            cx.effects.connections.push(ConnectionEffect::Abort(id));
        }
    }
}
