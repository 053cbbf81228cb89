//! Every limit there is: its name, its default, and what happens at it.
//!
//! One table; the struct, its defaults and the reference page come from it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use martlet_codec::QoS;
use martlet_permission::{Realm, Share, TenantId};

use crate::event_interest::EventInterest;
use crate::work::WorkLimits;

/// Policy for a message that finds a session's queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFull {
    /// The oldest queued message goes.
    #[default]
    DropOldest,
    /// The new message goes.
    DropNewest,
    /// The session's connection is ended (v5: 0x97); a client that is away loses the new message.
    Disconnect,
}

impl QueueFull {
    /// Returns the name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Disconnect => "disconnect",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::DropOldest, Self::DropNewest, Self::Disconnect]
            .into_iter()
            .find(|policy| policy.name() == name)
    }
}

/// One line of the reference page.
#[derive(Clone, Copy, Debug)]
pub struct LimitRow {
    /// Key in the `[limits]` table of the configuration.
    pub key: &'static str,
    /// Default, as it would be written there.
    pub default: u64,
    /// Quantity that is limited, with its unit.
    pub what: &'static str,
    /// Behaviour at the limit.
    pub at_limit: &'static str,
}

/// The lowest values of limits that 0 does not switch off: below them a node serves no client.
const MINIMA: &[(&str, u64)] = &[
    ("packet_bytes", 20),
    // The shortest CONNECT, of a client that leaves its identifier to the node.
    ("connect_packet_bytes", 14),
    ("connect_timeout_secs", 1),
    ("authenticate_timeout_secs", 1),
    ("connections", 1),
    ("client_id_bytes", 1),
    ("topic_bytes", 1),
    ("topic_levels", 1),
    ("receive_maximum", 1),
    ("in_flight", 1),
    ("output_bytes", 1),
    ("subscriptions_per_client", 1),
    ("subscription_bytes", 1),
    ("discovery_secs", 1),
    ("sessions", 1),
    ("share_credit", 1),
    ("team_percent", 1),
];

impl LimitRow {
    /// The lowest value that makes sense.
    pub fn min(&self) -> u64 {
        let found = MINIMA.iter().find(|(key, _)| *key == self.key);
        found.map_or(0, |(_, min)| *min)
    }
}

macro_rules! limits {
    ($($key:ident: $type:ty = $default:expr, $what:literal, $at:literal;)*) => {
        /// The limits of a node. See [`Limits::TABLE`] for what happens at each.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $what] pub $key: $type,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Limits {
            /// Every limit, in the order of the reference page.
            pub const TABLE: &'static [LimitRow] = &[$(LimitRow {
                key: stringify!($key),
                default: $default as u64,
                what: $what,
                at_limit: $at,
            },)*];

            /// The value of `key`.
            pub fn get(&self, key: &str) -> Option<u64> {
                match key {
                    $(stringify!($key) => Some(self.$key as u64),)*
                    _ => None,
                }
            }

            /// Sets `key`; false if there is no such limit or the value does not fit.
            pub fn set(&mut self, key: &str, value: u64) -> bool {
                match key {
                    $(stringify!($key) => match <$type>::try_from(value) {
                        Ok(value) => { self.$key = value; true }
                        Err(_) => false,
                    },)*
                    _ => false,
                }
            }
        }
    };
}

