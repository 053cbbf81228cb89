//! Input: from bytes to packets, in each phase of a connection.
//!
//! Reads end anywhere, so an unfinished packet stays with its connection. So does one that has to
//! wait ([`PacketHandling`](super::holding::PacketHandling)), while acknowledgements and pings
//! behind it pass.

use martlet_codec::{PacketType, ReasonCode};
use martlet_permission::{Limit, ProxyFault, RefusalCause};

use crate::connection::Phase;
use crate::connection::buffer::Buffer;
use crate::effect::ConnectionEffect;
use crate::id::ConnectionId;
use crate::lobby::version_of_unfinished;
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_PACKETS;
use crate::shard::packets::type_of;
use crate::shard::{PacketError, Progress, Shard};
use crate::work::PACKET;

impl Shard {
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
        self.begin_input(id);
        let consumed = self.receive_each(cx, id, bytes);
        self.pump_answered(cx);
        consumed
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
                Phase::Accepted => return consumed + self.receive_accepted(cx, id, rest),
                Phase::Lobby => self.receive_first_packet(cx, id, rest),
                Phase::Challenged => self.receive_in_exchange(cx, id, rest),
                Phase::Authenticating => break,
                Phase::Closing => return bytes.len(),
            };
            match self.progress(cx, id, rest, outcome) {
                Progress::Packet(length) => consumed += length,
                Progress::NeedMore => break,
                Progress::Gone => return bytes.len(),
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
}

/// Bytes held back for a client that is too fast before its socket is not read any more.
const HELD_BYTES_MAX: usize = 64 * 1024;

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
