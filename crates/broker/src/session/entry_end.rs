//! The end of an entry: delivered, dropped, expired, or given back to its share group.
//!
//! What is dropped is counted for its session, and reported.

use std::sync::Arc;

use martlet_codec::{QoS, ReasonCode};

use crate::counters::DropReason;
use crate::event::Event;
use crate::fault::{self, Fault};
use crate::id::MessageId;
use crate::losses::limit_of;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_DELIVERED;
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, Record};
use crate::session::queue::{Apart, TakenEntry};
use crate::shard::Shard;
use crate::share::message::ShareMessage;
use crate::share::ticket::{ShareOutcome, ShareTicket};
use crate::shortened::{digest_work, shortened};
use crate::work::{EXPIRY, NODE};

impl Shard {
    /// The receiver has answered for good: delivered, or refused.
    /// A refusal ends it as well [MQTT-4.4.0-2].
    pub(super) fn entry_answered<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
        reason: ReasonCode,
    ) {
        if reason.is_error() {
            let refused = DropReason::RefusedByReceiver;
            return self.drop_entry_as(cx, index, entry, refused, Some(reason));
        }
        if entry.recorded() {
            self.entry_ended(cx, index, entry.id(), entry.why());
        }
        self.count_delivered(cx, index, entry.id(), entry.why(), entry.ticket());
        if self.observers.wants.any(NOTIFY_DELIVERED) {
            let qos = QoS::AtLeastOnce;
            self.notify_acknowledged(cx, index, entry.id(), entry.message(), qos);
        }
        if let TakenEntry::Held(entry) = entry {
            self.buffers.messages.put_back(entry.message);
        }
    }

    /// A message counts as delivered.
    #[inline]
    pub(super) fn count_delivered<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: MessageId,
        why: EnqueuedAs,
        ticket: Option<&ShareTicket>,
    ) {
        if ticket.is_some() || message.wants_receipts() {
            return self.count_delivered_and_notify(cx, index, message, why, ticket);
        }
        self.sessions.at(index).accounting.delivered += 1;
        self.counters.delivered += 1;
    }

    /// Counts a message as delivered where a share group or a part has to be notified.
    #[inline(never)]
    fn count_delivered_and_notify<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: MessageId,
        why: EnqueuedAs,
        ticket: Option<&ShareTicket>,
    ) {
        let outcome = ShareOutcome::Acknowledged;
        if self.notify_group(cx, ticket, Some(index), message, outcome, None) {
            return;
        }
        self.sessions.at(index).accounting.delivered += 1;
        self.counters.delivered += 1;
        self.end_receipt(cx, index, message, why, ReceiptOutcome::Acknowledged);
    }

    /// A message has expired before it was sent.
    pub(super) fn expire_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
    ) {
        self.end_record_of(cx, index, &entry);
        let (ticket, outcome) = (entry.ticket(), ShareOutcome::Expired);
        if self.notify_group(cx, ticket, Some(index), entry.id(), outcome, None) {
            return;
        }
        self.sessions.losses(index).count_expired(cx.now.wall_ms);
        self.counters.expired += 1;
        self.end_receipt(cx, index, entry.id(), entry.why(), ReceiptOutcome::Expired);
    }

    /// Drops a message that was queued or in flight, or was about to be: that it is not to come is
    /// recorded too, else recovery would route it again.
    pub(crate) fn drop_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
        reason: DropReason,
    ) {
        self.drop_entry_as(cx, index, entry, reason, None);
    }

    /// Drops an entry, likewise; `refused` is the reason code with which its receiver has refused
    /// it.
    fn drop_entry_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
        reason: DropReason,
        refused: Option<ReasonCode>,
    ) {
        if reason == DropReason::NotPermitted && entry.ticket().is_some() {
            // Others of the group may have it.
            return self.return_shared(cx, index, entry, false, Fault::ShareReturnLost);
        }
        self.end_record_of(cx, index, &entry);
        let (ticket, outcome) = (entry.ticket(), ShareOutcome::Dropped(reason));
        if !self.notify_group(cx, ticket, Some(index), entry.id(), outcome, refused) {
            match entry.message() {
                Some(message) => {
                    let topic = message.topic();
                    self.drop_message_as(cx, index, reason, refused, 1, topic);
                }
                None => self.drop_stored_as(cx, index, reason, refused, entry.id()),
            }
            let dropped = ReceiptOutcome::Dropped(reason);
            let outcome = refused.map_or(dropped, ReceiptOutcome::Refused);
            self.end_receipt(cx, index, entry.id(), entry.why(), outcome);
        }
    }

    /// Reports to a share group the outcome of a message that it handed over; true if the group
    /// held it. `session` is the member's.
    pub(super) fn notify_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: Option<&ShareTicket>,
        session: Option<u32>,
        message: MessageId,
        outcome: ShareOutcome,
        refused: Option<ReasonCode>,
    ) -> bool {
        let Some(ticket) = ticket else { return false };
        let outcome = match ticket.taken {
            true => ShareOutcome::Settled,
            false => outcome,
        };
        self.answer_group_as(cx, ticket, session, message, outcome, refused);
        !ticket.taken
    }

    fn end_record_of<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &TakenEntry) {
        // The record of a message that a share group lent and that was not taken is at the group.
        let has_own_record = entry.ticket().is_none_or(|ticket| ticket.taken);
        if has_own_record && entry.recorded() {
            self.entry_ended(cx, index, entry.id(), entry.why());
        }
    }

    pub(super) fn entry_ended<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: MessageId,
        why: EnqueuedAs,
    ) {
        if fault::is(Fault::EndNotRecorded) {
            return;
        }
        let epoch = self.sessions.at(index).epoch;
        let record = Record::EntryEnded {
            epoch,
            message,
            why,
        };
        self.append(cx, record);
    }

    /// Counts messages dropped for a session, and notifies observers.
    // Out of the way of what is delivered.
    #[inline(never)]
    pub(crate) fn drop_message<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        count: u64,
        topic: &str,
    ) {
        self.drop_message_as(cx, index, reason, None, count, topic);
    }

    /// Counts a dropped message, likewise, with the reason code with which its receiver has refused
    /// it.
    fn drop_message_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        refused: Option<ReasonCode>,
        count: u64,
        topic: &str,
    ) {
        self.count_drop(index, reason, count, cx.now.wall_ms);
        self.notify_losses(cx, index, reason, topic);
        if self.is_drop_observed(index, topic) {
            self.work.add(digest_work(topic));
            let topic = shortened(topic).into_owned();
            self.notify_drop(cx, index, reason, refused, topic, None);
        }
    }

    /// As [`Shard::drop_message`], for one that lies in the store alone: only its name is known.
    pub(super) fn drop_stored<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        id: MessageId,
    ) {
        self.drop_stored_as(cx, index, reason, None, id);
    }

    /// Counts a dropped message that lies in the store alone, likewise, with the reason code with
    /// which its receiver has refused it.
    fn drop_stored_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        refused: Option<ReasonCode>,
        id: MessageId,
    ) {
        self.count_drop(index, reason, 1, cx.now.wall_ms);
        self.notify_losses(cx, index, reason, "");
        if self.is_drop_observed(index, "") {
            self.notify_drop(cx, index, reason, refused, String::new(), Some(id));
        }
    }

    /// Counts messages dropped for a session, without an event for each.
    pub(crate) fn count_drop(&mut self, index: u32, reason: DropReason, count: u64, wall_ms: u64) {
        if count > 0 && !fault::is(Fault::DropUncounted) {
            let losses = self.sessions.losses(index);
            losses.count_drop(reason, count, wall_ms);
            self.counters.drop_messages(reason, count);
        }
    }

    fn notify_drop<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        refused: Option<ReasonCode>,
        topic: String,
        stored: Option<MessageId>,
    ) {
        let limit = match reason {
            DropReason::QueueFull => Some(self.limit_of_queue(index)),
            reason => limit_of(reason),
        };
        cx.effects.notify(
            self.head_with_user(index),
            Event::Dropped {
                topic,
                stored,
                reason,
                limit: limit.map(|limit| self.reached(limit, None)),
                refused,
            },
        );
    }

    /// Gives what a share group handed over back to it, because the member is away or gone; except
    /// a QoS 2 message that was sent once, which is dropped [MQTT-4.8.2-5]. `lost_by` is the
    /// deliberate fault that loses it here.
    pub(crate) fn return_shared<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        entry: TakenEntry,
        sent_qos2: bool,
        lost_by: Fault,
    ) {
        let Some(ticket) = entry.ticket().copied() else {
            return;
        };
        if fault::is(lost_by) || self.is_return_lost(&ticket) {
            return self.entry_answered(cx, session, entry, ReasonCode::Success);
        }
        let sent_qos2 = sent_qos2 && !fault::is(Fault::ShareReturnsSentQos2);
        if !ticket.taken {
            let outcome = ShareOutcome::Returned { sent_qos2 };
            return self.answer_group(cx, &ticket, Some(session), entry.id(), outcome);
        }
        if sent_qos2 {
            return self.drop_entry(cx, session, entry, DropReason::SessionEnded);
        }
        let from = self.sessions.at(session).epoch;
        let (message, from_why) = (entry.message().cloned(), entry.why());
        let mut entry = match entry {
            TakenEntry::Held(entry) => entry.without_message(),
            TakenEntry::Stored(entry) => entry,
            // What is taken has a record.
            TakenEntry::Unkept(_) => return,
        };
        entry.why = EnqueuedAs::Routed;
        (entry.qos, entry.retain) = (ticket.qos, ticket.retain);
        entry.apart = Apart::default();
        let moved = Record::Moved {
            from,
            from_why,
            to: entry.record(ticket.epoch, cx.now),
        };
        self.append(cx, moved);
        self.sessions.at(session).accounting.matched -= 1;
        self.counters.matched -= 1;
        let receipt = match entry.id.wants_receipts() {
            true => self.parts.receipts.take(entry.id),
            false => None,
        };
        let receipt = receipt.map(|part| {
            let client_id = &self.sessions.at(session).client_id;
            Box::new((part, Arc::clone(client_id)))
        });
        let given_back = ShareMessage::GivenBack {
            group: ticket.group,
            epoch: ticket.epoch,
            delivery: ticket.delivery,
            entry: Box::new(entry),
            message,
            receipt,
        };
        self.share_send(cx, ticket.shard, given_back);
    }

    /// Whether a deliberate fault loses what goes back to a share group, wherever that happens.
    pub(crate) fn is_return_lost(&self, ticket: &ShareTicket) -> bool {
        let is_elsewhere = ticket.shard != self.id;
        let is_old = ticket.delivery == 0 && !self.work.unbounded;
        fault::is(Fault::ShareReturnLost)
            || is_elsewhere && fault::is(Fault::ShareReturnLostElsewhere)
            || is_old && fault::is(Fault::ShareReturnLostOld)
    }

    /// Drops the oldest message of a queue that has too many; false: the queue is empty.
    pub(crate) fn drop_oldest_of_queue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) -> bool {
        let Some(oldest) = self.sessions.at(index).outbound.queue_mut().take_oldest() else {
            return false;
        };
        self.work.add(NODE);
        self.drop_entry(cx, index, oldest, DropReason::QueueFull);
        true
    }

    /// Takes what has expired out of a queue, of its next `limit` entries. Answers whether there
    /// are more to be looked at.
    pub(crate) fn expire_queued<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        limit: usize,
    ) -> bool {
        let Some(queue) = self.sessions.at(index).outbound.queue_used() else {
            return false;
        };
        let expired = queue.take_expired(cx.now.mono_ms, limit);
        self.work.add(expired.looked_at as u64 * EXPIRY);
        for entry in expired.entries {
            self.expire_entry(cx, index, entry);
        }
        expired.more
    }
}
