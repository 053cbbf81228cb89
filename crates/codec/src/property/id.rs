//! Property identifiers, the packets that allow them, and the types of their values.
//!
//! Implements table 2-4 of the specification; sibling modules read the values. MQTT 5.0 §2.2.2.2.

use crate::error::DecodeError;
use crate::primitive::Reader;

/// The identifier of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PropertyId {
    /// Payload Format Indicator.
    PayloadFormatIndicator = 0x01,
    /// Message Expiry Interval.
    MessageExpiryInterval = 0x02,
    /// Content Type.
    ContentType = 0x03,
    /// Response Topic.
    ResponseTopic = 0x08,
    /// Correlation Data.
    CorrelationData = 0x09,
    /// Subscription Identifier.
    SubscriptionIdentifier = 0x0B,
    /// Session Expiry Interval.
    SessionExpiryInterval = 0x11,
    /// Assigned Client Identifier.
    AssignedClientIdentifier = 0x12,
    /// Server Keep Alive.
    ServerKeepAlive = 0x13,
    /// Authentication Method.
    AuthenticationMethod = 0x15,
    /// Authentication Data.
    AuthenticationData = 0x16,
    /// Request Problem Information.
    RequestProblemInformation = 0x17,
    /// Will Delay Interval.
    WillDelayInterval = 0x18,
    /// Request Response Information.
    RequestResponseInformation = 0x19,
    /// Response Information.
    ResponseInformation = 0x1A,
    /// Server Reference.
    ServerReference = 0x1C,
    /// Reason String.
    ReasonString = 0x1F,
    /// Receive Maximum.
    ReceiveMaximum = 0x21,
    /// Topic Alias Maximum.
    TopicAliasMaximum = 0x22,
    /// Topic Alias.
    TopicAlias = 0x23,
    /// Maximum QoS.
    MaximumQoS = 0x24,
    /// Retain Available.
    RetainAvailable = 0x25,
    /// User Property.
    UserProperty = 0x26,
    /// Maximum Packet Size.
    MaximumPacketSize = 0x27,
    /// Wildcard Subscription Available.
    WildcardSubscriptionAvailable = 0x28,
    /// Subscription Identifier Available.
    SubscriptionIdentifierAvailable = 0x29,
    /// Shared Subscription Available.
    SharedSubscriptionAvailable = 0x2A,
}

impl PropertyId {
    /// All identifiers in the order of their values.
    pub const ALL: [Self; 27] = [
        Self::PayloadFormatIndicator,
        Self::MessageExpiryInterval,
        Self::ContentType,
        Self::ResponseTopic,
        Self::CorrelationData,
        Self::SubscriptionIdentifier,
        Self::SessionExpiryInterval,
        Self::AssignedClientIdentifier,
        Self::ServerKeepAlive,
        Self::AuthenticationMethod,
        Self::AuthenticationData,
        Self::RequestProblemInformation,
        Self::WillDelayInterval,
        Self::RequestResponseInformation,
        Self::ResponseInformation,
        Self::ServerReference,
        Self::ReasonString,
        Self::ReceiveMaximum,
        Self::TopicAliasMaximum,
        Self::TopicAlias,
        Self::MaximumQoS,
        Self::RetainAvailable,
        Self::UserProperty,
        Self::MaximumPacketSize,
        Self::WildcardSubscriptionAvailable,
        Self::SubscriptionIdentifierAvailable,
        Self::SharedSubscriptionAvailable,
    ];

