//! Limits of the configuration that cause refusals, drops and ends. Code distinguishes them by
//! [`Limit`], never by their text.

macro_rules! limits_reached {
    ($($variant:ident = $option:literal, $what:literal;)*) => {
        /// A limit of the configuration that causes a refusal, drop or end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Limit {
            $(#[doc = $what] $variant,)*
        }

        impl Limit {
            /// All limits.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Key of the limit in the configuration.
            pub fn option(self) -> &'static str {
                match self {
                    $(Self::$variant => $option,)*
                }
            }

            /// Meaning of a reached limit, as text.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }

            /// Returns the meaning and the key, for clients. The value is for operators only.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($what, " (", $option, ")"),)*
                }
            }
        }
    };
}

limits_reached! {
    PacketBytes = "limits.packet_bytes", "the packet is too long";
    ConnectPacketBytes = "limits.connect_packet_bytes", "the packet before the login is too long";
    PayloadBytes = "limits.payload_bytes", "the payload is too long";
    ConnectTimeout = "limits.connect_timeout_secs", "no complete CONNECT came before the deadline";
    AuthenticateTimeout = "limits.authenticate_timeout_secs", "the client was not authenticated before the deadline";
    Connections = "limits.connections", "the node has the maximum number of connections";
    ListenerConnections = "max_connections", "the listener has the maximum number of connections";
    ConnectRate = "limits.connect_rate", "too many clients connect in one second";
    ConnectRatePerAddress = "limits.connect_rate_per_address", "too many CONNECTs came from the address in one minute";
    ClientIdBytes = "limits.client_id_bytes", "the Client Identifier is too long";
    TopicBytes = "limits.topic_bytes", "the topic is too long";
    TopicLevels = "limits.topic_levels", "the topic has too many levels";
    TopicAliasMaximum = "limits.topic_alias_maximum", "the Topic Alias is too high";
    TopicAliasBytes = "limits.topic_alias_bytes", "the topics of the client's Topic Aliases are too long";
    UserProperties = "limits.user_properties", "the packet has too many User Properties";
    ReceiveMaximum = "limits.receive_maximum", "the client sent too many QoS 1 and 2 messages before they were acknowledged";
    PublishRate = "limits.publish_rate", "the client publishes too many messages per second";
    PublishBytesRate = "limits.publish_bytes_rate", "the client publishes too many bytes per second";
    QueuedMessages = "limits.queued_messages", "the queue has the maximum number of messages";
    QueuedBytes = "limits.queued_bytes", "the queue has the maximum number of bytes";
    PartQueue = "max_bytes", "the queue of the integration has the maximum number of bytes";
    MemoryShare = "limits.memory_bytes", "the queue has as many bytes as one client may have of the memory";
    OutputBytes = "limits.output_bytes", "the client reads too slowly";
    OutputStalled = "limits.output_stalled_secs", "the client read nothing for too long";
    SubscriptionsPerClient = "limits.subscriptions_per_client", "the session has the maximum number of subscriptions";
    SubscriptionBytes = "limits.subscription_bytes", "the Topic Filters of the session have the maximum number of bytes";
    Sessions = "limits.sessions", "the node has the maximum number of sessions";
    TeamConnections = "limits.team_percent", "the team has its share of the connections";
    TeamSessions = "limits.team_percent", "the team has its share of the sessions";
    TeamSubscriptions = "limits.team_percent", "the subscriptions of the team use its share of the memory";
    TeamRetained = "limits.team_percent", "the team has its share of the retained messages";
    TeamWills = "limits.team_percent", "the Wills of the team use its share of the bytes";
    TeamRetainedBytes = "limits.team_percent", "the retained messages of the team have its share of the bytes";
    TeamStore = "limits.team_percent", "the stored messages of the team have its share of the message store";
    UserSessions = "max_sessions", "the device has as many sessions as its type permits";
    DiscoveryConnections = "limits.discovery_connections", "the maximum number of clients is registering";
    DiscoverySecs = "limits.discovery_secs", "the time to register is over";
    DiscoveryRate = "limits.discovery_rate_per_address", "too many registrations came from the address in one minute";
    KeepAliveMax = "limits.keep_alive_max_secs", "1.5 x Keep Alive without a packet";
    WillBytes = "limits.will_bytes", "the Will is too long";
    WillsBytes = "limits.wills_bytes", "the Wills on the client's shard have the maximum number of bytes, an equal part of the node's";
    RetainedMessages = "limits.retained_messages", "the node has the maximum number of retained messages";
    RetainedBytes = "limits.retained_bytes", "the retained messages have the maximum number of bytes";
    StoreBytes = "limits.store_bytes", "the message store is full";
    DiskFull = "limits.store_stalled_secs", "the disk of the message store is full";
    StoreStalled = "limits.store_stalled_secs", "the message store does not answer";
    Memory = "limits.memory_bytes", "the memory for messages and clients is used up";
    MemoryOfLogins = "limits.memory_bytes", "connections that have not logged in use their share of the memory, and this one used most";
    MemoryOfClient = "limits.memory_bytes", "memory is short, and this client is one of those that use most of it";
    MemoryKept = "limits.memory_bytes", "retained messages, Wills, subscriptions and sessions use their part of the memory";
    MaximumQos = "mqtt.max_qos", "the QoS is too high";
    RetainAvailable = "mqtt.retain_available", "retained messages are switched off";
    WildcardSubscriptions = "mqtt.wildcard_subscriptions", "Topic Filters with wildcards are switched off";
    SharedSubscriptions = "mqtt.shared_subscriptions", "Shared Subscriptions are switched off";
    SubscriptionIdentifiers = "mqtt.subscription_identifiers", "Subscription Identifiers are switched off";
}