limits! {
    packet_bytes: u32 = 1024 * 1024,
        "Largest packet accepted from a client, bytes; announced to v5 clients as Maximum Packet Size.",
        "v5: DISCONNECT 0x95; v3: the connection is closed. The packet's length is checked before its bytes arrive.";
    connect_packet_bytes: u32 = 32 * 1024,
        "Largest CONNECT packet, bytes.",
        "The connection is closed (v5: CONNACK 0x95 where the version is already known).";
    payload_bytes: u32 = 0,
        "Longest payload of a message or a Will, bytes; 0: only the limit of the packet applies.",
        "QoS 0 is dropped, counted; QoS 1 and 2: v5 PUBACK/PUBREC 0x83, v3 acknowledged and dropped. A Will: v5 CONNACK 0x95; v3 CONNACK 5 (not authorized).";
    connect_timeout_secs: u32 = 10,
        "Time from the accepted connection to the complete CONNECT, seconds.",
        "The connection is closed.";
    authenticate_timeout_secs: u32 = 60,
        "Time from the complete CONNECT until the client is authenticated, seconds.",
        "The connection is closed.";
    connections: u32 = 1_000_000,
        "Connections of this node.",
        "v5: CONNACK 0x89; v3: CONNACK 3 (server unavailable). If the limit of open files (ulimit -n) allows fewer, further clients wait until another client disconnects; martlet health shows how many connections are possible.";
    connect_rate: u32 = 0,
        "CONNECTs accepted per second and shard; 0 is no limit.",
        "v5: CONNACK 0x9F; v3: CONNACK 3 (server unavailable).";
    connect_rate_per_address: u32 = 0,
        "CONNECTs per minute from one address (IPv6: one /64); 0 is no limit.",
        "v5: CONNACK 0x9F; v3: CONNACK 3 (server unavailable).";
    client_id_bytes: u16 = 1024,
        "Length of a Client Identifier, bytes.",
        "v5: CONNACK 0x85; v3: CONNACK 2 (identifier rejected).";
    topic_bytes: u16 = u16::MAX,
        "Length of a Topic Name or Topic Filter, bytes.",
        "PUBLISH: v5 DISCONNECT 0x90, v3 closed; SUBSCRIBE: 0x8F (v3: 0x80) for that filter.";
    topic_levels: u16 = 128,
        "Levels of a Topic Name or Topic Filter.",
        "As for topic_bytes.";
    topic_alias_maximum: u16 = 32,
        "Topic Aliases a v5 client may set; announced. 0 refuses all.",
        "DISCONNECT 0x94 [MQTT-3.2.2-18].";
    topic_alias_bytes: u32 = 256 * 1024,
        "Bytes of all topics that one client's aliases replace, in each direction; 0 permits no alias.",
        "DISCONNECT 0x97; towards a client, further topics are sent in full.";
    topic_alias_outbound: u16 = 32,
        "Topic Aliases used towards a v5 client that permits them; 0 uses none.",
        "Further topics are sent in full.";
    user_properties: u16 = 256,
        "User Properties in one packet; 0 permits none.",
        "CONNECT: CONNACK 0x97; otherwise DISCONNECT 0x97.";
    receive_maximum: u16 = 1024,
        "Unacknowledged QoS 1 and 2 messages from one client; announced to v5 clients as Receive \
         Maximum.",
        "v5: DISCONNECT 0x93; v3: QoS 2 closed, QoS 1 read later.";
    publish_rate: u32 = 0,
        "PUBLISH packets per second of one client; after a second without any, a burst of the same size is accepted. 0 is no limit.",
        "Set by mqtt.rate_exceeded.";
    publish_bytes_rate: u32 = 0,
        "Bytes per second in the payloads of one client's PUBLISH packets; 0 is no limit.",
        "Set by mqtt.rate_exceeded.";
    in_flight: u16 = 128,
        "Unacknowledged QoS 1 and 2 messages to one client; the client's own Receive Maximum applies too.",
        "Further messages wait in the session's queue.";
    queued_messages: u32 = 1_000_000,
        "Messages in one session's queue; with 0 no message is queued, and disconnected clients receive nothing.",
        "Set by mqtt.queue_full, and counted.";
    queued_bytes: u64 = 256 * 1024 * 1024,
        "Bytes of the messages in one session's queue; with 0 no message is queued.",
        "Set by mqtt.queue_full, and counted.";
    output_bytes: u32 = 1024 * 1024,
        "Bytes of output that wait until a client reads them.",
        "QoS 0 messages for it are dropped, counted; QoS 1 and 2 wait in its queue.";
    output_stalled_secs: u32 = 60,
        "Time for which a client with waiting output reads none of it, seconds; 0 is no limit.",
        "The connection is closed as lost.";
    subscriptions_per_client: u32 = 10_000,
        "Subscriptions of one session; at most 128 of them are Shared Subscriptions.",
        "SUBACK 0x97 (v3: 0x80) for that filter.";
    subscription_bytes: u32 = 2 * 1024 * 1024,
        "Bytes of all Topic Filters that one session subscribes to; 16 MiB at most.",
        "SUBACK 0x97 (v3: 0x80) for that filter.";
    discovery_connections: u32 = 64,
        "Clients without credentials of their own that are connected to register as devices (listener key discovery), in total, and for each provisioning key that clients send as password; 0 accepts none.",
        "v5: CONNACK 0x97; v3: CONNACK 3 (server unavailable).";
    discovery_secs: u32 = 60,
        "Time limit for such a client to register, seconds.",
        "v5: DISCONNECT 0x87; v3: the connection is closed, whether it has registered or not.";
    discovery_rate_per_address: u32 = 60,
        "Registrations over MQTT per minute from one address (IPv6: one /64); 0 is no limit.",
        "The client receives the error too_many_requests on its response topic; v5: PUBACK 0x97.";
    sessions: u32 = 1_000_000,
        "Sessions of this node, including those of disconnected clients.",
        "A client that has no session: v5 CONNACK 0x97; v3 CONNACK 3 (server unavailable).";
    team_percent: u32 = 50,
        "Part that one team may have of what others leave of all that teams share, percent: connections, sessions and retained messages of its tenant, and what docs/teams.md lists.",
        "A client of the team without a session, or its connection: v5 CONNACK 0x97 or 0x89; v3 CONNACK 3. A retained message: as for retained_messages. An object: HTTP 409.";
    keep_alive_max_secs: u16 = 0,
        "Maximum Keep Alive, seconds; 0 is no limit.",
        "v5: the client receives it as Server Keep Alive; v3 (and Keep Alive 0): the maximum is \
         used.";
    session_expiry_max_secs: u32 = u32::MAX,
        "Maximum Session Expiry Interval, seconds; with 4294967295 sessions never expire. Also applies to v3 sessions that are not clean.",
        "v5: CONNACK contains the shorter Session Expiry Interval.";
    will_bytes: u32 = 32 * 1024,
        "Bytes of one client's Will: topic, payload and properties; 0 permits no Wills.",
        "v5: CONNACK 0x97; v3: CONNACK 3 (server unavailable).";
    wills_bytes: u64 = 256 * 1024 * 1024,
        "Bytes of all Wills of this node; each shard has an equal part.",
        "A client with a Will: v5 CONNACK 0x97; v3 CONNACK 3 (server unavailable).";
    will_delay_max_secs: u32 = 86_400,
        "Maximum Will Delay Interval, seconds; with 0 Wills are sent at once.",
        "The Will is sent after this time.";
    will_restart_secs: u32 = 30,
        "Time after a start for which Wills of clients that were connected before it wait, so that these clients can reconnect, seconds.",
        "The Will is published.";
    retained_messages: u32 = 1_000_000,
        "Retained messages of this node; 0 permits none.",
        "v5: PUBACK/PUBREC 0x97 (QoS 0: DISCONNECT 0x97); v3: routed but not retained, counted.";
    retained_bytes: u64 = 1024 * 1024 * 1024,
        "Bytes of all retained messages; 0 permits none.",
        "As for retained_messages.";
    share_credit: u16 = 64,
        "Unacknowledged messages of a share group to one member; its Receive Maximum applies too.",
        "Further messages go to other members, or wait in the group's queue.";
    store_stalled_secs: u32 = 30,
        "Time for which an acknowledgement, or a CONNACK, waits for a store that does not answer, seconds; with 0 a CONNACK waits for authenticate_timeout_secs.",
        "v5: DISCONNECT 0x97; v3: the connection is closed. Instead of a CONNACK: v5 0x88, v3 3 (server unavailable). The node is no longer ready.";
    store_bytes: u64 = 0,
        "Disk space of the message store, bytes; 0 is no limit but the disk.",
        "The same as on a full disk: messages that must be stored wait until others are delivered, or their client is refused.";
    memory_bytes: u64 = 0,
        "Memory of the node, bytes; 0 is 60 % of the memory of the machine or cgroup. It includes connections with TLS and WebSocket, sessions, subscriptions, Wills, buffers, queues, retained messages, cached routes, bodies of HTTP requests, messages that other systems send to integrations, the history of clients, answers stored for `Idempotency-Key`, the last log lines, and the tables of users and devices. The history of clients may use at most a quarter of it, cached routes and stored answers a sixteenth each, integrations and connections that have not logged in an eighth each.",
        "When connections that have not logged in together use more than their part, those that use most are refused (v5: CONNACK 0x97). When retained messages, Wills, subscriptions, sessions and tables together use three quarters, new retained messages and Wills are refused; at seven eighths new subscriptions and sessions too (v5: 0x97; v3: as at their own limits). Of the first four, those that use less than a sixteenth may still grow, up to fifteen sixteenths; above that only Wills of up to 1 KiB of clients that have sessions are accepted. Once less than an eighth of the memory is free, the part of connections that have not logged in is reduced to an eighth of it. Then memory of the largest clients and share groups is freed, if those with 64 KiB or more together use a sixteenth of the memory; once less than a sixteenth is free, also if those with 4 KiB or more do. The largest ones are those that together use an eighth of the memory, or half of what all of them use. Messages that wait in share groups count for the members: a client in many groups counts with what all of them use. A client counts with a sixty-fourth of the memory that all clients of its address (IPv6: one /64) use above 4 KiB each, if that is more than its own. Share groups and sessions lose their oldest messages: sessions of disconnected clients whose messages are only in memory, and queues in the store whose list of messages uses much memory. Clients lose their QoS 0 output, then their connection (v5: 0x97), the newest connection first. At the limit, new clients without a session are refused (v5: 0x89), and so are QoS 1 and 2 publishes (v5: 0x97, v3: closed); QoS 0 messages are dropped and counted. Bodies of HTTP requests are refused (503), except 1 MiB for requests with credentials.";
    route_cache_entries: u32 = 262_144,
        "Number of topics whose route a shard caches; 0: none.",
        "Routes of further topics are looked up each time; the cache is emptied from time to time.";
}

