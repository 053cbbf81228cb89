//! Requests to the server (PUBLISH, SUBSCRIBE, UNSUBSCRIBE) and their completion.
//!
//! Responsible for Packet Identifiers, the send quota, the QoS 1 and 2 handshakes of the sender,
//! and resending on the next connection. If the server has lost the session, unacknowledged
//! messages are sent again as new: no message is lost, but a QoS 2 message may then arrive twice.
//!
//! The server may have a session that this client does not have, for example after a crash of the
//! client. Then the server may hold QoS 2 messages whose PUBREL it never received, and would treat
//! a new message with such a Packet Identifier as a retransmission [MQTT-4.3.3-10]. So each
//! identifier is released before its first use. MQTT 5.0 §3.3, §3.8, §3.10, §4.3, §4.4, §4.9.

use std::time::Duration;

use martlet_codec::{
    Ack, AckKind, DecodeError, OutgoingPublish, PacketId, QoS, ReasonCode, SubAck, Subscribe,
    SubscribeFilter, SubscriptionFilter, TopicName, UnsubAck, Unsubscribe,
};

use super::State;
use super::event::{
    Acknowledgement, Direction, Event, PacketSummary, RequestError, RequestId, SessionError,
};
use super::in_flight::InFlight;
use super::outbound::{Request, Stage};
use super::{PACKET_BYTES_MAX, Session};
use crate::message::Message;
use crate::options::{SubscribeRequest, UnsubscribeRequest};

/// The flag of a PUBLISH in its first byte. MQTT 5.0 §3.3.1.3.
const RETAIN: u8 = 0b0000_0001;

impl Session {
    /// Sends a message, or queues it until the quota or the next connection allows sending. It
    /// completes as [`Acknowledgement::Published`].
    ///
    /// # Errors
    /// The message cannot be sent as it is; it is not queued. QoS 0 needs a connection.
    pub fn publish(&mut self, message: Message, now: Duration) -> Result<RequestId, RequestError> {
        self.check_message(&message)?;
        if message.qos == QoS::AtMostOnce {
            if self.state != State::Connected {
                return Err(RequestError::NotConnected);
            }
            let request = self.outbound.next_request();
            self.encode_publish(&message, None, false, now);
            self.complete_publish(request, ReasonCode::Success, None);
            return Ok(request);
        }
        let request = self.outbound.next_request();
        self.outbound.queue.push_back((request, message));
        self.send_waiting(now);
        Ok(request)
    }

    /// Sends an already encoded PUBLISH of QoS 0, in the version of this session. RETAIN is cleared
    /// unless `retains`. There is no request to complete, and no trace.
    ///
    /// # Errors
    /// There is no connection, or the server accepts no packet of this length; nothing was sent.
    pub fn publish_encoded(
        &mut self,
        packet: &[u8],
        retains: bool,
        now: Duration,
    ) -> Result<(), RequestError> {
        if self.state != State::Connected {
            return Err(RequestError::NotConnected);
        }
        if packet.len() > self.packet_bytes_max() {
            return Err(RequestError::PacketTooLarge);
        }
        let Some((first, rest)) = packet.split_first() else {
            return Ok(());
        };
        self.output
            .push(if retains { *first } else { *first & !RETAIN });
        self.output.extend_from_slice(rest);
        self.keep_alive.sent(now);
        Ok(())
    }

    /// Size in bytes of the longest packet that may be sent.
    fn packet_bytes_max(&self) -> usize {
        let of_server = self.server.maximum_packet_size;
        let of_server = of_server.map_or(usize::MAX, |size| size.get() as usize);
        PACKET_BYTES_MAX.min(of_server)
    }

    /// Number of QoS 1 and 2 messages that are not completed: in flight or queued.
    pub fn unacknowledged(&self) -> usize {
        self.outbound.in_flight.len() + self.outbound.queue.len()
    }

