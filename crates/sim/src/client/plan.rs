//! What a client is going to do: who it is, what it subscribes to and publishes, how often it gets
//! into trouble and of what kinds.

use martlet_codec::{ProtocolVersion, QoS};

use crate::network::LinkProfile;
use crate::topics::{FilterIndex, TopicIndex};

/// A client's part in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Client Identifier.
    pub name: String,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Clean Start (Clean Session) with each CONNECT.
    pub clean: bool,
    /// Session Expiry Interval, seconds; before 5.0 what `clean` says.
    pub expiry_secs: u32,
    /// Keep Alive, seconds, not 0.
    pub keep_alive_secs: u16,
    /// Receive Maximum; 0 names none. 5.0 only.
    pub receive_maximum: u16,
    /// Maximum Packet Size; 0 names none. 5.0 only.
    pub maximum_packet_size: u32,
    /// Topic Alias Maximum. 5.0 only.
    pub topic_alias_maximum: u16,
    /// The Will of each connection.
    pub will: Option<WillPlan>,
    /// Its SUBSCRIBE packets have Subscription Identifiers. 5.0 only.
    pub identifies: bool,
    /// Subscribed to whenever it is not.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// What it publishes.
    pub publishing: Option<PublishPlan>,
    /// How long it takes to acknowledge, at most, microseconds.
    pub answer_us: u64,
    /// In how many of 100 cases it refuses a message. 5.0 only.
    pub refuse_percent: u64,
    /// Mean time between troubles, microseconds; 0 is none.
    pub trouble_us: u64,
    /// The kinds it gets into.
    pub troubles: Vec<Trouble>,
    /// How long it stays away, microseconds, on average.
    pub away_us: u64,
    /// Its way to the node.
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

/// What a client publishes.
#[derive(Clone, Debug)]
pub struct PublishPlan {
    /// Mean time between publishes, microseconds.
    pub every_us: u64,
    /// Messages at once, at most.
    pub burst: u64,
    /// Topics of the messages.
    pub topics: Vec<TopicIndex>,
    /// QoS of the messages.
    pub qos: Vec<QoS>,
    /// Payload beyond what names the message, bytes at most.
    pub payload_bytes: u64,
    /// In how many of 100 cases a message expires, 5.0 only.
    pub expiry_percent: u64,
    /// In how many of 100 cases a retained message is cleared.
    pub clear_percent: u64,
}

/// What a client does beside its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It crashes; the system tells the node.
    Crash,
    /// Its machine is gone; nobody tells the node.
    Vanish,
    /// It says goodbye and comes back later.
    Goodbye,
    /// It connects anew beside its own connection.
    TakeOver,
    /// It stops reading for a while.
    Deaf,
    /// It breaks the rules.
    Violate,
    /// It unsubscribes, or subscribes again.
    Resubscribe,
    /// It loses its own state and begins a new session.
    Forget,
}
