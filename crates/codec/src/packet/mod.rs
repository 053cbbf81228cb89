//! The Control Packets, one module each, and an enum of all of them.
//!
//! Dispatches on the Fixed Header. Which packets a peer may send at which time is decided
//! elsewhere. MQTT 5.0 §2, §3.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod layout;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

pub use ack::{Ack, AckKind};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, ConnectError, Will};
pub use disconnect::Disconnect;
pub use publish::{OutgoingPublish, Publish};
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{
    FiltersLeft, RetainHandling, Subscribe, SubscribeFilter, SubscribeFilters, SubscriptionOptions,
};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};

use crate::error::DecodeError;
use crate::header::{FixedHeader, decode_fixed_header};
use crate::packet_type::PacketType;
use crate::version::ProtocolVersion;
use layout::empty_body;

/// Any Control Packet.
// A packet is on the stack of the decoder's caller; boxing the large ones would allocate.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// CONNACK.
    ConnAck(ConnAck<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    PubAck(Ack<'a>),
    /// PUBREC.
    PubRec(Ack<'a>),
    /// PUBREL.
    PubRel(Ack<'a>),
    /// PUBCOMP.
    PubComp(Ack<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK.
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect<'a>),
    /// AUTH.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes the packet of `header`, whose `remaining_len` bytes are `body`. A CONNECT contains
    /// its version; for all others `version` is that of the connection.
    ///
    /// # Errors
    /// The packet is invalid; see each packet's `decode`.
    #[inline]
    pub fn decode(
        header: FixedHeader,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        debug_assert_eq!(body.len(), header.remaining_len as usize);
        if header.packet_type != PacketType::Connect {
            header.check_version(version)?;
        }
        Ok(match header.packet_type {
            PacketType::Publish => Self::Publish(Publish::decode(header.flags, body, version)?),
            PacketType::PubAck => Self::PubAck(Ack::decode(AckKind::PubAck, body, version)?),
            PacketType::PubRec => Self::PubRec(Ack::decode(AckKind::PubRec, body, version)?),
            PacketType::PubRel => Self::PubRel(Ack::decode(AckKind::PubRel, body, version)?),
            PacketType::PubComp => Self::PubComp(Ack::decode(AckKind::PubComp, body, version)?),
            PacketType::Connect => {
                let connect = Connect::decode(header.flags, body).map_err(|error| error.error)?;
                header.check_version(connect.version)?;
                Self::Connect(connect)
            }
            PacketType::ConnAck => Self::ConnAck(ConnAck::decode(header.flags, body, version)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(body, version)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(body, version)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(body, version)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::decode(body, version)?),
            PacketType::PingReq => empty_body(body).map(|()| Self::PingReq)?,
            PacketType::PingResp => empty_body(body).map(|()| Self::PingResp)?,
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(body, version)?),
            PacketType::Auth => Self::Auth(Auth::decode(body)?),
        })
    }

    /// Appends the packet as encoded in `version`; a CONNECT uses its own version. Parts that the
    /// version does not support (properties, AUTH) are left out. The fields must fit a Remaining
    /// Length ([`MAX_REMAINING_LEN`](crate::MAX_REMAINING_LEN)), as those of a decoded packet do.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(AckKind::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(AckKind::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(AckKind::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(AckKind::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq => encode_pingreq(out),
            Self::PingResp => encode_pingresp(out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) if version.is_v5() => packet.encode(out),
            Self::Auth(_) => {}
        }
    }

    /// The type of the packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Decodes the packet at the beginning of `bytes`, and returns its length in bytes; `None` if it
/// is incomplete.
///
/// # Errors
/// As [`decode_fixed_header`] and [`Packet::decode`]. The packet size is not limited.
pub fn decode_packet(
    bytes: &[u8],
    version: ProtocolVersion,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(header) = decode_fixed_header(bytes)? else {
        return Ok(None);
    };
    let packet_len = header.packet_len();
    let Some(body) = bytes.get(usize::from(header.header_len)..packet_len) else {
        return Ok(None);
    };
    Packet::decode(header, body, version).map(|packet| Some((packet, packet_len)))
}

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingReq.first_byte(0), 0]);
}

/// Appends a PINGRESP.
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketType::PingResp.first_byte(0), 0]);
}
