//! Messages towards a client: in flight and queued, and the client's acknowledgements
//! (MQTT 5 sections 4.3, 4.4 and 4.9).
//!
//! A message gets its Packet Identifier when the send quota allows, lies *in flight* from then on,
//! and is *unsent* until its packet is in the output buffer of the present connection. On a new
//! connection everything in flight is unsent again, in its first order [MQTT-4.4.0-1].

use std::collections::VecDeque;

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode};

use crate::counters::DropReason;
use crate::event::Event;
use crate::fault::{self, Fault};
use crate::id::{MessageId, RecordNumber, SessionId};
use crate::limits::QueueFull;
use crate::message::{Message, Publication, expiry_left_secs};
use crate::node::{Cx, Node};
use crate::record::{EnqueuedAs, Record};
use crate::route::{Outgoing, Routing};
use crate::session::packet_ids::PacketIdRing;
use crate::session::queue::{Entry, Queue, SubscriptionIds};
use crate::shard::{Gated, PacketError, Shard};
use crate::share::{ShareOutcome, ShareTicket};

/// What a session owes its client.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) in_flight: PacketIdRing<InFlight>,
    /// In flight and not yet sent on this connection, in order.
    pub(crate) unsent: VecDeque<PacketId>,
    pub(crate) queue: Queue,
    /// In flight and sent on this connection: what counts against the send quota.
    pub(crate) on_wire: u16,
    last_packet_id: u16,
    next_order: u32,
}

/// A message under a Packet Identifier.
#[derive(Debug)]
pub(crate) struct InFlight {
    state: InFlightState,
    /// Raised with each identifier given: the order in which they are sent again.
    order: u32,
    /// The record that gave the identifier; a QoS 2 message is not sent before it is durable.
    record: RecordNumber,
    on_wire: bool,
    /// Sent at least once, on whichever connection: sent again with DUP 1 [MQTT-3.3.1-1].
    sent_before: bool,
}

#[derive(Debug)]
enum InFlightState {
    /// PUBLISH is owed or not yet acknowledged.
    Publish(Entry),
    /// PUBREC has come: PUBREL is owed until PUBCOMP [MQTT-4.3.3-8].
    Released(MessageId),
}

impl Outbound {
    /// Messages that count as held (idea 6): one whose PUBREC came is delivered.
    pub(crate) fn held(&self) -> usize {
        let in_flight = self
            .in_flight
            .iter()
            .filter(|(_, message)| {
                matches!(&message.state, InFlightState::Publish(entry) if entry.ticket.is_none())
            })
            .count();
        // Entries of share groups are held by the group.
        in_flight + self.queue.len() - self.queue.tickets()
    }

    /// Nothing is in flight or queued.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.queue.is_empty()
    }

    /// A new connection: all that is in flight is to be sent again, in order.
    fn restart(&mut self) {
        let mut all: Vec<(u32, PacketId)> = Vec::with_capacity(self.in_flight.len());
        all.extend(
            self.in_flight
                .iter()
                .map(|(id, message)| (message.order, id)),
        );
        // Orders are compared relative to the next one, so that wrapping does no harm.
        let next = self.next_order;
        all.sort_unstable_by_key(|(order, _)| core::cmp::Reverse(next.wrapping_sub(*order)));
        if fault::is(Fault::ResentInReverse) {
            all.reverse();
        }
        self.unsent = all.into_iter().map(|(_, id)| id).collect();
        for id in &self.unsent {
            if let Some(message) = self.in_flight.get_mut(*id) {
                message.on_wire = false;
            }
        }
        self.on_wire = 0;
    }

    /// Gives an entry its Packet Identifier; gives it back if all are taken.
    /// None of those under way [MQTT-4.3.2-1], [MQTT-4.3.3-1]; it is under way until it is answered
    /// [MQTT-4.3.2-3], [MQTT-4.3.3-3].
    fn assign(&mut self, entry: Entry, record: RecordNumber) -> Result<PacketId, Entry> {
        let Some(id) = self.in_flight.next_free(self.last_packet_id) else {
            return Err(entry);
        };
        self.last_packet_id = id.get();
        self.next_order = self.next_order.wrapping_add(1);
        let state = InFlightState::Publish(entry);
        let order = self.next_order;
        let message = InFlight {
            state,
            order,
            record,
            on_wire: false,
            sent_before: false,
        };
        self.in_flight.insert(id, message);
        Ok(id)
    }

    fn remove(&mut self, id: PacketId) -> Option<InFlight> {
        let message = self.in_flight.remove(id)?;
        self.on_wire -= u16::from(message.on_wire);
        Some(message)
    }
}

