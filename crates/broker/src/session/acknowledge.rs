//! Answers of a client to the messages it was sent (MQTT 5 sections 4.3.2 and 4.3.3). How an entry
//! ends is in `entry_end`.

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode};

use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::id::{RecordNumber, SessionId};
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_DELIVERED;
use crate::part::interface::ReceiptOutcome;
use crate::record::Record;
use crate::session::in_flight::{InFlight, InFlightState, Released};
use crate::session::queue::TakenEntry;
use crate::shard::{PacketError, Shard};
use crate::share::ticket::ShareOutcome;

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
        index: u32,
        id: SessionId,
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
        let Released { message, why, .. } = released;
        self.count_delivered(cx, session_index, message, why, before.ticket());
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

    /// A QoS 2 message counts as delivered.
    #[cold]
    fn notify_pubrec<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, state: &InFlightState) {
        let (id, message) = match state {
            InFlightState::Publish(entry) => (entry.message.id(), Some(&entry.message)),
            InFlightState::Unkept(sent) => (sent.id, None),
            InFlightState::Stored(_) | InFlightState::Released(_) => return,
        };
        self.notify_acknowledged(cx, session, id, message, QoS::ExactlyOnce);
    }

    /// A message that is not sent (again). `connection` is that of the session.
    pub(super) fn drop_in_flight<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        connection: u32,
        packet_id: PacketId,
        was_sent: bool,
        reason: DropReason,
    ) {
        let in_flight = &self.sessions.at(index).outbound.in_flight;
        let qos = in_flight.get(packet_id).and_then(InFlight::publish_qos);
        if was_sent && qos == Some(QoS::ExactlyOnce) {
            return self.release_dropped(cx, index, connection, packet_id, reason);
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
        index: u32,
        connection: u32,
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
            let (id, outcome) = (released.message, ShareOutcome::Dropped(reason));
            if !self.notify_group(cx, ticket.as_ref(), Some(index), id, outcome, None) {
                self.drop_message(cx, index, reason, 1, entry.message.topic());
                let dropped = ReceiptOutcome::Dropped(reason);
                self.end_receipt(cx, index, id, released.why, dropped);
            }
            self.buffers.messages.put_back(entry.message);
        }
        let ok = ReasonCode::Success;
        self.answer_ack(cx, connection, AckKind::PubRel, packet_id, ok, record);
    }
}
