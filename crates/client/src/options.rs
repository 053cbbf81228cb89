//! The fields of CONNECT, SUBSCRIBE and UNSUBSCRIBE.
//!
//! Owned options with the specification's names and defaults. Validation is in the session. MQTT
//! 5.0 §3.1, §3.8, §3.10.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use martlet_codec::{ProtocolVersion, QoS, SubscriptionOptions};

use crate::message::{Message, UserPropertyList};

/// The fields of a CONNECT packet.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Protocol version.
    pub version: ProtocolVersion,
    /// The client is a bridge: sets bit 0x80 of the Protocol Level. Some servers then preserve
    /// RETAIN and do not return a bridge's own messages. Before MQTT 5.0 only.
    pub bridge: bool,
    /// Client Identifier; if it is empty, the server assigns one (not in MQTT 3.1).
    pub client_id: String,
    /// Clean Start (Clean Session before MQTT 5.0): discard the Session State on both sides.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 means none.
    pub keep_alive_secs: u16,
    /// User Name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Password>,
    /// Will Message.
    pub will: Option<Will>,
    /// Session Expiry Interval in seconds, MQTT 5.0; 0xFFFFFFFF means never.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum, MQTT 5.0: QoS 1 and 2 messages that the server may have in flight to us.
    pub receive_maximum: Option<NonZeroU16>,
    /// Whether to accept more messages than Receive Maximum. Mosquitto 2.0 sends too many when it
    /// resumes a session.
    pub tolerates_more: bool,
    /// Maximum Packet Size in bytes that we accept. Sent with MQTT 5.0, enforced in all versions.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Topic Alias Maximum, MQTT 5.0: how many Topic Aliases the server may use.
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information, MQTT 5.0.
    pub request_response_information: Option<bool>,
    /// Request Problem Information, MQTT 5.0.
    pub request_problem_information: Option<bool>,
    /// Authentication Method, MQTT 5.0.
    pub authentication_method: Option<String>,
    /// Authentication Data, MQTT 5.0.
    pub authentication_data: Option<Vec<u8>>,
    /// User Properties, MQTT 5.0.
    pub user_properties: UserPropertyList,
}

impl Default for ConnectOptions {
    /// MQTT 5.0, no Client Identifier, Clean Start, Keep Alive 60 s, nothing else.
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            bridge: false,
            client_id: String::new(),
            clean_start: true,
            keep_alive_secs: 60,
            username: None,
            password: None,
            will: None,
            session_expiry_secs: None,
            receive_maximum: None,
            tolerates_more: false,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            request_response_information: None,
            request_problem_information: None,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserPropertyList::default(),
        }
    }
}

/// A password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

/// The Will Message, which the server publishes when the connection is lost.
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// The message; its Topic Alias and Subscription Identifiers are not sent.
    pub message: Message,
    /// Will Delay Interval in seconds, MQTT 5.0.
    pub delay_secs: Option<u32>,
}

/// A SUBSCRIBE request.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// Topic Filters and the options of each, at least one.
    pub filters: Vec<(String, SubscriptionOptions)>,
    /// Subscription Identifier (1 to 268,435,455), MQTT 5.0.
    pub subscription_id: Option<NonZeroU32>,
    /// User Properties, MQTT 5.0.
    pub user_properties: UserPropertyList,
}

impl SubscribeRequest {
    /// A request for one Topic Filter with this maximum QoS and otherwise default options.
    pub fn one(filter: impl Into<String>, qos: QoS) -> Self {
        let options = SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        };
        Self {
            filters: vec![(filter.into(), options)],
            ..Self::default()
        }
    }
}

/// An UNSUBSCRIBE request.
#[derive(Clone, Debug, Default)]
pub struct UnsubscribeRequest {
    /// Topic Filters, at least one.
    pub filters: Vec<String>,
    /// User Properties, MQTT 5.0.
    pub user_properties: UserPropertyList,
}
