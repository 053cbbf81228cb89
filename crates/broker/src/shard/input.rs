//! Input: from bytes to packets, and each packet to its handler.
//!
//! Reads end anywhere, so an unfinished packet stays with its connection. So does one that has to
//! wait ([`PacketHandling::Later`]), while acknowledgements and pings behind it pass.

use martlet_codec::{
    Ack, AckKind, Auth, Disconnect, FixedHeader, PacketId, PacketType, Publish, QoS, ReasonCode,
};
use martlet_permission::{Limit, ProxyFault, RefusalCause};

use crate::connection::buffer::Buffer;
use crate::connection::{Phase, Since};
use crate::effect::ConnectionEffect;
use crate::id::{ConnectionId, SessionId};
use crate::lobby::version_of_unfinished;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PACKETS;
use crate::rate::Pace;
use crate::session::acks_in_a_row::SHORT_ACK_LEN;
use crate::shard::holding::PacketHandling;
use crate::shard::{Ending, PacketError, Shard, TransportEnd};
use crate::work::PACKET;

impl Shard {
    /// The transport has ended: what came before its end is worked off, then the connection is lost
    /// unless its client sent DISCONNECT.
    pub(crate) fn finish_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        connection.flags.set_input_held(false);
        if let Some(mut input) = connection.input.take() {
            let consumed = self.receive_packets(cx, id, &input.bytes);
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

    /// Keeps what was not worked off. Most reads end with a whole packet and keep nothing.
    pub(super) fn keep_input<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        rest: &[u8],
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing || rest.is_empty() {
            return;
        }
        connection.keep_input(rest, &mut self.buffers.pool);
        if connection.flags.input_held() {
            self.work_off_input(cx, id);
        }
    }

