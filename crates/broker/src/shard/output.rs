//! Output: who has something to be written, and what that takes of the shard's memory.

use crate::effect::ConnectionEffect;
use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::shard::Shard;

impl Shard {
    /// The connection has new output.
    pub(crate) fn output_appended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.counters.packets_sent += 1;
        let connection = self.connections.at(index);
        if !connection.flags.write_pending {
            connection.flags.write_pending = true;
            connection.last_progress_ms = cx.now.mono_ms;
            let id = ConnectionId {
                index,
                generation: connection.generation,
            };
            cx.effects.connections.push(ConnectionEffect::Write(id));
        }
        if connection.buffer_bytes() != connection.charged_bytes as usize {
            self.charge_buffers(index);
        }
    }

    pub(super) fn count_qos0_delivered(&mut self, owner: Option<SessionId>, count: u64) {
        if count == 0 {
            return;
        }
        self.counters.delivered += count;
        if let Some(session) = owner.and_then(|owner| self.live_session(owner)) {
            self.sessions.at(session).accounting.delivered += count;
        }
    }

    pub(super) fn charge_buffers(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let bytes = connection.buffer_bytes();
        let before = core::mem::replace(&mut connection.charged_bytes, bytes as u32) as usize;
        self.buffer_bytes = self.buffer_bytes + bytes - before;
    }
}
