//! Answers of a client to the messages it was sent, and how an entry comes to its end: delivered,
//! dropped or expired (MQTT 5 sections 4.3.2 and 4.3.3).

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode};

use crate::counters::DropReason;
use crate::event::Event;
use crate::fault::{self, Fault};
use crate::id::{MessageId, RecordNumber, SessionId};
use crate::losses::limit_of;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_DELIVERED;
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, Record};
use crate::session::in_flight::{InFlight, InFlightState, Released};
use crate::session::queue::TakenEntry;
use crate::shard::{PacketError, Shard};
use crate::share::ticket::{ShareOutcome, ShareTicket};
use crate::shortened::{digest_work, shortened};

impl Shard {
    /// PUBACK [MQTT-4.3.2-5]: the message is delivered, or refused by its receiver.
    pub(crate) fn puback_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        let session = id.index;
        let in_flight = &self.sessions.at(session).outbound.in_flight;
        let Some(message) = in_flight.get(packet_id) else {
            // Nothing is known of it: an acknowledgement that came late does no harm.
            return Ok(());
        };
        if message.publish_qos() != Some(QoS::AtLeastOnce) {
            return Err(PacketError::protocol(
                "PUBACK for a QoS 2 message",
                "MQTT-4.3.3-4",
            ));
        }
        if !message.on_wire {
            // Not sent on this connection yet: it is about to be, and acknowledged then.
            return Ok(());
        }
        if let Some(entry) = self.take_in_flight(session, packet_id) {
            self.entry_answered(cx, session, entry, reason);
        }
        self.waiting.answered = Some(id);
        Ok(())
    }

    /// PUBREC: from here on only PUBREL is sent [MQTT-4.3.3-4], unless it refuses
    /// [MQTT-4.3.3-6].
    pub(crate) fn pubrec_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        (index, id): (u32, SessionId),
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        let session_index = id.index;
        let session = self.sessions.at(session_index);
        let Some(message) = session.outbound.in_flight.get_mut(packet_id) else {
            if !reason.is_error() {
                let unknown = ReasonCode::PacketIdentifierNotFound;
                let record = RecordNumber(0);
                self.answer_ack(cx, index, AckKind::PubRel, packet_id, unknown, record);
            }
            return Ok(());
        };
        if message.publish_qos() == Some(QoS::AtLeastOnce) {
            return Err(PacketError::protocol(
                "PUBREC for a QoS 1 message",
                "MQTT-4.3.2-2",
            ));
        }
        let released = match &message.state {
            InFlightState::Publish(entry) => Released {
                message: entry.message.id(),
                why: entry.why,
                recorded: entry.recorded,
            },
            InFlightState::Unkept(sent) => Released {
                message: sent.id,
                why: sent.why,
                recorded: false,
            },
            // Not sent on this connection yet: it is about to be, and answered then.
            InFlightState::Stored(_) => return Ok(()),
            InFlightState::Released(_) => {
                let (ok, record) = (ReasonCode::Success, message.record);
                self.answer_ack(cx, index, AckKind::PubRel, packet_id, ok, record);
                return Ok(());
            }
        };
        if reason.is_error() {
            if let Some(entry) = self.take_in_flight(session_index, packet_id) {
                self.entry_answered(cx, session_index, entry, reason);
            }
            self.waiting.answered = Some(id);
            return Ok(());
        }
        let Some((before, record)) = self.release(cx, session_index, packet_id, released) else {
            return Ok(());
        };
        let message = (released.message, released.why);
        self.count_delivered(cx, session_index, message, before.ticket());
        if self.observers.wants.any(NOTIFY_DELIVERED) {
            self.notify_pubrec(cx, session_index, &before);
        }
        if let InFlightState::Publish(entry) = before {
            self.buffers.messages.put_back(entry.message);
        }
        if fault::is(Fault::PacketIdFreedEarly) {
            self.sessions.at(session_index).outbound.remove(packet_id);
        }
        let early = fault::is(Fault::PubRelBeforePubRec);
        let record = if early { RecordNumber(0) } else { record };
        self.answer_ack(
            cx,
            index,
            AckKind::PubRel,
            packet_id,
            ReasonCode::Success,
            record,
        );
        Ok(())
    }

    /// From here on only PUBREL is owed under this Packet Identifier. Gives what was in flight, and
    /// the record that says so.
    #[inline(always)] // Measured by `cargo instructions`.
    fn release<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        packet_id: PacketId,
        released: Released,
    ) -> Option<(InFlightState, RecordNumber)> {
        let session_state = self.sessions.at(session);
        let epoch = session_state.epoch;
        let message = session_state.outbound.in_flight.get_mut(packet_id)?;
        let before = core::mem::replace(&mut message.state, InFlightState::Released(released));
        message.record = RecordNumber(0);
        let mut record = RecordNumber(0);
        if let InFlightState::Publish(entry) = &before
            && released.recorded
        {
            let mut changed = entry.record(epoch, cx.now);
            changed.packet_id = Some(packet_id);
            changed.released = true;
            record = self.append(cx, Record::Changed(changed));
            let outbound = &mut self.sessions.at(session).outbound;
            if let Some(message) = outbound.in_flight.get_mut(packet_id) {
                message.record = record;
            }
        }
        Some((before, record))
    }

    /// PUBCOMP: the identifier is free again.
    pub(crate) fn pubcomp_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        packet_id: PacketId,
    ) -> Result<(), PacketError> {
        let session_index = id.index;
        let session = self.sessions.at(session_index);
        let released = match session.outbound.in_flight.get(packet_id) {
            Some(InFlight {
                state: InFlightState::Released(released),
                ..
            }) => *released,
            Some(_) => {
                return Err(PacketError::protocol(
                    "PUBCOMP before PUBREL",
                    "MQTT-4.3.3-5",
                ));
            }
            None => return Ok(()),
        };
        session.outbound.remove(packet_id);
        if released.recorded {
            let Released { message, why, .. } = released;
            self.entry_ended(cx, session_index, message, why);
        }
        self.waiting.answered = Some(id);
        Ok(())
    }

    /// Frees a Packet Identifier; gives what was under it, unless that is delivered already.
    pub(crate) fn take_in_flight(&mut self, index: u32, packet_id: PacketId) -> Option<TakenEntry> {
        let message = self.sessions.at(index).outbound.remove(packet_id)?;
        message.into_entry()
    }

    /// The receiver has answered for good: delivered, or refused.
    /// A refusal ends it as well [MQTT-4.4.0-2].
    pub(crate) fn entry_answered<N: Node>(
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
        let message = (entry.id(), entry.why());
        self.count_delivered(cx, index, message, entry.ticket());
        if self.observers.wants.any(NOTIFY_DELIVERED) {
            let message = (entry.id(), entry.message());
            self.notify_acknowledged(cx, index, message, QoS::AtLeastOnce);
        }
        if let TakenEntry::Held(entry) = entry {
            self.buffers.messages.put_back(entry.message);
        }
    }

    /// A QoS 2 message counts as delivered.
    #[cold]
    fn notify_pubrec<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, state: &InFlightState) {
        let (id, message) = match state {
            InFlightState::Publish(entry) => (entry.message.id(), Some(&entry.message)),
            InFlightState::Unkept(sent) => (sent.id, None),
            InFlightState::Stored(_) | InFlightState::Released(_) => return,
        };
        self.notify_acknowledged(cx, session, (id, message), QoS::ExactlyOnce);
    }

    /// A message counts as delivered.
    #[inline]
    fn count_delivered<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: (MessageId, EnqueuedAs),
        ticket: Option<&ShareTicket>,
    ) {
        if ticket.is_some() || message.0.wants_receipts() {
            return self.count_delivered_and_notify(cx, index, message, ticket);
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
        message: (MessageId, EnqueuedAs),
        ticket: Option<&ShareTicket>,
    ) {
        let answer = (Some(index), message.0);
        if self.notify_group(cx, ticket, answer, ShareOutcome::Acknowledged, None) {
            return;
        }
        self.sessions.at(index).accounting.delivered += 1;
        self.counters.delivered += 1;
        self.end_receipt(cx, index, message, ReceiptOutcome::Acknowledged);
    }

    /// A message has expired before it was sent.
    pub(crate) fn expire_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: TakenEntry,
    ) {
        self.end_record_of(cx, index, &entry);
        let (answer, outcome) = ((Some(index), entry.id()), ShareOutcome::Expired);
        if self.notify_group(cx, entry.ticket(), answer, outcome, None) {
            return;
        }
        self.sessions.losses(index).count_expired(cx.now.wall_ms);
        self.counters.expired += 1;
        let message = (entry.id(), entry.why());
        self.end_receipt(cx, index, message, ReceiptOutcome::Expired);
    }

    /// A message that is not sent (again). `connection` is that of the session.
    pub(super) fn drop_in_flight<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        (index, connection): (u32, u32),
        packet_id: PacketId,
        was_sent: bool,
        reason: DropReason,
    ) {
        let in_flight = &self.sessions.at(index).outbound.in_flight;
        let qos = in_flight.get(packet_id).and_then(InFlight::publish_qos);
        if was_sent && qos == Some(QoS::ExactlyOnce) {
            return self.release_dropped(cx, (index, connection), packet_id, reason);
        }
        if let Some(entry) = self.take_in_flight(index, packet_id) {
            self.drop_entry(cx, index, entry, reason);
        }
    }

    /// A QoS 2 message that was sent on an earlier connection, and may have arrived, is dropped.
    /// Its client may go on knowing its Packet Identifier, and would take another message under
    /// that for the same one [MQTT-4.3.3-10]. So the exchange goes on as if PUBREC had come.
    #[cold]
    fn release_dropped<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        (index, connection): (u32, u32),
        packet_id: PacketId,
        reason: DropReason,
    ) {
        let session = self.sessions.at(index);
        let Some(message) = session.outbound.in_flight.get_mut(packet_id) else {
            return;
        };
        let InFlightState::Publish(entry) = &message.state else {
            return;
        };
        let ticket = entry.ticket.as_deref().copied();
        // The record of a message that a share group lent and that was not taken is at the group.
        let is_lent = ticket.is_some_and(|ticket| !ticket.taken);
        let released = Released {
            message: entry.message.id(),
            why: entry.why,
            recorded: entry.recorded && !is_lent,
        };
        let before = self.release(cx, index, packet_id, released);
        let Some((InFlightState::Publish(entry), record)) = before else {
            return;
        };
        if is_lent && reason == DropReason::NotPermitted {
            self.return_shared(
                cx,
                index,
                TakenEntry::Held(entry),
                true,
                Fault::ShareReturnLost,
            );
        } else {
            let answer = (Some(index), released.message);
            let outcome = ShareOutcome::Dropped(reason);
            if !self.notify_group(cx, ticket.as_ref(), answer, outcome, None) {
                self.drop_message(cx, index, reason, 1, entry.message.topic());
                let message = (released.message, released.why);
                self.end_receipt(cx, index, message, ReceiptOutcome::Dropped(reason));
            }
            self.buffers.messages.put_back(entry.message);
        }
        let ok = ReasonCode::Success;
        self.answer_ack(cx, connection, AckKind::PubRel, packet_id, ok, record);
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
        let (answer, outcome) = ((Some(index), entry.id()), ShareOutcome::Dropped(reason));
        if !self.notify_group(cx, entry.ticket(), answer, outcome, refused) {
            match entry.message() {
                Some(message) => {
                    let topic = message.topic();
                    self.drop_message_as(cx, index, (reason, refused), 1, topic);
                }
                None => self.drop_stored_as(cx, index, (reason, refused), entry.id()),
            }
            let dropped = ReceiptOutcome::Dropped(reason);
            let outcome = refused.map_or(dropped, ReceiptOutcome::Refused);
            self.end_receipt(cx, index, (entry.id(), entry.why()), outcome);
        }
    }

    /// Reports to a share group the outcome of a message that it handed over; true if the group
    /// held it. `answer`: the member's session and the message.
    fn notify_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: Option<&ShareTicket>,
        answer: (Option<u32>, MessageId),
        outcome: ShareOutcome,
        refused: Option<ReasonCode>,
    ) -> bool {
        let Some(ticket) = ticket else { return false };
        let outcome = match ticket.taken {
            true => ShareOutcome::Settled,
            false => outcome,
        };
        self.answer_group_as(cx, ticket, answer, outcome, refused);
        !ticket.taken
    }

    fn end_record_of<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &TakenEntry) {
        // The record of a message that a share group lent and that was not taken is at the group.
        let has_own_record = entry.ticket().is_none_or(|ticket| ticket.taken);
        if has_own_record && entry.recorded() {
            self.entry_ended(cx, index, entry.id(), entry.why());
        }
    }

    fn entry_ended<N: Node>(
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
        self.drop_message_as(cx, index, (reason, None), count, topic);
    }

    /// Counts a dropped message, likewise, with the reason code with which its receiver has refused
    /// it.
    fn drop_message_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        (reason, refused): (DropReason, Option<ReasonCode>),
        count: u64,
        topic: &str,
    ) {
        self.count_drop(index, reason, count, cx.now.wall_ms);
        self.notify_losses(cx, index, reason, topic);
        if self.is_drop_observed(index, topic) {
            self.work.add(digest_work(topic));
            let topic = shortened(topic).into_owned();
            self.notify_drop(cx, index, (reason, refused), topic, None);
        }
    }

    /// As [`Shard::drop_message`], for one that lies in the store alone: only its name is known.
    pub(crate) fn drop_stored<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        id: MessageId,
    ) {
        self.drop_stored_as(cx, index, (reason, None), id);
    }

    /// Counts a dropped message that lies in the store alone, likewise, with the reason code with
    /// which its receiver has refused it.
    fn drop_stored_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        (reason, refused): (DropReason, Option<ReasonCode>),
        id: MessageId,
    ) {
        self.count_drop(index, reason, 1, cx.now.wall_ms);
        self.notify_losses(cx, index, reason, "");
        if self.is_drop_observed(index, "") {
            self.notify_drop(cx, index, (reason, refused), String::new(), Some(id));
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
        (reason, refused): (DropReason, Option<ReasonCode>),
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
}
