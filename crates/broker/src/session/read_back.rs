//! Requests for messages of a session that lie in the store.

use crate::effect::{PageOf, QueueOwner, QueueRead};
use crate::id::MessageId;
use crate::node::{Cx, Node};
use crate::session::queue::Queue;
use crate::shard::Shard;

/// Messages in flight read back at once.
const IN_FLIGHT_PAGE: usize = 128;

impl Shard {
    /// Reads the next messages of a queue from the store, if the queue runs low and the store has
    /// more.
    pub(crate) fn read_queue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let queue = self.sessions.at(index).outbound.queue_used();
        if let Some(messages) = queue.and_then(Queue::page_to_read) {
            self.read_back(cx, index, PageOf::Queue, messages);
        }
    }

    /// Asks for messages of a session that lie in the store.
    fn read_back<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        of: PageOf,
        messages: Vec<MessageId>,
    ) {
        cx.effects.reads.push(QueueRead {
            owner: QueueOwner::Session(self.sessions.id_of(index)),
            of,
            messages,
            with_publishers: self.sessions.at(index).flags.part(),
        });
    }

    /// Asks for messages that were in flight before a restart and are to be sent again.
    pub(super) fn read_in_flight<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let outbound = &mut self.sessions.at(index).outbound;
        if core::mem::replace(&mut outbound.waiting_mut().reading_in_flight, true) {
            return;
        }
        let stored = outbound.stored_unsent().map(|(_, id)| id);
        let messages = stored.take(IN_FLIGHT_PAGE).collect();
        self.read_back(cx, index, PageOf::InFlight, messages);
    }
}
