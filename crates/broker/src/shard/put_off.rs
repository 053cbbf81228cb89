//! Work that was put off goes on, each kind up to its part of a turn.

use std::collections::VecDeque;

use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::shard::Shard;
use crate::shard::ending::SUBSCRIPTIONS_AT_ONCE;
use crate::shard::queues::{Ends, InputQueue};
use crate::work::{ENDS, Eighths, INPUT, NODE, QUICK_INPUT};

/// Connections whose input is worked off per call of [`Shard::work`], of either queue.
const INPUTS_PER_WORK: usize = 256;

/// Part of a turn that reviews may take, as a divisor.
const PART_OF_TURN: u64 = 8;

impl Shard {
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

    /// Goes on taking subscriptions of sessions that have ended out of the index.
    pub(super) fn unindex_retired<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some(index) = self.sessions.first_retired() {
            if self.unindex_some(cx, index, SUBSCRIPTIONS_AT_ONCE) {
                self.sessions.remove_retired();
            }
            if self.work.is_past(ENDS) {
                return;
            }
        }
    }

    /// Goes on with reviews, for a part of this turn.
    pub(super) fn go_on_reviewing<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let began = self.work.done;
        let units = self.settings.work.turn / PART_OF_TURN;
        while self.work.done - began < units {
            if let Some(id) = self.permits.reviews.revoked.pop() {
                if let Some(session) = self.sessions.live(id) {
                    self.return_all_shared(cx, session);
                }
            } else if let Some(place) = self.permits.reviews.next_place() {
                if self.sessions.look_at(place).is_some() {
                    self.review(place);
                }
            } else {
                self.permits.end_review();
                break;
            }
            self.work.add(NODE);
            self.settle(cx);
        }
    }

    /// Goes on with the groups whose queue was too long for one turn.
    pub(super) fn serve_groups_put_off<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some(index) = self.groups.next_put_off() {
            self.serve_group(cx, index);
            self.settle(cx);
            if self.work.is_past(ENDS) {
                return;
            }
        }
    }
}
