//! Publishers wait for a part whose queue is full, if it is to *hold* them: a PUBLISH whose topic
//! the part takes stays in its connection's input, with all that follows but acknowledgements and
//! pings, on whichever shard. Nothing is counted for each publisher, so nothing grows while a part
//! takes nothing for days.
//!
//! What is between shards when the hold begins enters the queue, beyond its bound. So nothing is
//! dropped that is acknowledged, and the order stays. The mailboxes limit how much that is.

use martlet_codec::{FixedHeader, ProtocolVersion, Publish, TopicName};
use martlet_fault::{self as fault, Fault};

use crate::effect::ShardMessage;
use crate::id::{SessionEpoch, SessionId};
use crate::node::{Cx, Node};
use crate::part::holds::Hold;
use crate::part::lanes::Lane;
use crate::shard::Shard;
use crate::work::NODE;

impl Shard {
    /// The queue of a part is full: publishers wait from now on.
    pub(crate) fn begin_hold<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        let id = self.sessions.id_of(session);
        let Some(queue) = self.parts.queues.get_mut(&id) else {
            return;
        };
        if core::mem::replace(&mut queue.holds, true) {
            return;
        }
        queue.held_at = self.sessions.at(session).outbound.queue().bytes();
        let lane = self.parts.lanes.of(id).map(Lane::held);
        let is_lane = lane.is_some();
        let (tenant, filters) = match lane {
            Some(held) => held,
            None => {
                let tenant = self.sessions.at(session).tenant;
                (Some(tenant), self.filters_of(session).into())
            }
        };
        let state = self.sessions.at(session);
        let hold = Hold {
            part: state.epoch,
            tenant,
            filters,
            keeps_qos0: state.flags.keeps_qos0(),
            passes_on: self.parts.passes_on(id),
        };
        // A lane takes nothing that other shards receive.
        if !is_lane && !fault::is(Fault::HoldNotTold) {
            self.send_to_other_shards(cx, &ShardMessage::Hold(hold.clone()));
        }
        self.parts.holds.0.push(hold);
    }

    /// Memory is short, and what the part has lies on the disk: its publishers wait until it is
    /// not. False: it holds no publisher back.
    pub(crate) fn hold_for_memory<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId) -> bool {
        let is_stored = self.store.reads_back
            && self.sessions.get(id).is_some_and(|session| session.durable)
            && !fault::is(Fault::ReliefDropsHeld);
        if !is_stored || !self.parts.is_holding(id) {
            return false;
        }
        if let Some(queue) = self.parts.queues.get_mut(&id) {
            queue.holds_for_memory = true;
        }
        self.begin_hold(cx, id.index);
        true
    }

    /// Publishers need not wait any more, if there is room for an eighth of the queue.
    pub(crate) fn end_hold_if_room<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        if self.parts.queues.is_empty() {
            return;
        }
        let id = self.sessions.id_of(session);
        let queue = self.parts.queues.get(&id);
        let Some(queue) = queue.filter(|queue| queue.holds) else {
            return;
        };
        if queue.holds_for_memory && self.memory.is_short() {
            return;
        }
        let bytes_max = self.bounds_of_queue(id).bytes;
        let room_from = bytes_max - bytes_max / 8;
        let has_room = self.sessions.at(session).outbound.queue().bytes() <= room_from;
        if fault::is(Fault::HoldNotEnded) {
            return;
        }
        if has_room {
            self.end_hold(cx, id);
        }
    }

    /// Publishers need not wait for this part any more.
    pub(crate) fn end_hold<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: SessionId) {
        let queue = self.parts.queues.get_mut(&id);
        let Some(queue) = queue.filter(|queue| queue.holds) else {
            return;
        };
        (queue.holds, queue.holds_for_memory) = (false, false);
        queue.held_at = 0;
        let part = self.sessions.at(id.index).epoch;
        if self.parts.lanes.of(id).is_none() && !fault::is(Fault::HoldOverNotTold) {
            self.send_to_other_shards(cx, &ShardMessage::HoldOver(part));
        }
        self.hold_is_over(part);
    }

    /// A part holds publishers back no more: waiting publishers continue in their turns.
    pub(crate) fn hold_is_over(&mut self, part: SessionEpoch) {
        self.parts.holds.0.retain(|hold| hold.part != part);
        self.operations.release_held();
        self.waiting.held_back.release_if(true);
    }

    /// Whether the topic of a PUBLISH is one that a part holds back. A malformed one is not: it
    /// ends the connection.
    #[cold]
    pub(crate) fn is_held_topic(&mut self, index: u32, header: &FixedHeader, body: &[u8]) -> bool {
        let connection = self.connections.at(index);
        let version = connection.version;
        let Some(session) = connection.session() else {
            return false;
        };
        let Some(publish) = looked_at(header, body, version) else {
            return false;
        };
        self.work.add(NODE * self.parts.holds.0.len() as u64);
        let tenant = self.sessions.at(session).tenant;
        let aliased = match publish.topic {
            Some(_) => None,
            None if fault::is(Fault::HoldForgetsAlias) => None,
            None => self.connections.at(index).topic_of_alias(&publish),
        };
        let topic = match &aliased {
            Some(topic) => TopicName::new(topic).ok(),
            None => publish.topic,
        };
        topic.is_some_and(|topic| self.parts.holds.hold_topic(tenant, topic, publish.qos))
    }

    fn send_to_other_shards<N: Node>(&self, cx: &mut Cx<'_, N>, message: &ShardMessage) {
        for (shard, batch) in cx.effects.batches.iter_mut().enumerate() {
            if shard != usize::from(self.id.0) {
                batch.push(message.clone());
            }
        }
    }
}

/// A PUBLISH that is looked at before it is worked off; none if something is wrong with it.
#[cold]
#[inline(never)] // So that the usual way of a PUBLISH keeps its own copy of the decoder.
pub(crate) fn looked_at<'a>(
    header: &FixedHeader,
    body: &'a [u8],
    version: ProtocolVersion,
) -> Option<Publish<'a>> {
    Publish::decode(header.flags, body, version).ok()
}