    /// Sends SUBSCRIBE. It completes as [`Acknowledgement::Subscribed`].
    ///
    /// # Errors
    /// There is no connection, or a filter is not valid; nothing was sent.
    pub fn subscribe(
        &mut self,
        request: &SubscribeRequest,
        now: Duration,
    ) -> Result<RequestId, RequestError> {
        check_filters(request.filters.iter().map(|(filter, _)| filter.as_str()))?;
        let packet_id = self.next_packet_id()?;
        let filters: Vec<_> = request
            .filters
            .iter()
            .map(|(filter, options)| SubscribeFilter {
                filter,
                options: *options,
            })
            .collect();
        let version = self.version;
        Subscribe::encode_parts(
            version,
            packet_id,
            request.subscription_id.map(Into::into),
            request.user_properties.to_packet(),
            &filters,
            &mut self.output,
        );
        self.trace(Direction::Sent, || PacketSummary::Subscribe {
            packet_id,
            filters: filters
                .iter()
                .map(|filter| (filter.filter.to_owned(), filter.options.to_byte(version)))
                .collect(),
        });
        Ok(self.insert_request(Stage::Subscribe, now))
    }

    /// Sends UNSUBSCRIBE. It completes as [`Acknowledgement::Unsubscribed`].
    ///
    /// # Errors
    /// There is no connection, or a filter is not valid; nothing was sent.
    pub fn unsubscribe(
        &mut self,
        request: &UnsubscribeRequest,
        now: Duration,
    ) -> Result<RequestId, RequestError> {
        check_filters(request.filters.iter().map(String::as_str))?;
        let packet_id = self.next_packet_id()?;
        let filters: Vec<_> = request.filters.iter().map(String::as_str).collect();
        let properties = request.user_properties.to_packet();
        let out = &mut self.output;
        Unsubscribe::encode_parts(self.version, packet_id, properties, &filters, out);
        let filters = || request.filters.clone();
        self.trace(Direction::Sent, || PacketSummary::Unsubscribe {
            packet_id,
            filters: filters(),
        });
        Ok(self.insert_request(Stage::Unsubscribe, now))
    }

    /// Resends what is in flight from an earlier connection, in order [MQTT-4.4.0-1], then sends
    /// the queue.
    pub(super) fn resume(&mut self, session_present: bool, now: Duration) {
        let server_maximum = self.server.receive_maximum.map_or(u16::MAX, Into::into);
        self.outbound.send_quota_max = self.outbound.send_maximum.min(server_maximum);
        self.outbound.send_quota = self.outbound.send_quota_max;
        let inherits = session_present && self.outbound.inherits.unwrap_or(true);
        self.outbound.inherits = Some(inherits);
        if !session_present {
            self.restart_as_new();
        }
        self.send_waiting(now);
    }

    /// The server has lost the session: messages are treated as new, and releases as completed.
    fn restart_as_new(&mut self) {
        let mut released = Vec::new();
        for (packet_id, request) in self.outbound.in_flight.iter_mut() {
            match &mut request.stage {
                Stage::Published {
                    message,
                    sent_before,
                    releases_first,
                } => (*sent_before, *releases_first) = (message.duplicate, false),
                _ => released.push(packet_id),
            }
        }
        for packet_id in released {
            if let Some(request) = self.outbound.in_flight.remove(packet_id) {
                self.outbound.unsent -= 1;
                self.complete_publish(request.id, ReasonCode::Success, None);
            }
        }
    }

    /// Sends messages that are in flight but not yet sent on this connection, then queued ones, as
    /// far as the quota allows [MQTT-4.9.0-2].
    fn send_waiting(&mut self, now: Duration) {
        if self.state != State::Connected {
            return;
        }
        if self.outbound.unsent > 0 {
            self.send_again(now);
        }
        while self.outbound.unsent == 0
            && self.outbound.send_quota > 0
            && let Some(packet_id) = self.outbound.in_flight.next_id()
            && let Some((id, message)) = self.outbound.queue.pop_front()
        {
            self.outbound.send_quota -= 1;
            let is_inherited =
                self.outbound.inherits == Some(true) && self.outbound.in_flight.next_is_first_use();
            let releases_first = is_inherited && message.qos == QoS::ExactlyOnce;
            if releases_first {
                self.release_first(packet_id);
            }
            self.encode_publish(&message, Some(packet_id), message.duplicate, now);
            let stage = Stage::Published {
                message,
                sent_before: true,
                releases_first,
            };
            self.outbound.in_flight.insert(Request {
                id,
                stage,
                sent: true,
            });
        }
    }

