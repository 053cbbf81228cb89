//! The protocol of an MQTT client as a state machine without I/O.
//!
//! Responsible for one Session State across any number of Network Connections: CONNECT and its
//! answer, requests, acknowledgements, Keep Alive. Input: bytes, requests and the time (any
//! monotonic clock, as a `Duration` since a moment chosen by the caller). Output: bytes to send,
//! and events. It has no sockets and no clock, and does not decide when to reconnect. MQTT 5.0 §3,
//! §4.

mod authenticate;
mod authentication;
mod event;
mod in_flight;
mod inbound;
mod keep_alive;
mod outbound;
mod receive;
mod requests;

/// Connection state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection, or one that is being closed.
    Disconnected,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK accepted us.
    Connected,
}

#[cfg(test)]
mod tests;
mod unasked;

use std::collections::VecDeque;
use std::time::Duration;

use martlet_codec::{
    Connect, ConnectProperties, DecodeError, Disconnect, Packet, ProtocolVersion, ReasonCode,
    Will as WillPacket, decode_fixed_header,
};

use crate::message::UserPropertyList;
use crate::options::{ConnectOptions, Will};
pub use authentication::Authentication;
pub use event::{
    Acknowledgement, ConnAckInfo, Direction, Event, PacketSummary, RequestError, RequestId,
    SessionError, TracedPacket,
};
use inbound::Inbound;
use keep_alive::KeepAlive;
use outbound::Outbound;
use unasked::Unasked;

/// Largest accepted packet if the options contain no Maximum Packet Size: the limit of the
/// protocol.
const PACKET_BYTES_MAX: usize = 268_435_455 + 5;
/// Capacity of the input buffer that is kept for the next packet, in bytes.
const INPUT_KEPT_BYTES: usize = 256 << 10;

/// An MQTT client session.
pub struct Session {
    version: ProtocolVersion,
    state: State,
    clean_start: bool,
    client_id: String,
    /// Largest packet that we accept, in bytes.
    packet_bytes_max: usize,
    keep_alive: KeepAlive,
    authentication: Option<Box<dyn Authentication + Send>>,
    inbound: Inbound,
    unasked: Unasked,
    outbound: Outbound,
    /// Fields of the accepting CONNACK; defaults while there is none.
    server: ConnAckInfo,
    /// Bytes of an incomplete packet; limited by `packet_bytes_max`.
    input: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Event>,
    traces: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Creates a session without a connection. It acknowledges each message as soon as its event is
    /// created.
    pub fn new() -> Self {
        Self {
            version: ProtocolVersion::V5,
            state: State::Disconnected,
            clean_start: true,
            client_id: String::new(),
            packet_bytes_max: PACKET_BYTES_MAX,
            keep_alive: KeepAlive::default(),
            authentication: None,
            inbound: Inbound::default(),
            unasked: Unasked::default(),
            outbound: Outbound::new(),
            server: ConnAckInfo::default(),
            input: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            traces: false,
        }
    }

    /// Sets whether messages of QoS 1 and 2 wait for [`Self::acknowledge`].
    pub fn set_manual_acknowledgement(&mut self, manual: bool) {
        self.inbound.manual_acknowledgement = manual;
    }

    /// Sets the authentication method for the following connections; MQTT 5.0 only. It overrides
    /// the method of the options.
    pub fn set_authentication(&mut self, authentication: Box<dyn Authentication + Send>) {
        self.authentication = Some(authentication);
    }

    /// Sets whether packets are reported as [`Event::Traced`].
    pub fn set_traces(&mut self, traces: bool) {
        self.traces = traces;
    }

    /// Limits how many QoS 1 and 2 messages are in flight to the server, below its Receive Maximum;
    /// further messages are queued. Takes effect with the next CONNACK.
    pub fn set_send_maximum(&mut self, count: u16) {
        self.outbound.send_maximum = count.max(1);
    }

    /// Begins a connection by sending CONNECT. A connection in progress counts as lost.
    pub fn connect(&mut self, options: &ConnectOptions, now: Duration) {
        self.connection_lost();
        self.output.clear();
        self.version = options.version;
        self.clean_start = options.clean_start;
        self.client_id.clone_from(&options.client_id);
        self.packet_bytes_max = options
            .maximum_packet_size
            .map_or(PACKET_BYTES_MAX, |size| size.get() as usize);
        self.inbound.begin(options);
        self.unasked = Unasked::default();
        self.keep_alive.begin(options.keep_alive_secs, now);
        let mut packet = connect_packet(options);
        let authentication = self.authentication.as_mut();
        let first = authentication.map(|found| (found.begin(), &*found));
        if let Some((data, authentication)) = &first {
            packet.properties.authentication_method = Some(authentication.method());
            packet.properties.authentication_data = Some(data);
        }
        packet.encode(&mut self.output);
        self.state = State::Connecting;
        self.trace(Direction::Sent, || PacketSummary::Connect);
    }

