//! The plan of a client: its identity, subscriptions and publishes, and the frequency and kinds of
//! its troubles.

use martlet_codec::{ProtocolVersion, QoS};

use crate::network::LinkProfile;
use crate::topics::{FilterIndex, TopicIndex};

/// The plan of a client for a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Client Identifier.
    pub name: String,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Clean Start (Clean Session) with each CONNECT.
    pub clean: bool,
    /// Session Expiry Interval, seconds; before 5.0 given by `clean`.
    pub expiry_secs: u32,
    /// Keep Alive, seconds, not 0.
    pub keep_alive_secs: u16,
    /// Receive Maximum; 0: not sent. 5.0 only.
    pub receive_maximum: u16,
    /// Maximum Packet Size; 0: not sent. 5.0 only.
    pub maximum_packet_size: u32,
    /// Topic Alias Maximum. 5.0 only.
    pub topic_alias_maximum: u16,
    /// The Will of each connection.
    pub will: Option<WillPlan>,
    /// Whether its SUBSCRIBE packets have Subscription Identifiers. 5.0 only.
    pub identifies: bool,
    /// Subscribed to again whenever it is missing.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// Publishes of the client.
    pub publishing: Option<PublishPlan>,
    /// Maximum time until it acknowledges, microseconds.
    pub answer_us: u64,
    /// Percentage of messages that it refuses. 5.0 only.
    pub refuse_percent: u64,
    /// Mean time between troubles, microseconds; 0 is none.
    pub trouble_us: u64,
    /// The kinds of trouble.
    pub troubles: Vec<Trouble>,
    /// Average time away, microseconds.
    pub away_us: u64,
    /// Link to the node.
    pub network: LinkProfile,
}

/// A Will.
#[derive(Clone, Copy, Debug)]
pub struct WillPlan {
    /// Will Topic.
    pub topic: TopicIndex,
    /// Will QoS.
    pub qos: QoS,
    /// Will Delay Interval, seconds. 5.0 only.
    pub delay_secs: u32,
}

/// A subscription.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionPlan {
    /// Topic Filter.
    pub filter: FilterIndex,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local. 5.0 only.
    pub no_local: bool,
    /// Retain As Published. 5.0 only.
    pub retain_as_published: bool,
}

/// The publishes of a client.
#[derive(Clone, Debug)]
pub struct PublishPlan {
    /// Mean time between publishes, microseconds.
    pub every_us: u64,
    /// Maximum number of messages at once.
    pub burst: u64,
    /// Topics of the messages.
    pub topics: Vec<TopicIndex>,
    /// QoS of the messages.
    pub qos: Vec<QoS>,
    /// Maximum payload bytes besides the message number.
    pub payload_bytes: u64,
    /// Percentage of messages that expire. 5.0 only.
    pub expiry_percent: u64,
    /// Percentage of cases in which a retained message is cleared.
    pub clear_percent: u64,
}

/// A disturbance by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The client crashes; its system notifies the node.
    Crash,
    /// The client's machine fails; the node is not notified.
    Vanish,
    /// The client sends DISCONNECT and reconnects later.
    Goodbye,
    /// The client opens a new connection while its own is open.
    TakeOver,
    /// The client stops reading for a while.
    Deaf,
    /// The client breaks the protocol.
    Violate,
    /// The client unsubscribes, or subscribes again.
    Resubscribe,
    /// The client loses its state and begins a new session.
    Forget,
}
