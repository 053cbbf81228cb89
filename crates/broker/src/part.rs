//! Parts: what consumes messages inside the process, such as integrations. A part is a session of
//! the node's own whose carrier is not a Network Connection: it gets messages as they are, not as
//! packets, and answers each with what happened to it.
//!
//! Everything else is as for a client. A durable part is a durable session: the same queue, the
//! same records, the same accounting. Its credit takes the place of the Receive Maximum, what it
//! has *done* is what a client has acknowledged, and what it *refuses* is dropped and counted. It
//! is granted QoS 1 at most, for it knows each message by its id.

pub(crate) mod attached;
pub(crate) mod bounds;
mod call;
pub(crate) mod hold;
pub(crate) mod holds;
pub(crate) mod interface;
pub(crate) mod lane;
mod lane_copy;
mod lane_order;
pub(crate) mod lanes;
mod publish;
pub(crate) mod queue;
mod queue_bounds;
pub(crate) mod receipts;
mod recent;
mod subscribe;

use martlet_codec::ReasonCode;

use crate::connection::Connection;
use crate::fault::{self, Fault};
use crate::id::{ConnectionId, MessageId, start_of};
use crate::node::{Cx, Node};
use crate::routing::{MessageFrom, Sending};
use crate::shard::Shard;

pub use interface::{
    Delivery, OnFull, PartCall, PartEvent, PartId, PartIdentity, PartLine, PartOutcome, PartOutlet,
    PartPublish, PartQueueLimits, PartQueueState, PartReach, PartRefusal, PartSpec,
    PartSubscription, PartTerms, Receipt, ReceiptOutcome, Settlement,
};
pub use lane_copy::LaneTerms;
pub use lane_order::LaneOrder;
pub(crate) use recent::RecentEntries;

impl Shard {
    /// Parts that have been attached.
    pub(crate) fn accepted_parts(&self) -> usize {
        let connections = self.parts.attached.iter().map(|part| part.connection);
        let accepted = connections.filter(|id| {
            let connection = self.connections.get(*id);
            connection.and_then(Connection::session).is_some()
        });
        accepted.count()
    }

    /// Ends a part: its carrier has ended, or it was refused.
    pub(crate) fn part_ended<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        reason: ReasonCode,
        why: &'static str,
    ) {
        if let Some(part) = self.parts.remove(id) {
            end_part(cx, part.id, reason, why);
        }
    }

    /// A message for a part, under the token by which it is settled.
    #[cold]
    #[inline(never)]
    pub(crate) fn hand_over<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        source: MessageFrom<'_, '_>,
        how: Sending,
        subscription_ids: &[u32],
    ) {
        let id = self.connections.id_of(index);
        let message = match source {
            MessageFrom::Routing(routing) => self.hold(routing),
            MessageFrom::Held(message) => message.clone(),
        };
        let dup = how.dup || self.may_be_repeated(id, message.id());
        let dup = dup && !fault::is(Fault::PartDupForgotten);
        let (Some(part), Some(token)) = (self.parts.at(id), how.packet_id) else {
            debug_assert!(false, "a part has its place, and each delivery a token");
            return;
        };
        self.counters.publishes_sent += 1;
        self.counters.publish_bytes_sent += message.payload().len() as u64;
        let delivery = Delivery {
            token,
            age_ms: message.age_ms(cx.now.mono_ms),
            message,
            retained: how.retain,
            dup,
            subscription_ids: subscription_ids.into(),
        };
        let delivery = PartEvent::Delivery(delivery);
        cx.effects.parts.push((part.id, delivery));
        if fault::is(Fault::PartOrderSwapped) {
            swap_last(&mut cx.effects.parts);
        }
    }

    /// A message may have been delivered to the part of this connection in an earlier run of the
    /// node that ended before the record of that was durable: in the last one, if the part was
    /// attached at its end, or in one before.
    fn may_be_repeated(&mut self, id: ConnectionId, message: MessageId) -> bool {
        let (run, last) = (self.run(), self.last_run());
        let came_in = start_of(message.0);
        let session = self.connections.get(id).and_then(Connection::session);
        session.is_some_and(|session| {
            let session = self.sessions.at(session);
            let was_there = came_in < run && session.flags.was_there() || came_in < last;
            was_there && start_of(session.epoch.0) < run && !fault::is(Fault::PartCrashForgotten)
        })
    }

    /// An entry has entered the queue of a part.
    #[cold]
    #[inline(never)]
    pub(crate) fn part_entry_queued(&mut self, session: u32) {
        let Some(connection) = self.sessions.at(session).connection() else {
            // All that is in its queue is durable when it gets `Attached`.
            return;
        };
        let id = self.connections.id_of(connection);
        if let Some(part) = self.parts.at(id) {
            part.recent
                .entered(self.store.records.last(), &self.store.records);
        }
    }

    /// Whether the first entry of the queue of a part may be delivered at once.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_next_of_part_durable(&mut self, session: u32) -> bool {
        let state = self.sessions.at(session);
        let Some(connection) = state.connection() else {
            return false;
        };
        let queued = state.outbound.queue().len();
        let id = self.connections.id_of(connection);
        self.parts
            .at(id)
            .is_some_and(|part| part.recent.is_first_durable(queued, &self.store.records))
    }

    fn session_of_part(&mut self, id: PartId) -> Option<(ConnectionId, u32)> {
        let connection = self.parts.find(id)?.connection;
        let session = self.connections.get(connection)?.session()?;
        Some((connection, session))
    }
}

/// Swaps the last two deliveries, if they are for the same part.
fn swap_last(events: &mut [(PartId, PartEvent)]) {
    if let [
        ..,
        (one, PartEvent::Delivery(_)),
        (other, PartEvent::Delivery(_)),
    ] = events
        && one == other
    {
        let last = events.len() - 1;
        events.swap(last - 1, last);
    }
}

fn end_part<N: Node>(cx: &mut Cx<'_, N>, id: PartId, reason: ReasonCode, why: &'static str) {
    cx.effects
        .parts
        .push((id, PartEvent::Ended { reason, why }));
}
