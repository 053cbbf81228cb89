//! Work that must not happen in the middle of something else, such as messages between the share
//! groups and the members of one shard.

use crate::connection::Phase;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::end::Ending;

impl Shard {
    /// Carries out what must not happen in the middle of something else. Mostly there is nothing.
    #[inline]
    pub(crate) fn settle<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let groups = &self.groups;
        let is_settled = groups.own_traffic.is_empty() && groups.reads_changed.is_empty();
        if !is_settled || !self.waiting.closing.is_empty() {
            self.settle_all(cx);
        }
    }

    #[inline(never)]
    fn settle_all<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        loop {
            // First: what a member refuses comes back to a group that knows why.
            if let Some(session) = self.groups.reads_changed.pop() {
                self.send_reads(cx, session);
            } else if let Some(message) = self.groups.own_traffic.pop_front() {
                let own = self.id;
                self.share_received(cx, own, message);
            } else if let Some((id, reason, cause)) = self.waiting.closing.pop() {
                if self.connections.get(id).is_some() {
                    self.end_in_turn(cx, id.index, Ending::with_disconnect(reason, cause));
                }
            } else {
                return;
            }
        }
    }

    /// Ends an accepted connection, or when the turn is over, in its turn. Its client is not obeyed
    /// any more and is sent nothing but what it was sent already, so that for it, it has ended.
    fn end_in_turn<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, ending: Ending) {
        let connection = self.connections.at(index);
        if connection.phase != Phase::Accepted || connection.flags.ending() {
            return;
        }
        let waits = self.has_done_enough();
        let connection = self.connections.at(index);
        let Some(session) = connection.session() else {
            return;
        };
        if !waits || !connection.flags.admitted() {
            return self.end_connection(cx, index, ending);
        }
        self.stop_obeying(index, ending);
        self.send_presence(cx, session, false);
    }
}
