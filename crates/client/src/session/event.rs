//! Events of a session, and errors of sessions and requests.
//!
//! Closed lists of events and errors, without state.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use martlet_codec::{DecodeError, PacketId, QoS, ReasonCode};

use crate::message::{Message, UserPropertyList};

/// Identifier of a request in this session, from 1 upwards; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An event of the session.
#[derive(Clone, Debug)]
pub enum Event {
    /// The server accepted the connection.
    Connected(Box<ConnAckInfo>),
    /// The server refused the connection and will close it.
    Refused {
        /// The code on the wire: 1 to 5 before MQTT 5.0, a reason code of 128 or above since.
        code: u8,
        /// Meaning of the code; `UnspecifiedError` for a code that is not in the specification.
        reason: ReasonCode,
        /// Reason String, MQTT 5.0.
        reason_string: Option<String>,
    },
    /// A message arrived.
    Message(Box<Message>),
    /// A request was completed.
    Completed {
        /// The request, as returned when it was made.
        request: RequestId,
        /// The result.
        acknowledgement: Acknowledgement,
    },
    /// The server ended the connection with DISCONNECT (MQTT 5.0).
    Disconnected {
        /// Reason code.
        reason: ReasonCode,
        /// Reason String.
        reason_string: Option<String>,
        /// Server Reference: where to connect instead.
        server_reference: Option<String>,
    },
    /// A packet was sent or received; only if tracing is on.
    Traced(TracedPacket),
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// A PUBLISH: sent (QoS 0), PUBACK, PUBCOMP, or a PUBREC that refused it.
    Published {
        /// A value below 128 means that the server accepted the message.
        reason: ReasonCode,
        /// Reason String, MQTT 5.0.
        reason_string: Option<String>,
    },
    /// A SUBSCRIBE: for each filter, the granted QoS or the reason of its refusal. Before MQTT 5.0
    /// a refusal is always `UnspecifiedError`.
    Subscribed(Vec<ReasonCode>),
    /// An UNSUBSCRIBE: one reason code per filter; empty before MQTT 5.0.
    Unsubscribed(Vec<ReasonCode>),
    /// The connection ended before the SUBSCRIBE or UNSUBSCRIBE was answered.
    ConnectionLost,
}

/// The fields of an accepting CONNACK.
#[derive(Clone, Debug, Default)]
pub struct ConnAckInfo {
    /// Session Present: the server resumed a session.
    pub session_present: bool,
    /// The Client Identifier in use: ours, or the one assigned by the server.
    pub client_id: String,
    /// Keep Alive in use, in seconds; 0 means none.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval in use, in seconds, if the server sent one.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum of the server.
    pub receive_maximum: Option<NonZeroU16>,
    /// Highest QoS that the server supports; `None` means 2.
    pub maximum_qos: Option<QoS>,
    /// Whether the server supports retained messages; `None` means yes.
    pub retain_available: Option<bool>,
    /// Largest packet that the server accepts, in bytes.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Number of Topic Aliases that the server accepts; 0 before MQTT 5.0.
    pub topic_alias_maximum: u16,
    /// Response Information.
    pub response_information: Option<String>,
    /// User Properties.
    pub user_properties: UserPropertyList,
}

/// Why the connection must be closed. The session can be used for the next connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The server sent an invalid packet, or one that is not allowed in this state.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] DecodeError),
    /// The server's authentication data is wrong.
    #[error("authentication failed: {0}")]
    Authentication(String),
    /// No answer to PINGREQ within the Keep Alive.
    #[error("the server did not answer a PINGREQ in time")]
    KeepAliveTimeout,
    /// No CONNACK in time.
    #[error("the server did not answer CONNECT in time")]
    ConnAckTimeout,
    /// More than 100,000 packets in 60 s that carry no message and answer nothing.
    #[error(
        "the server sent more than 100000 packets within 60 s that carry no message and answer \
         nothing"
    )]
    Unasked,
}

/// Why a request was rejected. Nothing was sent, and the session is unchanged.
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
    /// The server does not support this QoS.
    #[error("the server does not support this QoS")]
    QosNotSupported,
    /// The server does not support retained messages.
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
    /// The direction of the packet.
    pub direction: Direction,
    /// The packet.
    pub packet: PacketSummary,
}

/// Direction of a packet.
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
    /// SUBSCRIBE: each filter with its options byte.
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