    /// Sends PUBREL for a message that the server may hold from an earlier run of this client.
    fn release_first(&mut self, packet_id: PacketId) {
        self.send_ack(AckKind::PubRel, packet_id, ReasonCode::Success);
        self.outbound.released_first.push_back(packet_id);
    }

    /// Whether a PUBCOMP answers such a PUBREL. It arrives before any other with that identifier.
    fn was_released_first(&mut self, packet_id: PacketId) -> bool {
        let released = &mut self.outbound.released_first;
        let at = released.iter().position(|one| *one == packet_id);
        at.is_some_and(|at| released.remove(at).is_some())
    }

    fn send_again(&mut self, now: Duration) {
        // Moved out, so that encoding can borrow the rest of the session.
        let mut in_flight = std::mem::replace(&mut self.outbound.in_flight, InFlight::new());
        for (packet_id, request) in in_flight.iter_mut() {
            if request.sent {
                continue;
            }
            match &mut request.stage {
                Stage::Published {
                    message,
                    sent_before,
                    releases_first,
                } => {
                    if self.outbound.send_quota == 0 {
                        break;
                    }
                    if *releases_first {
                        // Whether the server has received that release is unknown. If it has also
                        // received the message, the message arrives twice, which is better than
                        // never.
                        self.release_first(packet_id);
                    }
                    // [MQTT-3.3.1-1] DUP marks a message that may have been sent before.
                    self.encode_publish(message, Some(packet_id), *sent_before, now);
                    *sent_before = true;
                }
                _ => self.send_ack(AckKind::PubRel, packet_id, ReasonCode::Success),
            }
            self.outbound.send_quota = self.outbound.send_quota.saturating_sub(1);
            self.outbound.unsent -= 1;
            request.sent = true;
        }
        self.outbound.in_flight = in_flight;
    }

    pub(super) fn receive_puback(
        &mut self,
        ack: &Ack<'_>,
        now: Duration,
    ) -> Result<(), SessionError> {
        let (packet_id, reason) = (ack.packet_id, ack.reason);
        self.trace(Direction::Received, || PacketSummary::PubAck {
            packet_id,
            reason,
        });
        match self.outbound.in_flight.get_mut(packet_id) {
            Some(Request {
                stage: Stage::Published { message, .. },
                sent: true,
                ..
            }) if message.qos == QoS::AtLeastOnce => {
                self.end_publish(ack, now);
                Ok(())
            }
            None => self.unasked.count(now),
            Some(_) => Err(mismatch()),
        }
    }

    pub(super) fn receive_pubrec(
        &mut self,
        ack: &Ack<'_>,
        now: Duration,
    ) -> Result<(), SessionError> {
        let (packet_id, reason) = (ack.packet_id, ack.reason);
        self.trace(Direction::Received, || PacketSummary::PubRec {
            packet_id,
            reason,
        });
        let stage = self
            .outbound
            .in_flight
            .get_mut(packet_id)
            .map(|request| &mut request.stage);
        match stage {
            Some(Stage::Published { message, .. }) if message.qos == QoS::ExactlyOnce => {
                if reason.is_error() {
                    // [MQTT-4.4.0-2] A refused message is completed.
                    self.end_publish(ack, now);
                    return Ok(());
                }
                if let Some(request) = self.outbound.in_flight.get_mut(packet_id) {
                    // [MQTT-4.3.3-6] From here on the message is not sent again.
                    request.stage = Stage::Released;
                }
            }
            Some(Stage::Released) => self.unasked.count(now)?,
            Some(_) => return Err(mismatch()),
            None if reason.is_error() => return self.unasked.count(now),
            None => {
                let reason = ReasonCode::PacketIdentifierNotFound;
                self.send_ack(AckKind::PubRel, packet_id, reason);
                return self.unasked.count(now);
            }
        }
        self.send_ack(AckKind::PubRel, packet_id, ReasonCode::Success);
        self.keep_alive.sent(now);
        Ok(())
    }