impl Shard {
    /// A message is for this session: send it now, queue it, or drop it with a reason.
    /// With the lower of the published and the granted QoS [MQTT-3.8.4-8]; a client that is away
    /// finds QoS 1 and 2 in its queue [MQTT-4.5.0-1], [MQTT-3.1.1/3.1.2-5].
    pub(crate) fn deliver<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        qos: QoS,
        retain: bool,
        subscription_ids: SubscriptionIds,
    ) {
        self.sessions.at(index).accounting.matched += 1;
        self.counters.matched += 1;
        if qos == QoS::AtMostOnce {
            self.deliver_qos0(cx, index, routing, retain, &subscription_ids);
            return;
        }
        let message = routing.message(&mut self.scratch, &self.gauge);
        let why = EnqueuedAs::Routed;
        let entry = Entry {
            message,
            subscription_ids,
            qos,
            retain,
            why,
            ticket: None,
        };
        if self.may_send_now(index) {
            self.send_entry(cx, index, entry, Some(routing));
        } else {
            self.enqueue(cx, index, entry);
        }
    }

    /// A QoS 0 message for a session: into the output buffer or nowhere.
    /// DUP is 0 [MQTT-4.3.1-1].
    pub(crate) fn deliver_qos0<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        retain: bool,
        subscription_ids: &[u32],
    ) {
        let Some(connection) = self.admitted_connection(index) else {
            return self.drop_message(
                cx,
                index,
                DropReason::ClientAway,
                1,
                routing.publication.topic,
            );
        };
        let waiting = self.connections.at(connection).output_len();
        if waiting >= self.settings.limits.output_bytes as usize {
            return self.drop_message(
                cx,
                index,
                DropReason::OutputFull,
                1,
                routing.publication.topic,
            );
        }
        if waiting > 0 && self.memory.is_spent() {
            return self.drop_message(
                cx,
                index,
                DropReason::MemoryFull,
                1,
                routing.publication.topic,
            );
        }
        let how = Sending {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            packet_id: None,
        };
        if self.send_publish(
            cx,
            connection,
            Source::Routing(routing),
            how,
            subscription_ids,
        ) {
            self.connections.at(connection).qos0_in_output += 1;
        } else {
            let topic = routing.publication.topic;
            self.drop_message(cx, index, DropReason::PacketTooLarge, 1, topic);
        }
    }

    /// Where packets of a session may go: before its CONNACK nothing does [MQTT-3.2.0-1].
    pub(crate) fn admitted_connection(&mut self, index: u32) -> Option<u32> {
        let connection = self.sessions.at(index).connection?;
        let admitted = self.connections.at(connection).flags.admitted;
        admitted.then_some(connection)
    }

    /// Nothing waits before a new message and the send quota has room.
    /// No message overtakes another one [MQTT-4.6.0-5], [MQTT-4.6.0-6]; quota [MQTT-4.9.0-2].
    fn may_send_now(&mut self, index: u32) -> bool {
        let Some(connection) = self.admitted_connection(index) else {
            return false;
        };
        let outbound = &self.sessions.at(index).outbound;
        let connection = self.connections.at(connection);
        outbound.queue.is_empty()
            && outbound.unsent.is_empty()
            && (outbound.on_wire < connection.send_quota || fault::is(Fault::QuotaIgnored))
            && connection.output_len() < self.settings.limits.output_bytes as usize
    }

    /// Puts an entry in flight and sends it, at once if it need not wait for its record.
    /// First sent with DUP 0, whatever DUP it came with [MQTT-3.3.1-3], [MQTT-4.3.3-2].
    fn send_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        routing: Option<&mut Routing<'_>>,
    ) {
        let session = self.sessions.at(index);
        let (persistent, epoch) = (session.is_persistent(), session.epoch);
        let (message_id, why, qos, retain) =
            (entry.message.id(), entry.why, entry.qos, entry.retain);
        let ids = entry.subscription_ids.clone();
        let packet_id = match session.outbound.assign(entry, RecordNumber(0)) {
            Ok(packet_id) => packet_id,
            Err(entry) => return self.enqueue(cx, index, entry),
        };
        if persistent {
            let packet_id = Some(packet_id);
            let record = Record::Enqueued {
                epoch,
                message: message_id,
                why,
                packet_id,
            };
            let number = self.append(cx, record);
            if qos == QoS::ExactlyOnce && !fault::is(Fault::Qos2BeforeRecord) {
                return self.send_when_durable(cx, index, packet_id, number);
            }
        }
        let Some(routing) = routing else {
            self.sessions.at(index).outbound.unsent.push_back(packet_id);
            return self.pump(cx, index);
        };
        let Some(connection) = self.admitted_connection(index) else {
            return;
        };
        let how = Sending {
            dup: false,
            qos,
            retain,
            packet_id: Some(packet_id),
        };
        if self.send_publish(cx, connection, Source::Routing(routing), how, &ids) {
            let outbound = &mut self.sessions.at(index).outbound;
            outbound.on_wire += 1;
            if let Some(message) = outbound.in_flight.get_mut(packet_id) {
                message.on_wire = true;
                message.sent_before = true;
            }
        } else {
            self.drop_in_flight(cx, index, packet_id, DropReason::PacketTooLarge);
        }
    }

    /// QoS 2 outward: the packet waits until the record that gives it its identifier is durable,
    /// so that no crash makes it a second message.
    fn send_when_durable<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: Option<PacketId>,
        record: RecordNumber,
    ) {
        let id = self.sessions.id_of(index);
        let outbound = &mut self.sessions.at(index).outbound;
        if let Some(packet_id) = packet_id {
            if let Some(message) = outbound.in_flight.get_mut(packet_id) {
                message.record = record;
            }
            outbound.unsent.push_back(packet_id);
        }
        self.gate(cx, record, Gated::Pump(id));
    }

    /// Puts an entry at the end of the session's queue, within its bounds.
    pub(crate) fn enqueue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        if self.memory.is_spent() {
            return self.drop_entry(cx, index, entry, DropReason::MemoryFull, false);
        }
        if !self.make_room(cx, index, entry.message.bytes()) {
            return self.drop_entry(cx, index, entry, DropReason::QueueFull, false);
        }
        let session = self.sessions.at(index);
        if session.is_persistent() {
            let record = Record::Enqueued {
                epoch: session.epoch,
                message: entry.message.id(),
                why: entry.why,
                packet_id: None,
            };
            self.append(cx, record);
        }
        let queue = &mut self.sessions.at(index).outbound.queue;
        match fault::is(Fault::QueueOutOfOrder) {
            true => queue.push_front(entry),
            false => queue.push_back(entry),
        }
    }

    /// Makes room in a full queue as configured; false if the new message has to go.
    fn make_room<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, bytes: usize) -> bool {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let policy = self.settings.queue_full;
        let queue = &self.sessions.at(index).outbound.queue;
        if !queue.is_full_for(bytes, count_max, bytes_max) {
            return true;
        }
        self.expire_queued(cx, index);
        loop {
            let session = self.sessions.at(index);
            if !session
                .outbound
                .queue
                .is_full_for(bytes, count_max, bytes_max)
            {
                return true;
            }
            match policy {
                QueueFull::DropNewest => return false,
                QueueFull::Disconnect => {
                    if let Some(connection) = session.connection {
                        let id = self.connections.id_of(connection);
                        self.closing.push((
                            id,
                            ReasonCode::QuotaExceeded,
                            "limit queued_messages or queued_bytes",
                        ));
                    }
                    return false;
                }
                // One that is longer than the queue may be would empty it and then not fit.
                QueueFull::DropOldest if bytes as u64 > bytes_max => return false,
                QueueFull::DropOldest => match session.outbound.queue.pop_front() {
                    Some(oldest) => {
                        self.drop_entry(cx, index, oldest, DropReason::QueueFull, true);
                    }
                    None => return false,
                },
            }
        }
    }

    /// Takes what has expired out of a queue.
    fn expire_queued<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let now_ms = cx.now.mono_ms;
        let queue = &mut self.sessions.at(index).outbound.queue;
        for entry in queue.take_if(|entry| entry.message.expired(now_ms)) {
            self.expire_entry(cx, index, entry);
        }
    }

    /// Sends what can be sent: first what is in flight and unsent, then from the queue.
    pub(crate) fn pump<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        self.queue_retained(index);
        while let Some(connection) = self.admitted_connection(index) {
            let limit = self.settings.limits.output_bytes as usize;
            let room = self.connections.at(connection).output_len() < limit;
            let quota = self.connections.at(connection).send_quota;
            if !room || self.sessions.at(index).outbound.on_wire >= quota {
                return;
            }
            if let Some(&packet_id) = self.sessions.at(index).outbound.unsent.front() {
                if !self.send_unsent(cx, index, connection, packet_id) {
                    return;
                }
            } else if !self.assign_next(cx, index) {
                return;
            }
        }
    }

    /// Gives the first queued message its Packet Identifier; false if there is none to give.
    fn assign_next<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) -> bool {
        let session = self.sessions.at(index);
        let Some(entry) = session.outbound.queue.pop_front() else {
            return false;
        };
        if entry.message.expired(cx.now.mono_ms) {
            self.expire_entry(cx, index, entry);
            return true;
        }
        let (persistent, epoch) = (session.is_persistent(), session.epoch);
        let (message, qos) = (entry.message.id(), entry.qos);
        let packet_id = match session.outbound.assign(entry, RecordNumber(0)) {
            Ok(packet_id) => packet_id,
            Err(entry) => {
                session.outbound.queue.push_front(entry);
                return false;
            }
        };
        if !persistent {
            session.outbound.unsent.push_back(packet_id);
            return true;
        }
        let record = self.append(
            cx,
            Record::Assigned {
                epoch,
                message,
                packet_id,
            },
        );
        if qos == QoS::ExactlyOnce && !fault::is(Fault::Qos2BeforeRecord) {
            self.send_when_durable(cx, index, Some(packet_id), record);
        } else {
            self.sessions.at(index).outbound.unsent.push_back(packet_id);
        }
        true
    }

    /// Sends the first unsent message; false if it has to wait.
    /// What was sent before does not expire [MQTT-4.3.3-7], nor does an exchange end by expiry
    /// [MQTT-4.3.3-13].
    fn send_unsent<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        connection: u32,
        packet_id: PacketId,
    ) -> bool {
        let outbound = &mut self.sessions.at(index).outbound;
        let Some(message) = outbound.in_flight.get_mut(packet_id) else {
            outbound.unsent.pop_front();
            return true;
        };
        if !self.records.is_durable(message.record) {
            return false;
        }
        outbound.unsent.pop_front();
        let dup = message.sent_before && !fault::is(Fault::DupForgotten);
        let entry = match &message.state {
            InFlightState::Publish(entry) => entry,
            InFlightState::Released(_) => {
                message.on_wire = true;
                outbound.on_wire += 1;
                let none = RecordNumber(0);
                self.answer_ack(
                    cx,
                    connection,
                    AckKind::PubRel,
                    packet_id,
                    ReasonCode::Success,
                    none,
                );
                return true;
            }
        };
        if !dup && entry.message.expired(cx.now.mono_ms) {
            if let Some(entry) = self.take_in_flight(index, packet_id) {
                self.expire_entry(cx, index, entry);
            }
            return true;
        }
        message.on_wire = true;
        message.sent_before = true;
        outbound.on_wire += 1;
        let held: Message = entry.message.clone();
        let ids = entry.subscription_ids.clone();
        let how = Sending {
            dup,
            qos: entry.qos,
            retain: entry.retain,
            packet_id: Some(packet_id),
        };
        if !self.send_publish(cx, connection, Source::Held(&held), how, &ids) {
            self.drop_in_flight(cx, index, packet_id, DropReason::PacketTooLarge);
        }
        true
    }

    /// Appends a PUBLISH packet to the connection's output; false if it would exceed the client's
    /// Maximum Packet Size [MQTT-3.1.2-24].
    pub(crate) fn send_publish<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        source: Source<'_, '_>,
        how: Sending,
        subscription_ids: &[u32],
    ) -> bool {
        let publication = match &source {
            Source::Routing(routing) => routing.publication,
            Source::Held(message) => message.publication(),
        };
        let connection = self.connections.at(index);
        let v5 = connection.version.is_v5();
        let mut outgoing = Outgoing {
            version: connection.version,
            dup: how.dup,
            qos: how.qos,
            retain: how.retain,
            packet_id: how.packet_id,
            topic_alias: None,
            topic_known: false,
            subscription_ids: if v5 { subscription_ids } else { &[] },
            expiry_secs: expiry_left_secs(publication.expires_at_ms, cx.now.mono_ms),
        };
        let mut alias_fits = true;
        if connection.packet_bytes_max != u32::MAX {
            // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
            let bytes = outgoing.packet(&publication).encoded_len(outgoing.version);
            let bytes_max = connection.packet_bytes_max as usize;
            if bytes > bytes_max {
                return false;
            }
            alias_fits = bytes + TOPIC_ALIAS_BYTES <= bytes_max;
        }
        if v5 && alias_fits && connection.aliases.is_some() {
            choose_alias(connection, &publication, &mut outgoing);
        }
        let out = connection.output_mut(&mut self.pool);
        match source {
            Source::Routing(routing) => routing.encode(&outgoing, out),
            Source::Held(_) => {
                outgoing.packet(&publication).encode(outgoing.version, out);
            }
        }
        self.counters.publishes_sent += 1;
        self.counters.publish_bytes_sent += publication.payload.len() as u64;
        self.output_appended(cx, index);
        true
    }

    /// PUBACK [MQTT-4.3.2-5]: the message is delivered, or refused by its receiver.
    pub(crate) fn puback_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        match self.sessions.at(session).outbound.in_flight.get(packet_id) {
            Some(InFlight {
                state: InFlightState::Publish(entry),
                on_wire: true,
                ..
            }) if entry.qos == QoS::AtLeastOnce => {}
            // Not sent on this connection yet: it is about to be, and acknowledged then.
            Some(InFlight {
                state: InFlightState::Publish(entry),
                ..
            }) if entry.qos == QoS::AtLeastOnce => return Ok(()),
            // Nothing is known of it: an acknowledgement that came late does no harm.
            None => return Ok(()),
            Some(_) => {
                return Err(PacketError::protocol(
                    "PUBACK for a QoS 2 message",
                    "MQTT-4.3.3-4",
                ));
            }
        }
        if let Some(entry) = self.take_in_flight(session, packet_id) {
            self.entry_answered(cx, session, entry, reason);
        }
        self.pump(cx, session);
        Ok(())
    }

    /// PUBREC: from here on only PUBREL is sent [MQTT-4.3.3-4], unless it refuses
    /// [MQTT-4.3.3-6].
    pub(crate) fn pubrec_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        let Some(session_index) = self.connections.at(index).session() else {
            return Ok(());
        };
        let session = self.sessions.at(session_index);
        let (persistent, epoch) = (session.is_persistent(), session.epoch);
        let Some(message) = session.outbound.in_flight.get_mut(packet_id) else {
            if !reason.is_error() {
                let unknown = ReasonCode::PacketIdentifierNotFound;
                let record = RecordNumber(0);
                self.answer_ack(cx, index, AckKind::PubRel, packet_id, unknown, record);
            }
            return Ok(());
        };
        let message_id = match &message.state {
            InFlightState::Publish(entry) if entry.qos == QoS::AtLeastOnce => {
                return Err(PacketError::protocol(
                    "PUBREC for a QoS 1 message",
                    "MQTT-4.3.2-2",
                ));
            }
            InFlightState::Publish(entry) => entry.message.id(),
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
            self.pump(cx, session_index);
            return Ok(());
        }
        let released = InFlightState::Released(message_id);
        let before = core::mem::replace(&mut message.state, released);
        let record = if persistent {
            self.append(cx, Record::Received { epoch, packet_id })
        } else {
            RecordNumber(0)
        };
        if let Some(message) = self
            .sessions
            .at(session_index)
            .outbound
            .in_flight
            .get_mut(packet_id)
        {
            message.record = record;
        }
        if let InFlightState::Publish(entry) = before {
            self.count_delivered(cx, session_index, entry.ticket);
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

    /// PUBCOMP: the identifier is free again.
    pub(crate) fn pubcomp_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
    ) -> Result<(), PacketError> {
        let Some(session_index) = self.connections.at(index).session() else {
            return Ok(());
        };
        let session = self.sessions.at(session_index);
        let message = match session.outbound.in_flight.get(packet_id) {
            Some(InFlight {
                state: InFlightState::Released(message),
                ..
            }) => *message,
            Some(_) => {
                return Err(PacketError::protocol(
                    "PUBCOMP before PUBREL",
                    "MQTT-4.3.3-5",
                ));
            }
            None => return Ok(()),
        };
        session.outbound.remove(packet_id);
        if session.is_persistent() {
            let epoch = session.epoch;
            self.append(cx, Record::Ended { epoch, message });
        }
        self.pump(cx, session_index);
        Ok(())
    }

    /// A connection took the session over: what was under way is sent again [MQTT-4.4.0-1].
    pub(crate) fn resume_outbound(&mut self, index: u32) {
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.restart();
        if fault::is(Fault::TakeoverForgetsInFlight) {
            outbound.unsent.clear();
        }
    }

    /// The connection is gone: what a share group handed over and was not sent goes back to it.
    pub(crate) fn pause_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let queue = &mut self.sessions.at(index).outbound.queue;
        for entry in queue.take_if(|entry| entry.ticket.is_some()) {
            self.end_entry_record(cx, index, entry.message.id());
            if let Some(ticket) = entry.ticket
                && !fault::is(Fault::ShareReturnLost)
            {
                self.answer_group(cx, &ticket, ShareOutcome::Returned { sent_qos2: false });
            }
        }
    }

    /// The session ends with all it held.
    pub(crate) fn abandon_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let outbound = core::mem::take(&mut self.sessions.at(index).outbound);
        let mut outbound = outbound;
        for (_, message) in outbound.in_flight.drain() {
            let InFlightState::Publish(entry) = message.state else {
                continue;
            };
            let sent_qos2 = entry.qos == QoS::ExactlyOnce && message.sent_before;
            self.abandon_entry(cx, index, entry, sent_qos2);
        }
        for entry in outbound.queue.take_all() {
            self.abandon_entry(cx, index, entry, false);
        }
    }

    fn abandon_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        sent_qos2: bool,
    ) {
        match entry.ticket {
            Some(ticket) => self.answer_group(cx, &ticket, ShareOutcome::Returned { sent_qos2 }),
            None => self.drop_message(
                cx,
                index,
                DropReason::SessionEnded,
                1,
                entry.message.topic(),
            ),
        }
    }

    /// A share group hands a message to a member of this shard.
    pub(crate) fn deliver_shared<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        if self.may_send_now(index) {
            self.send_entry(cx, index, entry, None);
        } else {
            self.enqueue(cx, index, entry);
        }
    }

    /// A retained message found by a subscription.
    /// RETAIN is 1 [MQTT-3.1.1/3.3.1-8].
    pub(crate) fn deliver_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: &Message,
        qos: QoS,
        subscription_ids: SubscriptionIds,
    ) {
        self.sessions.at(index).accounting.matched += 1;
        self.counters.matched += 1;
        let qos = qos.min(message.qos());
        if qos > QoS::AtMostOnce {
            let (message, why) = (message.clone(), EnqueuedAs::Retained);
            let entry = Entry {
                message,
                subscription_ids,
                qos,
                retain: true,
                why,
                ticket: None,
            };
            if self.may_send_now(index) {
                self.send_entry(cx, index, entry, None);
            } else {
                self.enqueue(cx, index, entry);
            }
            return;
        }
        let Some(connection) = self.admitted_connection(index) else {
            return self.drop_message(cx, index, DropReason::ClientAway, 1, message.topic());
        };
        let how = Sending {
            dup: false,
            qos,
            retain: true,
            packet_id: None,
        };
        if self.send_publish(
            cx,
            connection,
            Source::Held(message),
            how,
            &subscription_ids,
        ) {
            self.connections.at(connection).qos0_in_output += 1;
        } else {
            self.drop_message(cx, index, DropReason::PacketTooLarge, 1, message.topic());
        }
    }

    fn take_in_flight(&mut self, index: u32, packet_id: PacketId) -> Option<Entry> {
        match self.sessions.at(index).outbound.remove(packet_id)?.state {
            InFlightState::Publish(entry) => Some(entry),
            InFlightState::Released(_) => None,
        }
    }

    /// The receiver has answered for good: delivered, or refused.
    /// A refusal ends it as well [MQTT-4.4.0-2].
    fn entry_answered<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        reason: ReasonCode,
    ) {
        if reason.is_error() {
            return self.drop_entry(cx, index, entry, DropReason::RefusedByReceiver, true);
        }
        self.end_entry_record(cx, index, entry.message.id());
        self.count_delivered(cx, index, entry.ticket);
    }

    fn count_delivered<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        ticket: Option<Box<ShareTicket>>,
    ) {
        match ticket {
            Some(ticket) => self.answer_group(cx, &ticket, ShareOutcome::Acknowledged),
            None => {
                self.sessions.at(index).accounting.delivered += 1;
                self.counters.delivered += 1;
            }
        }
    }

    fn expire_entry<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        self.end_entry_record(cx, index, entry.message.id());
        match entry.ticket {
            Some(ticket) => self.answer_group(cx, &ticket, ShareOutcome::Expired),
            None => {
                self.sessions.at(index).accounting.expired += 1;
                self.counters.expired += 1;
            }
        }
    }

    fn drop_in_flight<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        reason: DropReason,
    ) {
        if let Some(entry) = self.take_in_flight(index, packet_id) {
            self.drop_entry(cx, index, entry, reason, true);
        }
    }

    /// Drops a message that was queued or in flight (`recorded`), or was about to be.
    fn drop_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        reason: DropReason,
        recorded: bool,
    ) {
        if recorded {
            self.end_entry_record(cx, index, entry.message.id());
        }
        match entry.ticket {
            Some(ticket) => self.answer_group(cx, &ticket, ShareOutcome::Dropped(reason)),
            None => self.drop_message(cx, index, reason, 1, entry.message.topic()),
        }
    }

    fn end_entry_record<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, message: MessageId) {
        let session = self.sessions.at(index);
        if session.is_persistent() {
            let epoch = session.epoch;
            self.append(cx, Record::Ended { epoch, message });
        }
    }

    /// Counts messages dropped for a session, and tells those who want to know.
    pub(crate) fn drop_message<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        count: u64,
        topic: &str,
    ) {
        let session = self.sessions.at(index);
        if !fault::is(Fault::DropUncounted) {
            session.accounting.dropped += count;
            self.counters.drop_messages(reason, count);
        }
        if self.settings.events.drops {
            let client_id = session.client_id.to_string();
            let topic = topic.to_owned();
            cx.effects.events.push(Event::Dropped {
                client_id,
                topic,
                reason,
            });
        }
    }

    /// The session that a stale handle names, if it is still there.
    pub(crate) fn live_session(&self, id: SessionId) -> Option<u32> {
        self.sessions.get(id).map(|_| id.index)
    }
}