    /// The property with this identifier, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0x01 => Self::PayloadFormatIndicator,
            0x02 => Self::MessageExpiryInterval,
            0x03 => Self::ContentType,
            0x08 => Self::ResponseTopic,
            0x09 => Self::CorrelationData,
            0x0B => Self::SubscriptionIdentifier,
            0x11 => Self::SessionExpiryInterval,
            0x12 => Self::AssignedClientIdentifier,
            0x13 => Self::ServerKeepAlive,
            0x15 => Self::AuthenticationMethod,
            0x16 => Self::AuthenticationData,
            0x17 => Self::RequestProblemInformation,
            0x18 => Self::WillDelayInterval,
            0x19 => Self::RequestResponseInformation,
            0x1A => Self::ResponseInformation,
            0x1C => Self::ServerReference,
            0x1F => Self::ReasonString,
            0x21 => Self::ReceiveMaximum,
            0x22 => Self::TopicAliasMaximum,
            0x23 => Self::TopicAlias,
            0x24 => Self::MaximumQoS,
            0x25 => Self::RetainAvailable,
            0x26 => Self::UserProperty,
            0x27 => Self::MaximumPacketSize,
            0x28 => Self::WildcardSubscriptionAvailable,
            0x29 => Self::SubscriptionIdentifierAvailable,
            0x2A => Self::SharedSubscriptionAvailable,
            _ => return None,
        })
    }

    /// The identifier on the wire.
    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The name in the specification, such as "Topic Alias".
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayloadFormatIndicator => "Payload Format Indicator",
            Self::MessageExpiryInterval => "Message Expiry Interval",
            Self::ContentType => "Content Type",
            Self::ResponseTopic => "Response Topic",
            Self::CorrelationData => "Correlation Data",
            Self::SubscriptionIdentifier => "Subscription Identifier",
            Self::SessionExpiryInterval => "Session Expiry Interval",
            Self::AssignedClientIdentifier => "Assigned Client Identifier",
            Self::ServerKeepAlive => "Server Keep Alive",
            Self::AuthenticationMethod => "Authentication Method",
            Self::AuthenticationData => "Authentication Data",
            Self::RequestProblemInformation => "Request Problem Information",
            Self::WillDelayInterval => "Will Delay Interval",
            Self::RequestResponseInformation => "Request Response Information",
            Self::ResponseInformation => "Response Information",
            Self::ServerReference => "Server Reference",
            Self::ReasonString => "Reason String",
            Self::ReceiveMaximum => "Receive Maximum",
            Self::TopicAliasMaximum => "Topic Alias Maximum",
            Self::TopicAlias => "Topic Alias",
            Self::MaximumQoS => "Maximum QoS",
            Self::RetainAvailable => "Retain Available",
            Self::UserProperty => "User Property",
            Self::MaximumPacketSize => "Maximum Packet Size",
            Self::WildcardSubscriptionAvailable => "Wildcard Subscription Available",
            Self::SubscriptionIdentifierAvailable => "Subscription Identifier Available",
            Self::SharedSubscriptionAvailable => "Shared Subscription Available",
        }
    }

    /// The packets (or the Will) that may carry it.
    pub(crate) const fn owners(self) -> Owner {
        match self {
            Self::PayloadFormatIndicator
            | Self::MessageExpiryInterval
            | Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData => Owner::PUBLISH.or(Owner::WILL),
            Self::SubscriptionIdentifier => Owner::PUBLISH.or(Owner::SUBSCRIBE),
            Self::SessionExpiryInterval => Owner::CONNECT.or(Owner::CONNACK).or(Owner::DISCONNECT),
            Self::AssignedClientIdentifier
            | Self::ServerKeepAlive
            | Self::ResponseInformation
            | Self::MaximumQoS
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => Owner::CONNACK,
            Self::AuthenticationMethod | Self::AuthenticationData => {
                Owner::CONNECT.or(Owner::CONNACK).or(Owner::AUTH)
            }
            Self::RequestProblemInformation | Self::RequestResponseInformation => Owner::CONNECT,
            Self::WillDelayInterval => Owner::WILL,
            Self::ServerReference => Owner::CONNACK.or(Owner::DISCONNECT),
            Self::ReasonString => Owner::REASON_STRING,
            Self::ReceiveMaximum | Self::TopicAliasMaximum | Self::MaximumPacketSize => {
                Owner::CONNECT.or(Owner::CONNACK)
            }
            Self::TopicAlias => Owner::PUBLISH,
            Self::UserProperty => Owner::ALL,
        }
    }

    /// Skips its value.
    pub(crate) fn skip_value(self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        match self {
            Self::PayloadFormatIndicator
            | Self::RequestProblemInformation
            | Self::RequestResponseInformation
            | Self::MaximumQoS
            | Self::RetainAvailable
            | Self::WildcardSubscriptionAvailable
            | Self::SubscriptionIdentifierAvailable
            | Self::SharedSubscriptionAvailable => reader.u8().map(drop),
            Self::ServerKeepAlive
            | Self::ReceiveMaximum
            | Self::TopicAliasMaximum
            | Self::TopicAlias => reader.u16().map(drop),
            Self::MessageExpiryInterval
            | Self::SessionExpiryInterval
            | Self::WillDelayInterval
            | Self::MaximumPacketSize => reader.u32().map(drop),
            Self::SubscriptionIdentifier => reader.varint().map(drop),
            Self::ContentType
            | Self::ResponseTopic
            | Self::CorrelationData
            | Self::AssignedClientIdentifier
            | Self::AuthenticationMethod
            | Self::AuthenticationData
            | Self::ResponseInformation
            | Self::ServerReference
            | Self::ReasonString => reader.binary().map(drop),
            Self::UserProperty => {
                reader.binary()?;
                reader.binary().map(drop)
            }
        }
    }
}

/// A set of packet types with properties; the Will Properties count as a separate type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u16);

impl Owner {
    pub(crate) const WILL: Self = Self(1);
    pub(crate) const CONNECT: Self = Self(1 << 1);
    pub(crate) const CONNACK: Self = Self(1 << 2);
    pub(crate) const PUBLISH: Self = Self(1 << 3);
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    pub(crate) const ACK: Self = Self(1 << 4);
    pub(crate) const SUBSCRIBE: Self = Self(1 << 5);
    pub(crate) const SUBACK: Self = Self(1 << 6);
    pub(crate) const UNSUBSCRIBE: Self = Self(1 << 7);
    pub(crate) const UNSUBACK: Self = Self(1 << 8);
    pub(crate) const DISCONNECT: Self = Self(1 << 9);
    pub(crate) const AUTH: Self = Self(1 << 10);
    const ALL: Self = Self(u16::MAX);
    const REASON_STRING: Self = Self::CONNACK
        .or(Self::ACK)
        .or(Self::SUBACK)
        .or(Self::UNSUBACK)
        .or(Self::DISCONNECT)
        .or(Self::AUTH);

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