    pub(super) fn receive_pubcomp(
        &mut self,
        ack: &Ack<'_>,
        now: Duration,
    ) -> Result<(), SessionError> {
        let (packet_id, reason) = (ack.packet_id, ack.reason);
        self.trace(Direction::Received, || PacketSummary::PubComp {
            packet_id,
            reason,
        });
        if self.was_released_first(packet_id) {
            return Ok(());
        }
        match self
            .outbound
            .in_flight
            .get_mut(packet_id)
            .map(|request| &request.stage)
        {
            Some(Stage::Released) => {
                // PUBREC has accepted the message; the reason code of PUBCOMP does not change that.
                self.end_publish(&Ack::new(packet_id, ReasonCode::Success), now);
                Ok(())
            }
            None => self.unasked.count(now),
            Some(_) => Err(mismatch()),
        }
    }

    pub(super) fn receive_suback(&mut self, packet: &SubAck<'_>) -> Result<(), SessionError> {
        let packet_id = packet.packet_id;
        self.trace(Direction::Received, || PacketSummary::SubAck { packet_id });
        let reasons = reason_codes(packet.reason_codes);
        let is_subscribe = |stage: &Stage| matches!(stage, Stage::Subscribe);
        self.complete_request(
            packet_id,
            is_subscribe,
            Acknowledgement::Subscribed(reasons),
        )
    }

    pub(super) fn receive_unsuback(&mut self, packet: &UnsubAck<'_>) -> Result<(), SessionError> {
        let packet_id = packet.packet_id;
        self.trace(Direction::Received, || PacketSummary::UnsubAck {
            packet_id,
        });
        let reasons = reason_codes(packet.reason_codes);
        let is_unsubscribe = |stage: &Stage| matches!(stage, Stage::Unsubscribe);
        self.complete_request(
            packet_id,
            is_unsubscribe,
            Acknowledgement::Unsubscribed(reasons),
        )
    }

    fn complete_request(
        &mut self,
        packet_id: PacketId,
        expected: impl FnOnce(&Stage) -> bool,
        acknowledgement: Acknowledgement,
    ) -> Result<(), SessionError> {
        match self.outbound.in_flight.get_mut(packet_id) {
            Some(request) if expected(&request.stage) => {
                let request = request.id;
                self.outbound.in_flight.remove(packet_id);
                self.events.push_back(Event::Completed {
                    request,
                    acknowledgement,
                });
                Ok(())
            }
            _ => Err(mismatch()),
        }
    }

    /// Completes the handshake of a message and returns its quota.
    fn end_publish(&mut self, ack: &Ack<'_>, now: Duration) {
        if let Some(request) = self.outbound.in_flight.remove(ack.packet_id) {
            let quota = self.outbound.send_quota.saturating_add(1);
            self.outbound.send_quota = quota.min(self.outbound.send_quota_max);
            let reason_string = ack.reason_string.map(str::to_owned);
            self.complete_publish(request.id, ack.reason, reason_string);
            self.send_waiting(now);
        }
    }

    fn complete_publish(
        &mut self,
        request: RequestId,
        reason: ReasonCode,
        reason_string: Option<String>,
    ) {
        let acknowledgement = Acknowledgement::Published {
            reason,
            reason_string,
        };
        self.events.push_back(Event::Completed {
            request,
            acknowledgement,
        });
    }