impl Limits {
    /// How much of what all teams share one team may have.
    pub fn team_share(&self) -> Share {
        Share::percent(self.team_percent)
    }

    /// Whether how fast a client may publish has a limit.
    #[inline]
    pub(crate) fn has_publish_rate(&self) -> bool {
        self.publish_rate > 0 || self.publish_bytes_rate > 0
    }

    /// The Keep Alive in force for a client that asks for this one, seconds.
    // The ceiling also applies to clients that ask for none, and to clients before v5, which cannot
    // get it. Without a ceiling it is the client's own [MQTT-3.2.2-22].
    pub(crate) fn keep_alive_in_force(&self, requested_secs: u16) -> u16 {
        match self.keep_alive_max_secs {
            0 => requested_secs,
            ceiling if requested_secs == 0 => ceiling,
            ceiling => requested_secs.min(ceiling),
        }
    }

    /// Whether a payload is longer than it may be.
    pub(crate) fn is_payload_too_long(&self, payload: &[u8]) -> bool {
        let most = self.payload_bytes as usize;
        most > 0 && payload.len() > most
    }

    /// Time that a client waits for its CONNACK while the store does not write, and after which
    /// such a node is not ready, seconds.
    pub fn store_patience_secs(&self) -> u32 {
        match self.store_stalled_secs {
            0 => self.authenticate_timeout_secs,
            secs => secs,
        }
    }
}

