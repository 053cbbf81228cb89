//! Whose turn it is: connections whose packets were held back, and connections and sessions that
//! are to end when many do at once.
//!
//! Held-back input waits in two queues. A connection that was held back only because a turn was
//! over comes first and gets a small share. A connection that needs more waits with those that have
//! used up a whole share. Both have a part of each turn, so neither starves: a connection with
//! little input does not wait for thousands with much.

use std::collections::VecDeque;

use crate::connection::Phase;
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::end::Ending;
use crate::shard::queues::{Ends, InputQueue};
use crate::work::{ENDS, Eighths, INPUT, NODE, QUICK_INPUT};

/// Connections whose input is worked off per call of [`Shard::work`], of either queue.
const INPUTS_PER_WORK: usize = 256;

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

    /// Works off held-back input, up to its part of this turn. Connections without a turn so far
    /// come first to have the next.
    pub(super) fn work_off_queued_input<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        self.waiting.input.is_served = true;
        self.work.small_shares = true;
        self.serve_queue(cx, |input| &mut input.quick, QUICK_INPUT);
        self.work.small_shares = false;
        self.serve_queue(cx, |input| &mut input.long, INPUT);
        self.waiting.input.is_served = false;
    }

    /// Works off the input of connections of one queue until these eighths of the turn are over: of
    /// one at least, and of none twice.
    fn serve_queue<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        queue: impl Fn(&mut InputQueue) -> &mut VecDeque<ConnectionId>,
        until: Eighths,
    ) {
        for count in 0..queue(&mut self.waiting.input).len().min(INPUTS_PER_WORK) {
            if count > 0 && self.work.is_past(until) {
                return;
            }
            let Some(id) = queue(&mut self.waiting.input).pop_front() else {
                return;
            };
            self.work_off_input_of(cx, id);
        }
    }

    fn work_off_input_of<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.flags.set_input_queued(false);
        connection.flags.set_input_held(false);
        match connection.flags.transport_closed() {
            true if connection.flags.admitted() => self.finish_input(cx, id),
            // Its turn comes when it is admitted, or ended.
            true => {}
            false => {
                self.work_off_input(cx, id);
                self.after_input(cx, id);
            }
        }
        self.settle(cx);
    }

    /// Ends an accepted connection, or when the turn is over, in its turn. Its client is not obeyed
    /// any more and is sent nothing but what it was sent already, so that for it, it has ended.
    pub(crate) fn end_in_turn<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, ending: Ending) {
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

    /// Ends what is to end in its turn, up to its part of this one.
    pub(super) fn go_on_ending<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some((id, ending)) = self.waiting.ends.connections.pop_front() {
            if self.connections.get(id).is_some() {
                self.end_connection(cx, id.index, ending);
                self.settle(cx);
            }
            if self.work.is_past(ENDS) {
                return;
            }
        }
        while let Some(id) = self.waiting.ends.sessions.pop_front() {
            if let Some(index) = self.sessions.live(id) {
                // Clients that wait for messages of their own are written to before.
                cx.effects.is_fanning_out = true;
                self.finish_leaving(cx, index);
                cx.effects.is_fanning_out = false;
                self.settle(cx);
            }
            if self.work.is_past(ENDS) {
                return;
            }
        }
        self.waiting.ends = Ends::default();
    }
}
