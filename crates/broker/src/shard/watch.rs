//! Timers of what waits: connections for their clients or for the store, messages that may expire.

use crate::connection::Phase;
use crate::effect::QueueOwner;
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::session::queue::Queue;
use crate::shard::Shard;
use crate::timer::Timer;

impl Shard {
    /// Sets a timer for output or answers that wait from now on.
    pub(crate) fn watch_stalled<N: Node>(&mut self, cx: &Cx<'_, N>, id: ConnectionId) {
        if self.connections.at(id.index).stalled.is_some() {
            return;
        }
        if let Some(due_ms) = self.stalled_at(cx.now.mono_ms, id.index) {
            let due_ms = due_ms.max(cx.now.mono_ms);
            let timer = self.timers.wheel.arm(due_ms, Timer::Stalled(id));
            self.connections.at(id.index).stalled = Some(timer);
        }
    }

    /// When the connection will have waited too long, if nothing moves until then.
    pub(super) fn stalled_at(&mut self, now_ms: u64, index: u32) -> Option<u64> {
        let output_ms = u64::from(self.settings.limits.output_stalled_secs) * 1000;
        let store_ms = u64::from(self.settings.limits.store_stalled_secs) * 1000;
        let connection = self.connections.at(index);
        let output = connection.output_waits_since_ms();
        let output = output
            .filter(|_| output_ms > 0)
            .map(|since_ms| since_ms + output_ms);
        let gated_since_ms = connection.gated_since.ms(now_ms);
        let store = gated_since_ms.filter(|_| store_ms > 0 && connection.answers_gated > 0);
        let store = store.map(|since_ms| since_ms + store_ms);
        let patience_ms = u64::from(self.settings.limits.store_patience_secs()) * 1000;
        let held_ms = match connection.phase {
            // A CONNECT is answered in any case.
            Phase::Lobby => patience_ms,
            _ => store_ms,
        };
        let held_since_ms = connection.held_for_store_since.ms(now_ms);
        let held_since_ms = held_since_ms.filter(|_| held_ms > 0);
        let held = held_since_ms.map(|since_ms| since_ms + held_ms);
        let waits_for_connack = connection.session().is_some() && !connection.flags.admitted();
        let connack = gated_since_ms.filter(|_| waits_for_connack);
        let connack = connack.map(|since_ms| since_ms + patience_ms);
        let due = output.into_iter().chain(store).chain(held).chain(connack);
        due.min()
    }

    /// Messages of a queue may expire while they wait.
    pub(crate) fn watch_queue_expiry(&mut self, owner: QueueOwner) {
        let queue = self.queue_of(owner);
        let Some(due_ms) = queue.and_then(Queue::expiry_to_watch) else {
            return;
        };
        self.timers.queue_expires(due_ms, owner);
    }

    pub(super) fn queue_of(&mut self, owner: QueueOwner) -> Option<&mut Queue> {
        match owner {
            QueueOwner::Session(id) => {
                let session = self.sessions.live(id);
                session.and_then(|index| self.sessions.at(index).outbound.queue_used())
            }
            QueueOwner::Group(id) => self.groups.queue(id),
        }
    }
}