    /// Processes bytes from the server.
    ///
    /// # Errors
    /// The server violated the protocol: write the remaining output, then close the connection.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Result<(), SessionError> {
        self.keep_alive.received();
        let result = if self.input.is_empty() {
            self.receive_packets(bytes, now)
                .map(|used| self.input.extend_from_slice(&bytes[used..]))
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            self.receive_packets(&input, now).map(|used| {
                input.drain(..used);
                if input.capacity() > INPUT_KEPT_BYTES && input.len() < INPUT_KEPT_BYTES / 2 {
                    input.shrink_to(INPUT_KEPT_BYTES / 2);
                }
                self.input = input;
            })
        };
        result.map_err(|error| self.fail(error))
    }

    /// Advances the session's time. Call it at the time of [`Self::wake_at`].
    ///
    /// # Errors
    /// The server did not answer in time: close the connection.
    pub fn advance(&mut self, now: Duration) -> Result<(), SessionError> {
        let result = match self.state {
            State::Disconnected => Ok(false),
            State::Connecting => self.keep_alive.check_connack(now).map(|()| false),
            State::Connected => self.keep_alive.check(now),
        };
        match result {
            Ok(true) => {
                martlet_codec::encode_pingreq(&mut self.output);
                self.trace(Direction::Sent, || PacketSummary::PingReq);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Notifies the session that nothing is being read from the server, so that a missing PINGRESP
    /// is no failure.
    pub fn unread(&mut self) {
        self.keep_alive.received();
    }

    /// When to call [`Self::advance`], in the caller's time.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.state {
            State::Disconnected => None,
            State::Connecting => Some(self.keep_alive.connack_deadline()),
            State::Connected => self.keep_alive.wake_at(),
        }
    }

    /// Returns the next event, in chronological order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to send. The caller removes from the front what it has written.
    pub fn output_mut(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Capacity of the buffers in bytes: for an incomplete packet, and for the output.
    pub fn buffered_bytes(&self) -> (usize, usize) {
        (self.input.capacity(), self.output.capacity())
    }

    /// Whether CONNACK has accepted the current connection.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// The protocol version of the current or last connection.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The Client Identifier in use, assigned by the server if ours was empty.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Ends the connection with DISCONNECT. Unacknowledged messages stay in the session.
    pub fn disconnect(
        &mut self,
        reason: ReasonCode,
        session_expiry_secs: Option<u32>,
        user_properties: &UserPropertyList,
    ) {
        if self.state == State::Disconnected {
            return;
        }
        let packet = Disconnect {
            session_expiry_secs,
            user_properties: user_properties.to_packet(),
            ..Disconnect::new(reason)
        };
        packet.encode(self.version, &mut self.output);
        self.trace(Direction::Sent, || PacketSummary::Disconnect { reason });
        self.state = State::Disconnected;
    }

    /// Notifies the session that the network connection was lost. Unacknowledged messages stay in
    /// the session. Unanswered SUBSCRIBE and UNSUBSCRIBE complete as
    /// [`Acknowledgement::ConnectionLost`].
    pub fn connection_lost(&mut self) {
        self.state = State::Disconnected;
        self.input.clear();
        self.output.clear();
        self.server = ConnAckInfo::default();
        self.inbound.connection_lost();
        self.outbound.connection_lost(&mut self.events);
    }

    /// Processes all complete packets in `bytes`. Returns the number of bytes that they took.
    fn receive_packets(&mut self, bytes: &[u8], now: Duration) -> Result<usize, SessionError> {
        let mut used = 0;
        while let Some(header) = decode_fixed_header(&bytes[used..])? {
            let packet_len = header.packet_len();
            if packet_len > self.packet_bytes_max {
                // [MQTT-3.1.2-24] The server must not send a packet larger than our Maximum Packet
                // Size.
                let reason = ReasonCode::PacketTooLarge;
                return Err(DecodeError::of(reason, "packet too large", "MQTT-3.1.2-24").into());
            }
            let body_start = used + usize::from(header.header_len);
            let Some(body) = bytes.get(body_start..used + packet_len) else {
                break;
            };
            if self.state == State::Disconnected {
                return Ok(bytes.len());
            }
            let packet = Packet::decode(header, body, self.version)?;
            self.receive_packet(packet, now)?;
            used += packet_len;
        }
        Ok(used)
    }

    /// Sends DISCONNECT if the protocol version permits it, and closes.
    fn fail(&mut self, error: SessionError) -> SessionError {
        if let SessionError::Protocol(error) = &error
            && self.state == State::Connected
            && self.version.is_v5()
            && error.reason.sendable_by_client_in_disconnect()
        {
            self.disconnect(error.reason, None, &UserPropertyList::default());
        }
        self.state = State::Disconnected;
        self.input.clear();
        error
    }

    /// Reports a packet if tracing is on.
    fn trace(&mut self, direction: Direction, packet: impl FnOnce() -> PacketSummary) {
        if self.traces {
            let packet = packet();
            self.events
                .push_back(Event::Traced(TracedPacket { direction, packet }));
        }
    }
}

/// Converts the options to the codec's type.
fn connect_packet(options: &ConnectOptions) -> Connect<'_> {
    Connect {
        version: options.version,
        bridge: options.bridge,
        clean_start: options.clean_start,
        keep_alive_secs: options.keep_alive_secs,
        client_id: &options.client_id,
        user_name: options.username.as_deref(),
        password: options
            .password
            .as_ref()
            .map(|password| password.0.as_slice()),
        will: options.will.as_ref().map(will_packet),
        properties: ConnectProperties {
            session_expiry_secs: options.session_expiry_secs,
            receive_maximum: options.receive_maximum,
            maximum_packet_size: options.maximum_packet_size,
            topic_alias_maximum: options.topic_alias_maximum,
            request_response_information: options.request_response_information,
            request_problem_information: options.request_problem_information,
            authentication_method: options.authentication_method.as_deref(),
            authentication_data: options.authentication_data.as_deref(),
            user_properties: options.user_properties.to_packet(),
        },
    }
}

fn will_packet(will: &Will) -> WillPacket<'_> {
    let mut properties = will.message.properties.to_packet();
    properties.topic_alias = None;
    WillPacket {
        topic: &will.message.topic,
        payload: &will.message.payload,
        qos: will.message.qos,
        retain: will.message.retain,
        delay_secs: will.delay_secs,
        properties,
    }
}