    /// Works off what lies in the connection's own input buffer.
    pub(super) fn work_off_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Some(mut input) = connection.input.take() else {
            return;
        };
        if !connection.flags.input_held() {
            input.done = 0;
            let consumed = self.receive_packets(cx, id, &input.bytes);
            input.bytes.drain(..consumed);
        }
        if !self.work.share_used
            && self
                .connections
                .get(id)
                .is_some_and(|found| found.flags.input_held())
        {
            self.pass_acknowledgements(cx, id, &mut input);
            self.pump_answered(cx);
        }
        match self.connections.get_mut(id) {
            Some(connection) if connection.phase != Phase::Closing && !input.bytes.is_empty() => {
                connection.input = Some(input);
            }
            _ => self.buffers.pool.put(Some(input)),
        }
    }

    /// Works off acknowledgements and pings among held-back packets: they pass even while
    /// publishes are blocked [MQTT-3.3.4-8], [MQTT-3.3.4-10].
    /// [MQTT-4.9.0-3]
    pub(super) fn pass_acknowledgements<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        input: &mut Buffer,
    ) {
        self.work.begin_input(self.settings.work.share);
        let mut held = HeldInput::of(input);
        // Nothing passes a CONNECT that waits.
        while let Some(connection) = self.connections.get(id)
            && connection.phase == Phase::Accepted
        {
            if self.work.is_share_over() {
                self.work.share_used = true;
                return;
            }
            let rest = held.rest();
            let header = match martlet_codec::decode_fixed_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => return,
                Err(error) => {
                    let packet_type = type_of(rest);
                    return self.packet_refused(cx, id, packet_type, error.into());
                }
            };
            let length = header.packet_len();
            if length > self.settings.limits.packet_bytes as usize {
                let error = PacketError::of(ReasonCode::PacketTooLarge, Limit::PacketBytes);
                return self.packet_refused(cx, id, Some(header.packet_type), error);
            }
            if rest.len() < length {
                return;
            }
            let connection = self.connections.at(id.index);
            connection.received(cx.now.mono_ms);
            let passes = match header.packet_type {
                PacketType::PubAck | PacketType::PubComp | PacketType::PingReq => true,
                PacketType::PubRec | PacketType::PubRel => {
                    !self.has_gated_enough(id.index, header.packet_type)
                }
                _ => false,
            };
            if !passes {
                held.keep(length);
                continue;
            }
            self.work.add(PACKET);
            self.counters.packets_received += 1;
            let body = &rest[usize::from(header.header_len)..length];
            if self.observers.wants.any(NOTIFY_PACKETS) {
                self.notify_packet_received(cx, id.index, &header, body);
            }
            if let Err(error) = self.packet_received(cx, id.index, &header, body) {
                return self.packet_refused(cx, id, Some(header.packet_type), error);
            }
            held.take_out(length);
        }
    }

    /// Stops reading while too much is held back, and resumes when that is processed. It stops as
    /// well while the client does not read our answers: messages leave room for them, so only a
    /// client that sends requests without reading reaches that limit.
    pub(super) fn after_input<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let limits = &self.settings.limits;
        let output_max = limits.output_bytes as usize * 2 + limits.packet_bytes as usize;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.phase == Phase::Closing {
            return;
        }
        let held = connection.flags.input_held();
        let share_used = core::mem::take(&mut self.work.share_used);
        let takes = matches!(connection.phase, Phase::Lobby | Phase::Challenged);
        let waits = held || !connection.flags.admitted() && !takes;
        let pause = waits && connection.input_len() >= HELD_BYTES_MAX
            || connection.output_len() > output_max;
        if pause != connection.flags.reading_paused() {
            connection.flags.set_reading_paused(pause);
            let effect = match pause {
                true => ConnectionEffect::PauseReading(id),
                false => ConnectionEffect::ResumeReading(id),
            };
            cx.effects.connections.push(effect);
        }
        if connection.buffer_bytes() != connection.charged_bytes as usize {
            self.charge_buffers(id.index);
            if self.lobby.memory.is_over() {
                self.relieve_lobby(cx);
                if self.connections.get(id).is_none() {
                    return;
                }
            }
        }
        if held && share_used {
            self.queue_input_after_share(id.index);
        } else if held && self.has_done_enough() {
            self.queue_input(id.index);
        }
    }

    /// Works off complete packets; answers how many bytes they were.
    pub(super) fn receive_packets<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> usize {
        self.work.begin_input(self.settings.work.share);
        if self.permits.reviews.is_under_way() {
            self.review_connection(id);
        }
        let consumed = self.receive_each(cx, id, bytes);
        self.pump_answered(cx);
        consumed
    }

    /// Sends what acknowledgements made room for, once all that came together are worked off: then
    /// their records stand together, and so do those of what is sent.
    fn pump_answered<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        if let Some(id) = self.waiting.answered.take()
            && let Some(session) = self.sessions.live(id)
        {
            self.pump(cx, session);
            self.sessions.at(session).outbound.rest();
        }
    }

    fn receive_each<N: Node>(
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
            let outcome = match connection.phase {
                Phase::Closing => return bytes.len(),
                Phase::Lobby => self.receive_first_packet(cx, id, rest),
                Phase::Authenticating => break,
                Phase::Challenged => self.receive_in_exchange(cx, id, rest),
                Phase::Accepted if !connection.flags.admitted() => break,
                Phase::Accepted => self.receive_packet(cx, id, rest),
            };
            match outcome {
                Ok(Progress::Packet(length)) => consumed += length,
                Ok(Progress::NeedMore) => break,
                Ok(Progress::Gone) => return bytes.len(),
                Err(error) => {
                    self.packet_refused(cx, id, type_of(rest), error);
                    return bytes.len();
                }
            }
        }
        consumed
    }

    /// The lobby's packet: a CONNECT or nothing [MQTT-3.1.0-1].
    fn receive_first_packet<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Result<Progress, PacketError> {
        if !bytes.first().is_some_and(|first| may_be_connect(*first)) {
            // Known by its first byte, before a length is looked at.
            let cause = match begins_proxy_header(bytes) {
                true => RefusalCause::Proxy(ProxyFault::Unexpected),
                false if begins_tls_handshake(bytes) => RefusalCause::TlsToMqtt,
                false if begins_http_request(bytes) => RefusalCause::HttpToMqtt,
                false => RefusalCause::NotMqtt,
            };
            self.refuse(cx, id.index, None, ReasonCode::ProtocolError, cause);
            return Ok(Progress::Gone);
        }
        let header = match martlet_codec::decode_fixed_header(bytes) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Progress::NeedMore),
            Err(error) => {
                let cause = RefusalCause::Packet(error.what);
                self.refuse(cx, id.index, None, error.reason, cause);
                return Ok(Progress::Gone);
            }
        };
        let length = header.packet_len();
        if length > self.settings.limits.connect_packet_bytes as usize {
            let version = version_of_unfinished(bytes);
            let (reason, why) = (ReasonCode::PacketTooLarge, Limit::ConnectPacketBytes);
            if version.is_none() && bytes.len() < usize::from(header.header_len) + 7 {
                return Ok(Progress::NeedMore);
            }
            self.refuse(cx, id.index, version, reason, why);
            return Ok(Progress::Gone);
        }
        if bytes.len() < length {
            return Ok(Progress::NeedMore);
        }
        let body = &bytes[usize::from(header.header_len)..length];
        if self.holds_connect(cx, id, header.flags, body) {
            return Ok(Progress::NeedMore);
        }
        self.counters.packets_received += 1;
        match self.connect_received(cx, id.index, header.flags, body, &bytes[length..]) {
            crate::lobby::Admission::Here => Ok(Progress::Packet(length)),
            crate::lobby::Admission::Moved => Ok(Progress::Gone),
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
                let of = (id.index, session);
                self.ack_received(cx, of, kind, packet_id, ReasonCode::Success)?;
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

    /// Takes an acknowledgement that is processed at once, and of which no event is wanted: the
    /// session that it is for.
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
        self.ack_received(cx, (index, session), kind, ack.packet_id, ack.reason)
    }

    fn ack_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        of: (u32, SessionId),
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), PacketError> {
        match kind {
            AckKind::PubAck => self.puback_received(cx, of.1, packet_id, reason),
            AckKind::PubRec => self.pubrec_received(cx, of, packet_id, reason),
            AckKind::PubRel => {
                self.pubrel_received(cx, of, packet_id);
                Ok(())
            }
            AckKind::PubComp => self.pubcomp_received(cx, of.1, packet_id),
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

/// Bytes held back for a client that is too fast before its socket is not read any more.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// As in the first byte of a packet.
fn type_of(bytes: &[u8]) -> Option<PacketType> {
    PacketType::from_u8(bytes.first()? >> 4)
}

/// The result of reading the bytes at the front.
pub(crate) enum Progress {
    /// A packet of this length is worked off.
    Packet(usize),
    /// The packet is not complete, or has to wait.
    NeedMore,
    /// The connection has ended, or takes no more input.
    Gone,
}

/// CONNECT by its first byte. MQTT 3.1 does not use the flags, but has no QoS 3; which is what TLS
/// begins with.
fn may_be_connect(first: u8) -> bool {
    const QOS_3: u8 = 0b0110;
    first >> 4 == 1 && first & QOS_3 != QOS_3
}

/// An input buffer with held-back packets. Some are worked off and leave a gap, which is closed
/// once, at the end. Closing it after each packet would move the rest of the buffer each time: the
/// cost would grow with the square of the number of packets.
struct HeldInput<'a> {
    input: &'a mut Buffer,
    /// Where the packets begin that were not looked at. Between `input.done` and here is the gap.
    next: usize,
}

impl<'a> HeldInput<'a> {
    fn of(input: &'a mut Buffer) -> Self {
        let next = input.done as usize;
        Self { input, next }
    }

    /// Returns what was not looked at.
    fn rest(&self) -> &[u8] {
        &self.input.bytes[self.next..]
    }

    /// The next packet stays.
    fn keep(&mut self, length: usize) {
        let (done, end) = (self.input.done as usize, self.next + length);
        if done < self.next {
            self.input.bytes.copy_within(self.next..end, done);
        }
        self.input.done += length as u32;
        self.next = end;
    }

    /// The next packet is worked off.
    fn take_out(&mut self, length: usize) {
        self.next += length;
    }
}

impl Drop for HeldInput<'_> {
    fn drop(&mut self) {
        let done = self.input.done as usize;
        self.input.bytes.drain(done..self.next);
    }
}

/// The first bytes are those of a TLS record with a handshake: a ClientHello.
fn begins_tls_handshake(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x16, 0x03])
}

/// The first bytes are those of an HTTP request: its method.
fn begins_http_request(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 7] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"DELETE ",
        b"PATCH ",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// The first bytes are those of a PROXY header, of version 1 or 2.
fn begins_proxy_header(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
}