/// Policy of a listener. All that it does not permit is announced to v5 clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPolicy {
    /// Name in logs.
    pub name: String,
    /// Place among the node's listeners.
    pub number: u16,
    /// Stands for its name in records: see [`ListenerPolicy::mark_of`]. 0 is unknown.
    pub mark: u32,
    /// Connections that came this way at most; 0 is no limit but the node's.
    pub connections_max: u32,
    /// Time from the accepted connection to the complete CONNECT, a TLS handshake included,
    /// seconds; 0 is the node's.
    pub connect_timeout_secs: u32,
    /// The realm whose credentials and rules hold here.
    pub realm: Realm,
    /// Clients need no credentials.
    pub allow_anonymous: bool,
    /// Clients may leave their identifier to the node (from 3.1.1 on).
    pub allow_empty_client_id: bool,
    /// Whether the authenticator is asked about each client, also about one without credentials.
    /// Else all clients are accepted, or none with [`ListenerPolicy::allow_anonymous`] false.
    pub authenticate: bool,
    /// Maximum QoS of publishes, and of granted subscriptions.
    pub maximum_qos: QoS,
    /// Retained messages.
    pub retain_available: bool,
    /// `+` and `#` in subscriptions.
    pub wildcard_subscription_available: bool,
    /// Subscription Identifiers.
    pub subscription_ids_available: bool,
    /// `$share/…`, on 3.1.1 too.
    pub shared_subscription_available: bool,
    /// For the node's own clients of this tenant: their Client Identifiers begin with `$`, limits
    /// of connections and of their rate do not apply to them, and their connections are no events.
    /// None for all listeners.
    pub own: Option<TenantId>,
    /// Clients without credentials of their own may register as devices; none: they may not.
    pub discovery: Option<Arc<Discovery>>,
    /// A message may name its device by `api_key` in its payload.
    pub payload_api_key: bool,
}

