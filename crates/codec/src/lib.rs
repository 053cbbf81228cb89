//! MQTT 3.1, 3.1.1 and 5.0 Control Packets: bytes to packets and back.
//!
//! Decoding borrows from the input and allocates nothing: a packet's strings, payload, properties
//! and Topic Filters are slices of the received bytes, validated in one linear pass. Encoding
//! appends to a `Vec<u8>`.
//!
//! The crate has no sockets, no time, no sessions and no limits of a server. The receiver handles
//! the meaning of a packet for a session: an empty Client Identifier, an unknown Topic Alias, or a
//! reason code that only a server may send.
#![forbid(unsafe_code)]

mod error;
mod header;
mod packet;
mod packet_id;
mod packet_type;
pub mod primitive;
mod property;
mod qos;
mod reason;
mod topic;
mod version;

pub use error::DecodeError;
pub use header::{FixedHeader, MAX_REMAINING_LEN, decode_fixed_header};
pub use packet::{
    Ack, AckKind, Auth, ConnAck, Connect, ConnectError, Disconnect, FiltersLeft, OutgoingPublish,
    Packet, Publish, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscribeFilters,
    SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeFilters, Will, decode_packet,
    encode_pingreq, encode_pingresp,
};
pub use packet_id::PacketId;
pub use packet_type::PacketType;
pub use primitive::text_of;
pub use property::{
    ConnAckProperties, ConnectProperties, PropertyId, PublishProperties, SubscriptionIds,
    SubscriptionIdsIter, UserProperties, UserPropertiesIter, encode_user_property,
};
pub use qos::QoS;
pub use reason::ReasonCode;
pub use topic::{
    MAX_TOPIC_LEN, SubscriptionFilter, TopicError, TopicFilter, TopicName, has_control_characters,
    is_plain, level_count,
};
pub use version::ProtocolVersion;