/// Where a PUBLISH packet is made from.
pub(crate) enum Source<'r, 'p> {
    /// A message that is being routed.
    Routing(&'r mut Routing<'p>),
    /// A message that was held.
    Held(&'r Message),
}

/// The flags of a PUBLISH packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<PacketId>,
}

/// What a Topic Alias adds to a packet at most: the property, and two lengths that grow.
const TOPIC_ALIAS_BYTES: usize = 5;

/// Uses or gives a Topic Alias, as long as the client has room for one [MQTT-3.1.2-26].
/// None without a maximum [MQTT-3.1.2-27], none above it [MQTT-3.3.2-11].
fn choose_alias(
    connection: &mut crate::connection::Connection,
    publication: &Publication<'_>,
    outgoing: &mut Outgoing<'_>,
) {
    let Some(aliases) = &mut connection.aliases else {
        return;
    };
    if let Some(&alias) = aliases.outbound.get(publication.topic) {
        outgoing.topic_alias = Some(alias);
        outgoing.topic_known = true;
        return;
    }
    let next = aliases.outbound.len() as u16 + 1;
    if next <= aliases.outbound_max
        && let Some(alias) = core::num::NonZeroU16::new(next)
    {
        aliases.outbound.insert(publication.topic.into(), alias);
        outgoing.topic_alias = Some(alias);
    }
}