    fn next_packet_id(&self) -> Result<PacketId, RequestError> {
        if self.state != State::Connected {
            return Err(RequestError::NotConnected);
        }
        self.outbound
            .in_flight
            .next_id()
            .ok_or(RequestError::TooManyInFlight)
    }

    fn insert_request(&mut self, stage: Stage, now: Duration) -> RequestId {
        self.keep_alive.sent(now);
        let id = self.outbound.next_request();
        self.outbound.in_flight.insert(Request {
            id,
            stage,
            sent: true,
        });
        id
    }

    fn check_message(&self, message: &Message) -> Result<(), RequestError> {
        let alias = message.properties.topic_alias;
        if message.topic.is_empty() {
            alias
                .filter(|_| self.version.is_v5())
                .ok_or(RequestError::InvalidTopic)?;
        } else {
            TopicName::new(&message.topic).map_err(|_| RequestError::InvalidTopic)?;
        }
        if self.state == State::Connected {
            let server = &self.server;
            // [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-17]
            if message.qos > server.maximum_qos.unwrap_or(QoS::ExactlyOnce) {
                return Err(RequestError::QosNotSupported);
            }
            if message.retain && server.retain_available == Some(false) {
                return Err(RequestError::RetainNotSupported);
            }
            if self.version.is_v5()
                && alias.is_some_and(|alias| alias.get() > server.topic_alias_maximum)
            {
                return Err(RequestError::TopicAliasInvalid);
            }
        }
        let maximum = self.packet_bytes_max();
        let mut forwarded = Vec::new();
        message
            .properties
            .to_packet()
            .encode_forwarded(&mut forwarded);
        let packet = outgoing(message, &forwarded, None, false);
        let fits = packet.encoded_len(self.version) <= maximum;
        if fits {
            Ok(())
        } else {
            Err(RequestError::PacketTooLarge)
        }
    }

    fn encode_publish(
        &mut self,
        message: &Message,
        packet_id: Option<PacketId>,
        dup: bool,
        now: Duration,
    ) {
        let mut forwarded = Vec::new();
        if self.version.is_v5() {
            message
                .properties
                .to_packet()
                .encode_forwarded(&mut forwarded);
        }
        outgoing(message, &forwarded, packet_id, dup).encode(self.version, &mut self.output);
        self.keep_alive.sent(now);
        self.trace(Direction::Sent, || PacketSummary::Publish {
            duplicate: dup,
            qos: message.qos,
            retain: message.retain,
            packet_id,
            topic: message.topic.clone(),
            payload_len: message.payload.len(),
        });
    }
}

fn outgoing<'a>(
    message: &'a Message,
    forwarded: &'a [u8],
    packet_id: Option<PacketId>,
    dup: bool,
) -> OutgoingPublish<'a> {
    OutgoingPublish {
        dup,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic.as_bytes(),
        packet_id,
        topic_alias: message.properties.topic_alias,
        message_expiry_secs: message.properties.message_expiry_secs,
        subscription_ids: &[],
        forwarded,
        payload: &message.payload,
    }
}

fn check_filters<'a>(filters: impl Iterator<Item = &'a str>) -> Result<(), RequestError> {
    let mut count = 0;
    for filter in filters {
        SubscriptionFilter::parse(filter).map_err(|_| RequestError::InvalidTopic)?;
        count += 1;
    }
    if count == 0 {
        Err(RequestError::InvalidTopic)
    } else {
        Ok(())
    }
}

/// The codec accepts only reason codes that are valid for the packet.
fn reason_codes(codes: &[u8]) -> Vec<ReasonCode> {
    let known = |code: &u8| ReasonCode::from_u8(*code).unwrap_or(ReasonCode::UnspecifiedError);
    codes.iter().map(known).collect()
}

/// An acknowledgement of the wrong type for its Packet Identifier.
fn mismatch() -> SessionError {
    DecodeError::protocol(
        "an acknowledgement of another kind of request",
        "MQTT-4.3.3-4",
    )
    .into()
}
