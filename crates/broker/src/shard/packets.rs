//! Packets of an accepted client, each to its handler.

use martlet_codec::{
    Ack, AckKind, Auth, Disconnect, FixedHeader, PacketId, PacketType, Publish, QoS, ReasonCode,
};
use martlet_permission::Limit;

use crate::connection::{Phase, Since};
use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PACKETS;
use crate::rate::Pace;
use crate::session::acks_in_a_row::SHORT_ACK_LEN;
use crate::shard::holding::PacketHandling;
use crate::shard::{Ending, PacketError, Shard, TransportEnd};
use crate::work::PACKET;

/// The result of reading the bytes at the front.
pub(crate) enum Progress {
    /// A packet of this length is worked off.
    Packet(usize),
    /// The packet is not complete, or has to wait.
    NeedMore,
    /// The connection has ended, or takes no more input.
    Gone,
}

/// As in the first byte of a packet.
pub(super) fn type_of(bytes: &[u8]) -> Option<PacketType> {
    PacketType::from_u8(bytes.first()? >> 4)
}

impl Shard {
    /// The transport has ended: what came before its end is worked off, then the connection is lost
    /// unless its client sent DISCONNECT.
    pub(crate) fn finish_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        connection.flags.set_input_held(false);
        if let Some(mut input) = connection.input.take() {
            self.begin_input(id);
            let consumed = self.receive_accepted(cx, id, &input.bytes);
            self.pump_answered(cx);
            if let Some(connection) = self.connections.get_mut(id)
                && connection.waits_for_screening()
            {
                // The rest is worked off once the message has its answer.
                input.bytes.drain(..consumed);
                connection.input = Some(input);
                connection.flags.set_input_held(true);
                return;
            }
            if core::mem::take(&mut self.work.share_used)
                && let Some(connection) = self.connections.get_mut(id)
            {
                // The rest has its turn after others have had theirs.
                input.bytes.drain(..consumed);
                connection.input = Some(input);
                return self.queue_input_after_share(id.index);
            }
        }
        if let Some(connection) = self.connections.get(id) {
            let cause = connection.rare().and_then(|rare| rare.transport_end);
            let cause = cause.unwrap_or(TransportEnd::EndOfStream.cause());
            self.end_connection(cx, id.index, Ending::lost(cause));
            self.forget_connection(id);
        }
    }

    /// Ends the input, likewise, but what came before its end is not worked off.
    pub(crate) fn give_up_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        self.buffers.pool.put(connection.input.take());
        let pending = connection.take_rare(|rare| rare.screening.take());
        self.end_screening(pending);
        self.finish_input(cx, id);
    }

    /// The share of a turn of this connection's input begins.
    #[inline]
    pub(super) fn begin_input(&mut self, id: ConnectionId) {
        self.work.begin_input(self.settings.work.share);
        if self.permits.reviews.is_under_way() {
            self.review_connection(id);
        }
    }

    /// Works off complete packets of an accepted client; answers how many bytes they were.
    pub(super) fn receive_accepted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> usize {
        let mut consumed = 0;
        while consumed < bytes.len() {
            let rest = &bytes[consumed..];
            let Some(connection) = self.connections.get(id) else {
                return bytes.len();
            };
            if connection.phase != Phase::Accepted {
                return bytes.len();
            }
            if !connection.flags.admitted() {
                break;
            }
            let outcome = self.receive_packet(cx, id, rest);
            match self.progress(cx, id, rest, outcome) {
                Progress::Packet(length) => consumed += length,
                Progress::NeedMore => break,
                Progress::Gone => return bytes.len(),
            }
        }
        consumed
    }

    /// The result of reading the bytes at the front; a packet that is wrong is refused.
    #[inline]
    pub(super) fn progress<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
        outcome: Result<Progress, PacketError>,
    ) -> Progress {
        outcome.unwrap_or_else(|error| {
            self.packet_refused(cx, id, type_of(bytes), error);
            Progress::Gone
        })
    }

    /// Sends what acknowledgements made room for, once all that came together are worked off: then
    /// their records stand together, and so do those of what is sent.
    pub(super) fn pump_answered<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if let Some(id) = self.waiting.answered.take()
            && let Some(session) = self.sessions.live(id)
        {
            self.pump(cx, session);
            self.sessions.at(session).outbound.rest();
        }
    }

    fn receive_packet<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Result<Progress, PacketError> {
        if let Some((kind, packet_id)) = Ack::peek_short(bytes) {
            let length = self.receive_acks_in_a_row(cx, id.index, bytes);
            if length > 0 {
                return Ok(Progress::Packet(length));
            }
            if let Some(session) = self.takes_ack(cx, id.index, kind) {
                self.work.add(PACKET);
                self.counters.packets_received += 1;
                let (index, ok) = (id.index, ReasonCode::Success);
                self.ack_received(cx, index, session, kind, packet_id, ok)?;
                return Ok(Progress::Packet(SHORT_ACK_LEN));
            }
        }
        let Some(header) = martlet_codec::decode_fixed_header(bytes)? else {
            return Ok(Progress::NeedMore);
        };
        let length = header.packet_len();
        if length > self.settings.limits.packet_bytes as usize {
            // Refused on its announced length: nothing is allocated for it [MQTT-3.2.2-15].
            return Err(PacketError::of(
                ReasonCode::PacketTooLarge,
                Limit::PacketBytes,
            ));
        }
        if bytes.len() < length {
            let connection = self.connections.at(id.index);
            header.check_version(connection.version)?;
            return Ok(Progress::NeedMore);
        }
        let body = &bytes[usize::from(header.header_len)..length];
        if let Pace::Later = self.pace_of(cx, id, &header)? {
            self.connections.at(id.index).flags.set_input_held(true);
            return Ok(Progress::NeedMore);
        }
        match self.turn_of(cx, id.index, &header, body) {
            PacketHandling::Now => {}
            PacketHandling::Never => {
                self.pass_over(id.index, &header, body)?;
                return Ok(Progress::Packet(length));
            }
            PacketHandling::Later { for_store } => {
                let connection = self.connections.at(id.index);
                connection.flags.set_input_held(true);
                if for_store && connection.held_for_store_since == Since::NONE {
                    connection.held_for_store_since = Since::at_ms(cx.now.mono_ms);
                    self.watch_stalled(cx, id);
                }
                if for_store || self.waiting.held_back.congested {
                    self.note_held(id);
                }
                return Ok(Progress::NeedMore);
            }
        }
        let has_filters = matches!(
            header.packet_type,
            PacketType::Subscribe | PacketType::Unsubscribe
        );
        let connection = self.connections.at(id.index);
        connection.received(cx.now.mono_ms);
        connection.held_for_store_since = Since::NONE;
        let goes_on = has_filters && connection.is_half_done();
        if !goes_on {
            self.work.add(PACKET);
            self.counters.packets_received += 1;
            if self.observers.wants.any(NOTIFY_PACKETS) {
                self.notify_packet_received(cx, id.index, &header, body);
            }
        }
        self.packet_received(cx, id.index, &header, body)?;
        if has_filters
            && let Some(connection) = self.connections.get_mut(id)
            && connection.is_half_done()
        {
            connection.flags.set_input_held(true);
            self.work.share_used = true;
            return Ok(Progress::NeedMore);
        }
        Ok(Progress::Packet(length))
    }

    /// A packet of a client that has gone is not worked off. The Topic Alias that it sets holds for
    /// what the client sent behind it. A QoS 0 message, which is never sent again, is counted.
    #[cold]
    fn pass_over(
        &mut self,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) -> Result<(), PacketError> {
        if header.packet_type == PacketType::Publish {
            let version = self.connections.at(index).version;
            let publish = Publish::decode(header.flags, body, version)?;
            self.resolve_alias(index, &publish)?;
            if publish.qos == QoS::AtMostOnce {
                self.counters.publishes_received += 1;
                self.counters.publishes_refused += 1;
                self.counters.publishes_dropped += 1;
            }
        }
        Ok(())
    }

    /// One packet of an accepted client.
    pub(super) fn packet_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        header: &FixedHeader,
        body: &[u8],
    ) -> Result<(), PacketError> {
        let version = self.connections.at(index).version;
        header.check_version(version)?;
        match header.packet_type {
            PacketType::Publish => {
                let publish = Publish::decode(header.flags, body, version)?;
                if self.settings.limits.has_publish_rate()
                    && !self.spend_rate(cx, index, &publish)?
                {
                    return Ok(());
                }
                self.publish_received(cx, index, &publish)
            }
            PacketType::PubAck => self.long_ack_received(cx, index, AckKind::PubAck, body),
            PacketType::PubRec => self.long_ack_received(cx, index, AckKind::PubRec, body),
            PacketType::PubRel => self.long_ack_received(cx, index, AckKind::PubRel, body),
            PacketType::PubComp => self.long_ack_received(cx, index, AckKind::PubComp, body),
            PacketType::Subscribe => self.subscribe_received(cx, index, body),
            PacketType::Unsubscribe => self.unsubscribe_received(cx, index, body),
            PacketType::PingReq => {
                if !body.is_empty() {
                    return Err(PacketError::malformed("PINGREQ with a body", "MQTT-3.12"));
                }
                // [MQTT-3.12.4-1]
                let connection = self.connections.at(index);
                martlet_codec::encode_pingresp(connection.output_mut(&mut self.buffers.pool));
                self.output_appended(cx, index);
                Ok(())
            }
            PacketType::Disconnect => {
                self.disconnect_received(cx, index, &Disconnect::decode(body, version)?)
            }
            PacketType::Auth => self.auth_received(cx, index, &Auth::decode(body)?),
            PacketType::Connect => Err(PacketError::protocol("a second CONNECT", "MQTT-3.1.0-2")),
            PacketType::ConnAck
            | PacketType::SubAck
            | PacketType::UnsubAck
            | PacketType::PingResp => Err(PacketError::protocol(
                "a packet that only servers send",
                "MQTT-4.13.1-1",
            )),
        }
    }

    /// Accepts an acknowledgement that is processed at once and reported in no event. Returns its
    /// session.
    #[inline(always)]
    fn takes_ack<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        index: u32,
        kind: AckKind,
    ) -> Option<SessionId> {
        if self.work.is_share_over() || self.observers.wants.any(NOTIFY_PACKETS) {
            return None;
        }
        let connection = self.connections.at(index);
        let is_answered = matches!(kind, AckKind::PubRec | AckKind::PubRel);
        if is_answered && connection.has_gated_enough(&self.settings.limits, kind.packet_type()) {
            return None;
        }
        connection.received(cx.now.mono_ms);
        connection.held_for_store_since = Since::NONE;
        connection.owner()
    }

    /// An acknowledgement with a reason code or properties, or one that has to be reported.
    #[inline(never)]
    fn long_ack_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        kind: AckKind,
        body: &[u8],
    ) -> Result<(), PacketError> {
        let connection = self.connections.at(index);
        let ack = Ack::decode(kind, body, connection.version)?;
        let Some(session) = connection.owner() else {
            return Ok(());
        };
        self.ack_received(cx, index, session, kind, ack.packet_id, ack.reason)
    }

    fn ack_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: SessionId,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        match kind {
            AckKind::PubAck => self.puback_received(cx, session, packet_id, reason),
            AckKind::PubRec => self.pubrec_received(cx, index, session, packet_id, reason),
            AckKind::PubRel => {
                self.pubrel_received(cx, index, session, packet_id);
                Ok(())
            }
            AckKind::PubComp => self.pubcomp_received(cx, session, packet_id),
        }
    }

    /// A packet that must not be, or that goes beyond a limit, ends the connection
    /// [MQTT-4.13.1-1].
    /// [MQTT-3.1.1/2.2.2-2] too.
    pub(super) fn packet_refused<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        packet_type: Option<PacketType>,
        error: PacketError,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.phase {
            Phase::Lobby | Phase::Authenticating => {
                self.refuse(cx, id.index, None, error.reason, error.cause);
            }
            Phase::Challenged => self.refuse_waiting(cx, id.index, error),
            Phase::Accepted => {
                self.counters.protocol_errors += 1;
                self.end_connection(cx, id.index, Ending::by_packet(error, packet_type));
            }
            Phase::Closing => {}
        }
    }
}
