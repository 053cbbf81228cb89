//! Whose turn it is: connections whose packets were held back, and connections and sessions that
//! are to end when many do at once.
//!
//! Held-back input waits in two queues. A connection that was held back only because a turn was
//! over comes first and gets a small share. A connection that needs more waits with those that have
//! used up a whole share. Both have a part of each turn, so neither starves: a connection with
//! little input does not wait for thousands with much.

use crate::connection::Phase;
use crate::shard::Shard;
use crate::shard::end::Ending;
use crate::work::NODE;

impl Shard {
    /// The connection's input is worked off soon.
    pub(crate) fn queue_input(&mut self, index: u32) {
        self.queue_input_in(index, false);
    }

    /// Queues the input of a connection that has used up its share. When that was a small one at
    /// the end of another connection's turn, it has not had one yet.
    pub(super) fn queue_input_after_share(&mut self, index: u32) {
        self.queue_input_in(index, self.waiting.input.is_served);
    }

    fn queue_input_in(&mut self, index: u32, is_long: bool) {
        let id = self.connections.id_of(index);
        let connection = self.connections.at(index);
        let waiting = connection.input.is_some() || connection.flags.reading_paused();
        if waiting && !connection.flags.input_queued() {
            connection.flags.set_input_queued(true);
            match is_long {
                true => self.waiting.input.long.push_back(id),
                false => self.waiting.input.quick.push_back(id),
            }
        }
    }

    /// Ends an accepted connection in its turn, wherever this is called from. From now on its
    /// client is not obeyed and is sent nothing.
    pub(crate) fn stop_obeying(&mut self, index: u32, ending: Ending) {
        let id = self.connections.id_of(index);
        let connection = self.connections.at(index);
        if connection.phase != Phase::Accepted || connection.flags.ending() {
            return;
        }
        if !connection.flags.admitted() {
            // It has not been obeyed yet, and ends once all is settled.
            return self.waiting.closing.push((id, ending.reason, ending.cause));
        }
        connection.flags.set_admitted(false);
        connection.flags.set_ending(true);
        connection.flags.set_input_held(false);
        let input = connection.input.take();
        self.buffers.pool.put(input);
        self.charge_buffers(index);
        self.work.add(NODE);
        self.waiting.ends.connections.push_back((id, ending));
    }

    /// The rest of what the end of its connection means for a session comes in its turn.
    pub(super) fn finish_leaving_later(&mut self, index: u32) {
        let id = self.sessions.id_of(index);
        self.sessions.at(index).flags.set_leaving(true);
        self.waiting.ends.sessions.push_back(id);
    }
}
