//! What a session tells its user, and why a session or a request can fail.
//!
//! Responsible for the closed lists of events and errors. It holds no state.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use martlet_codec::{DecodeError, PacketId, QoS, ReasonCode};

use crate::message::{Message, UserPropertyList};

/// Names a request of this session, from 1 upwards; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The server accepted the connection.
    Connected(Box<ConnAckInfo>),
    /// The server refused the connection and is about to close it.
    Refused {
        /// The code on the wire: 1 to 5 before MQTT 5.0, a reason code of 128 or above since.
        code: u8,
        /// What it means; `UnspecifiedError` for a code that the specification does not know.
        reason: ReasonCode,
        /// Reason String, MQTT 5.0.
        reason_string: Option<String>,
    },
    /// A message arrived.
    Message(Box<Message>),
    /// A request came to its end.
    Completed {
        /// The request, as returned when it was made.
        request: RequestId,
        /// How it ended.
        acknowledgement: Acknowledgement,
    },
    /// The server ended the connection with DISCONNECT (MQTT 5.0).
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// Reason String.
        reason_string: Option<String>,
        /// Server Reference: where to connect instead.
        server_reference: Option<String>,
    },
    /// A packet was sent or received; only when tracing is on.
    Traced(TracedPacket),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// A PUBLISH: sent (QoS 0), PUBACK, PUBCOMP, or a PUBREC that refused it.
    Published {
        /// Below 128 the server took the message.
        reason: ReasonCode,
        /// Reason String, MQTT 5.0.
        reason_string: Option<String>,
    },
    /// A SUBSCRIBE: for each filter the QoS granted or why not. Before MQTT 5.0 a refusal is
    /// always `UnspecifiedError`.
    Subscribed(Vec<ReasonCode>),
    /// An UNSUBSCRIBE: one reason for each filter, none before MQTT 5.0.
    Unsubscribed(Vec<ReasonCode>),
    /// The connection ended before the SUBSCRIBE or UNSUBSCRIBE was answered.
    ConnectionLost,
}

/// What an accepting CONNACK said.
#[derive(Clone, Debug, Default)]
pub struct ConnAckInfo {
    /// Session Present: the server resumed a session.
    pub session_present: bool,
    /// The Client Identifier in use: ours, or the one that the server assigned.
    pub client_id: String,
    /// Keep Alive in use, in seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval in use, in seconds, where the server named one.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum of the server.
    pub receive_maximum: Option<NonZeroU16>,
    /// Highest QoS that the server takes; `None` is 2.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages; `None` is yes.
    pub retain_available: Option<bool>,
    /// Largest packet in bytes that the server takes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// How many Topic Aliases the server takes; 0 before MQTT 5.0.
    pub topic_alias_maximum: u16,
    /// Response Information.
    pub response_information: Option<String>,
    /// User Properties.
    pub user_properties: UserPropertyList,
}

/// Why the connection must be closed. The session itself stays usable for the next connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The server sent what is no valid packet or not allowed here.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] DecodeError),
    /// What the server said to prove who it is, or to have us prove who we are, is wrong.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// No answer to PINGREQ within the Keep Alive.
    #[error("the server did not answer a PINGREQ in time")]
    KeepAliveTimeout,
    /// No CONNACK in time.
    #[error("the server did not answer CONNECT in time")]
    ConnAckTimeout,
}

/// Why a request was not taken. Nothing was sent and the session is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no accepted connection.
    #[error("not connected")]
    NotConnected,
    /// The topic or a filter is not valid, or the list of filters is empty.
    #[error("invalid topic")]
    InvalidTopic,
    /// The packet would be larger than the server or the protocol allows.
    #[error("the packet is larger than the server accepts")]
    PacketTooLarge,
    /// The server does not take this QoS.
    #[error("the server does not support this QoS")]
    QosNotSupported,
    /// The server keeps no retained messages.
    #[error("the server does not support retained messages")]
    RetainNotSupported,
    /// The Topic Alias is above the server's maximum.
    #[error("the server does not support this topic alias")]
    TopicAliasInvalid,
    /// All Packet Identifiers are in use.
    #[error("too many requests are under way")]
    TooManyInFlight,
}

/// One packet, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// Whether we sent it.
    pub direction: Direction,
    /// What it was.
    pub packet: PacketSummary,
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Sent,
    /// From the server.
    Received,
}

/// The main fields of a packet, without payloads and credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the packets")]
pub enum PacketSummary {
    /// CONNECT.
    Connect,
    /// CONNACK with its code on the wire.
    ConnAck { code: u8 },
    /// PUBLISH.
    Publish {
        duplicate: bool,
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        topic: String,
        payload_len: usize,
    },
    /// PUBACK.
    PubAck {
        packet_id: PacketId,
        reason: ReasonCode,
    },
    /// PUBREC.
    PubRec {
        packet_id: PacketId,
        reason: ReasonCode,
    },
    /// PUBREL.
    PubRel { packet_id: PacketId },
    /// PUBCOMP.
    PubComp {
        packet_id: PacketId,
        reason: ReasonCode,
    },
    /// SUBSCRIBE: each filter with the byte of its options.
    Subscribe {
        packet_id: PacketId,
        filters: Vec<(String, u8)>,
    },
    /// SUBACK.
    SubAck { packet_id: PacketId },
    /// UNSUBSCRIBE.
    Unsubscribe {
        packet_id: PacketId,
        filters: Vec<String>,
    },
    /// UNSUBACK.
    UnsubAck { packet_id: PacketId },
    /// AUTH.
    Auth { reason: ReasonCode },
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect { reason: ReasonCode },
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
