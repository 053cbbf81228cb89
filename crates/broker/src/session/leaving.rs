//! Work that waits for a client when its connection or session ends, or another connection resumes
//! it.

use std::sync::Arc;

use martlet_codec::QoS;

use crate::counters::DropReason;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::node::{Cx, Node};
use crate::part::interface::ReceiptOutcome;
use crate::session::outbound::EndedQueue;
use crate::session::queue::{Queue, TakenEntry};
use crate::shard::Shard;
use crate::work::{ENDS, FREED_MESSAGE};

/// Number of messages in the queue of an ending session whose drops are reported one by one, if an
/// observer wants that. Further ones are only counted.
const DROPS_NOTIFIED_AT_END: usize = 1024;

/// Messages whose memory is given back at once when their session ends.
const FREED_AT_ONCE: usize = 256;

impl Shard {
    /// A connection took the session over: what was under way is sent again [MQTT-4.4.0-1].
    pub(crate) fn resume_outbound(&mut self, index: u32) {
        let session = self.sessions.at(index);
        session.outbound.restart();
        if fault::is(Fault::TakeoverForgetsInFlight)
            || fault::is(Fault::PartInFlightForgotten) && session.flags.part()
        {
            session.outbound.unsent_mut().clear();
        }
    }

    /// The connection has ended: what a share group handed over and was not sent goes back to it.
    pub(crate) fn pause_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        // Without bounds: as it was restored.
        let lost_by = match self.work.unbounded {
            true => Fault::ShareReturnLostAtStart,
            false => Fault::ShareReturnLostAway,
        };
        let queue = self.sessions.at(index).outbound.queue_used();
        for entry in queue.map(Queue::take_shared).unwrap_or_default() {
            self.return_shared(cx, index, entry, false, lost_by);
        }
        let window = self.window(index);
        let lets_go = self.lets_messages_go(index);
        let outbound = &mut self.sessions.at(index).outbound;
        if let Some(queue) = outbound.queue_used() {
            queue.put_away(window);
        }
        if lets_go {
            outbound.put_away();
        }
        outbound.rest_long();
    }

    /// The session ends with all it held.
    pub(crate) fn abandon_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let mut outbound = core::mem::take(&mut self.sessions.at(index).outbound);
        for (_, message) in outbound.in_flight.drain() {
            let sent_qos2 = message.sent_before && message.publish_qos() == Some(QoS::ExactlyOnce);
            if let Some(entry) = message.into_entry() {
                self.abandon(cx, index, entry, sent_qos2, Fault::ShareReturnLostAtEnd);
            }
        }
        let Some(waiting) = outbound.waiting else {
            return;
        };
        let mut queue = waiting.queue;
        for entry in queue.take_shared() {
            self.abandon(cx, index, entry, false, Fault::ShareReturnLostUnsent);
        }
        let is_observed_drop =
            self.is_drop_observed(index, "") || self.observers.wants.any(Wants::TOPICS);
        let one_by_one = if is_observed_drop {
            DROPS_NOTIFIED_AT_END
        } else {
            0
        };
        for entry in queue.take_all().take(one_by_one) {
            self.abandon(cx, index, entry, false, Fault::ShareReturnLostUnsent);
        }
        let (left, wall_ms) = (queue.len() as u64, cx.now.wall_ms);
        self.count_drop(index, DropReason::SessionEnded, left, wall_ms);
        let client_id = &self.sessions.at(index).client_id;
        let receiver = Arc::clone(client_id);
        self.free_queue(EndedQueue { queue, receiver });
    }

    /// Gives the memory of a queue back, in later turns where that takes long.
    pub(crate) fn free_queue(&mut self, ended: EndedQueue) {
        let has_receipts = self.parts.receipts.due() > 0 && !ended.queue.is_empty();
        if ended.queue.in_memory() > FREED_AT_ONCE || has_receipts {
            self.waiting.ended_queues.push_back(ended);
        }
    }

    /// Goes on giving back the memory of queues whose sessions have ended, and tells the receipts
    /// of what was in them.
    pub(crate) fn free_ended_queues<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some(mut ended) = self.waiting.ended_queues.pop_front() {
            let mut freed = 0;
            for entry in ended.queue.take_all().take(FREED_AT_ONCE) {
                freed += FREED_MESSAGE;
                if entry.wants_receipt() {
                    let dropped = ReceiptOutcome::Dropped(DropReason::SessionEnded);
                    let receiver = Arc::clone(&ended.receiver);
                    self.end_receipt_of(cx, entry.id(), receiver, dropped);
                }
            }
            self.work.add(freed);
            self.free_queue(ended);
            if self.work.is_past(ENDS) {
                return;
            }
        }
    }

    fn abandon<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
        sent_qos2: bool,
        lost_by: Fault,
    ) {
        if entry.ticket().is_some() {
            self.return_shared(cx, index, entry, sent_qos2, lost_by);
        } else {
            let topic = entry.topic();
            self.drop_message(cx, index, DropReason::SessionEnded, 1, topic);
            let dropped = ReceiptOutcome::Dropped(DropReason::SessionEnded);
            self.end_receipt(cx, index, entry.id(), entry.why(), dropped);
        }
    }
}