impl Limit {
    /// Returns the meaning, key and value, for operators.
    fn with(self, value: u64) -> String {
        let (what, option) = (self.meaning(), self.option());
        match (self, value) {
            (
                Self::RetainAvailable
                | Self::WildcardSubscriptions
                | Self::SharedSubscriptions
                | Self::SubscriptionIdentifiers,
                _,
            ) => format!("{what} ({option} = false)"),
            // If no value is configured, the limit is a part of the machine's memory.
            (
                Self::Memory
                | Self::MemoryShare
                | Self::MemoryOfLogins
                | Self::MemoryOfClient
                | Self::MemoryKept,
                0,
            ) => {
                format!("{what} ({option}, which is not set: 60 % of the machine's memory)")
            }
            // Its value is configured for each integration.
            (Self::PartQueue, _) => format!("{what} ({option})"),
            // The value is what all share.
            (
                Self::TeamConnections
                | Self::TeamSessions
                | Self::TeamRetained
                | Self::TeamRetainedBytes,
                all,
            ) => format!("{what} ({option} of what others leave of {all})"),
            (Self::TeamSubscriptions | Self::TeamWills, all) => {
                format!("{what} ({option} of what others leave of {all} bytes on each thread)")
            }
            (_, value) => format!("{what} ({option} = {value})"),
        }
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachedLimit {
    /// The limit.
    pub limit: Limit,
    /// Value of the limit; of a share of a team, what all share.
    pub value: u64,
}

impl ReachedLimit {
    /// The limit as text, with key and value.
    pub fn words(self) -> String {
        self.limit.with(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_by_keys_of_the_configuration() {
        for limit in Limit::ALL {
            let option = limit.option();
            let reached = |limit, value| ReachedLimit { limit, value }.refusal();
            let refusal = reached(*limit, 7);
            assert!(refusal.detail().contains(option) && refusal.limit() == Some(*limit));
        }
        let (limit, value) = (Limit::PacketBytes, 1000);
        assert_eq!(
            ReachedLimit { limit, value }.words(),
            "the packet is too long (limits.packet_bytes = 1000)"
        );
        let (limit, value) = (Limit::TeamSessions, 500);
        assert_eq!(
            ReachedLimit { limit, value }.words(),
            "the team has its share of the sessions (limits.team_percent of what others leave of 500)"
        );
    }
}
