//! Output: which connections have something to be written, and how much memory that takes.

use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::shard::Shard;

impl Shard {
    /// The connection has new output.
    pub(crate) fn output_appended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.packets_sent += 1;
        if self.connections.at(index).appended(cx, index) {
            self.charge_buffers(index);
        }
    }

    pub(super) fn count_qos0_delivered(&mut self, owner: Option<SessionId>, count: u64) {
        if count == 0 {
            return;
        }
        self.counters.delivered += count;
        if let Some(session) = owner.and_then(|owner| self.sessions.live(owner)) {
            self.sessions.at(session).accounting.delivered += count;
        }
    }

    pub(crate) fn charge_buffers(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let (bytes, before) = connection.charge();
        self.memory.charge_buffers(bytes, before);
        if connection.phase.is_lobby() {
            let generation = connection.generation;
            let id = ConnectionId { index, generation };
            self.change_held(id, |held| held.buffers = bytes as u32);
        }
    }
}