/// How devices register on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The provisioning key may stand in the registration; else it has to be the password of the
    /// CONNECT.
    pub key_in_payload: bool,
    /// Beginnings of the topics on which devices register, with the last slash. The last level is
    /// the id that the device is to have.
    pub topics: Arc<[Box<str>]>,
    /// Clients that are connected to register, at most.
    pub connections_max: u32,
    /// Time limit for such a client to register, seconds.
    pub lasts_secs: u32,
}

impl Discovery {
    /// The id in a topic on which devices register; none: it is another topic.
    pub fn id_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let mut all = self.topics.iter();
        let id = all.find_map(|beginning| topic.strip_prefix(&**beginning))?;
        (!id.is_empty() && !id.contains('/')).then_some(id)
    }
}

impl ListenerPolicy {
    /// The mark of a listener of this name (FNV-1a, 32 bits); never 0. The few listeners of a node
    /// have different ones.
    pub fn mark_of(name: &str) -> u32 {
        let bytes = name.bytes();
        let hash = bytes.fold(0x811C_9DC5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        hash.max(1)
    }

    /// The policy of clients whose listener is not known any more.
    pub fn unknown() -> Arc<Self> {
        static UNKNOWN: LazyLock<Arc<ListenerPolicy>> = LazyLock::new(|| {
            Arc::new(ListenerPolicy {
                name: String::new(),
                ..ListenerPolicy::default()
            })
        });
        Arc::clone(&UNKNOWN)
    }

    /// The policy for parts of the node: messages of one tenant, QoS 1 at most, no share groups.
    pub(crate) fn part(tenant: TenantId) -> Self {
        Self {
            maximum_qos: QoS::AtLeastOnce,
            shared_subscription_available: false,
            ..Self::own(tenant)
        }
    }

    /// The policy for the node's own clients of this tenant. No listener has it.
    pub fn own(tenant: TenantId) -> Self {
        Self {
            name: "the node's own".to_owned(),
            number: u16::MAX,
            own: Some(tenant),
            ..Self::default()
        }
    }
}

impl Default for ListenerPolicy {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            number: 0,
            mark: 0,
            connections_max: 0,
            connect_timeout_secs: 0,
            realm: Realm::COMMON,
            allow_anonymous: true,
            allow_empty_client_id: true,
            authenticate: false,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_ids_available: true,
            shared_subscription_available: true,
            own: None,
            discovery: None,
            payload_api_key: false,
        }
    }
}

/// All that a shard is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The limits.
    pub limits: Limits,
    /// Policy when a session's queue is full.
    pub queue_full: QueueFull,
    /// Policy for what a client publishes beyond its rate.
    pub rate_exceeded: RateExceeded,
    /// Topics, Client Identifiers and User Names with control characters or noncharacters are
    /// refused (MQTT 5 section 1.5.4 leaves the choice to the receiver).
    pub refuse_control_characters: bool,
    /// Prefix of the Response Information, to which the Client Identifier is added; none sends
    /// no Response Information.
    pub response_information: Option<String>,
    /// Which events are built.
    pub events: EventInterest,
    /// How much is done before others have their turn.
    pub work: WorkLimits,
    /// Clients that need no credentials are asked for, too: some of them may be banned.
    pub checks_bans: bool,
    /// Same on all shards of a node: where sessions and share groups live follows from it.
    pub node_seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            queue_full: QueueFull::default(),
            rate_exceeded: RateExceeded::default(),
            refuse_control_characters: true,
            response_information: Some("response/".to_owned()),
            events: EventInterest::default(),
            work: WorkLimits::default(),
            checks_bans: false,
            node_seed: 0,
        }
    }
}

/// Policy for a PUBLISH beyond the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateExceeded {
    /// The PUBLISH is worked off when the rate permits, and the socket read later. What is left
    /// when the client has closed the connection is dropped and counted: none of it was
    /// acknowledged.
    #[default]
    Delay,
    /// With QoS 0 it is dropped and counted; with QoS 1 or 2 it is worked off later.
    DropQos0,
    /// The connection ends: 0x96.
    Disconnect,
}

/// An address as limits count it: an IPv4 address as it is, of an IPv6 address its network of 64
/// bits, since the owner of one has at least all of its /64.
#[inline]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use martlet_permission::Limit;

    use super::*;

    #[test]
    fn limits_that_refuse_are_keys_of_the_configuration() {
        let limits = Limits::default();
        for limit in Limit::ALL {
            let option = limit.option();
            let value = option.strip_prefix("limits.").map(|key| limits.get(key));
            assert!(value.is_none_or(|value| value.is_some()), "{option}");
        }
    }
}
