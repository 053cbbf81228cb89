//! What a shard tells of by itself: events, for logs and feeds.
//!
//! Each refusal, disconnect, takeover and drop is an event that names what decided it.
//! Client identifiers and topics are text from outside: those who print them escape them.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{PacketType, ProtocolVersion, QoS, ReasonCode, TopicFilter, TopicName};
use triomphe::Arc as PlainArc;

use crate::counters::DropReason;
use crate::decision::Reached;
use crate::event_head::EventHead;
use crate::event_kind::EventGroup;
use crate::flags::flags;
use crate::id::{MessageId, TenantId};
use crate::limits::{ListenerPolicy, QueueFull};
use crate::message::MemoryGauge;
use crate::permission::Proof;
use crate::refusal::{Refusal, RefusalCause};

/// A user name, and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// The client has proved to be that user.
    Proved(Arc<str>),
    /// The client says so: no proof was asked for, or its proof was wrong.
    Claimed(Arc<str>),
}

impl UserName {
    /// Proved or not.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Proved(name) | Self::Claimed(name) => name,
        }
    }

    /// The name alone.
    pub fn into_name(self) -> Arc<str> {
        match self {
            Self::Proved(name) | Self::Claimed(name) => name,
        }
    }

    /// The client has proved to be that user.
    pub fn is_proved(&self) -> bool {
        matches!(self, Self::Proved(_))
    }
}

/// An event: who it is about, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who it is about.
    pub head: EventHead,
    /// What happened.
    pub event: Event,
}

/// What happened. Who it is about stands in the [`EventHead`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client has proved who it is. Whether its CONNECT is accepted or refused is told next,
    /// unless it is connected already and has proved it anew.
    Authenticated {
        /// By what it has proved that.
        proof: Proof,
        /// The listener that it came by.
        listener: Arc<ListenerPolicy>,
    },
    /// A CONNECT was accepted.
    Connected(SharedClient),
    /// A connection ended before it was accepted.
    Refused {
        /// The topic of its Will, as far as known.
        will_topic: Option<Box<str>>,
        /// With which reason code.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
    /// A client that was let in did not prove anew who it is; its connection ends.
    ReauthenticationRefused {
        /// With which reason code, as far as it was for its credentials.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
    /// An accepted connection ended.
    Disconnected {
        /// Reason code, sent or received or implied.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
    /// A message was dropped for one receiver (or, with an empty client id, before routing).
    Dropped {
        /// Its topic; empty if it lay in the store alone.
        topic: String,
        /// Its name in the store, if its topic is not known.
        stored: Option<MessageId>,
        /// Why.
        reason: DropReason,
        /// The limit that it was dropped for, if it was one.
        limit: Option<Reached>,
        /// The reason code with which its receiver refused it; see
        /// [`PartRefusal::of`](crate::PartRefusal::of) for a part.
        refused: Option<ReasonCode>,
    },
    /// A queue is at its bound: from now on messages are dropped. Told once until it was empty.
    QueueFull {
        /// Messages that wait in it.
        messages: usize,
        /// What becomes of further ones.
        policy: QueueFull,
        /// The bound that it is at.
        limit: Reached,
    },
    /// Messages for a client or a share group were dropped. Told of each reason at once, and again
    /// every 10 seconds in which there are more.
    MessagesLost {
        /// The topic of the first of them; empty if that is not known.
        topic: Box<str>,
        /// Why.
        reason: DropReason,
        /// How many they are since that was last told.
        count: u64,
        /// The limit that they were dropped for, if it was one.
        limit: Option<Reached>,
    },
    /// A PUBLISH was refused; before MQTT 5 its client is not told.
    PublishRefused {
        /// To which topic.
        topic: String,
        /// With which reason code.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
    /// A client published faster than it may, and what was beyond that was dropped: QoS 0. Told of
    /// a client once a second at most.
    RateExceeded {
        /// To which topic the first of them was.
        topic: Box<str>,
        /// How many they were.
        count: u32,
        /// The rate that is permitted.
        limit: Reached,
    },
    /// A client publishes faster than it may, and its messages wait. Told of a client at once, and
    /// again each minute in which that is so.
    PublishesDelayed {
        /// How often a message has waited since that was last told.
        count: u32,
        /// The rate that is permitted.
        limit: Reached,
    },
    /// A connection is ended because its client has come again. Its end is told next.
    TakenOver {
        /// Where the new one is from.
        by: Option<(IpAddr, u16)>,
    },
    /// A session ended, and with it its subscriptions and queue.
    SessionEnded {
        /// What it ended for.
        cause: RefusalCause,
    },
    /// A subscription was granted.
    Subscribed {
        /// The Topic Filter asked for.
        filter: Box<str>,
        /// The QoS granted.
        qos: QoS,
        /// No Local.
        no_local: bool,
        /// Retain As Published.
        retain_as_published: bool,
        /// Subscription Identifier; 0 is none.
        subscription_id: u32,
    },
    /// A subscription was ended by its client, or for it.
    Unsubscribed {
        /// Its Topic Filter.
        filter: Box<str>,
    },
    /// A message was accepted and routed.
    Published(Box<PublishedMessage>),
    /// A message was delivered: QoS 0 written, PUBACK or PUBREC received.
    Delivered(Box<DeliveredMessage>),
    /// A packet came or was written.
    Packet {
        /// It was written to the client.
        is_out: bool,
        /// Its type.
        packet_type: PacketType,
        /// The Packet Identifier, of packets that have one.
        packet_id: Option<u16>,
        /// Remaining Length.
        remaining_bytes: u32,
        /// When, milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// A subscription was refused.
    SubscribeRefused {
        /// The Topic Filter asked for.
        filter: String,
        /// With which reason code.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
}

/// See [`Event::Connected`]. One for all who keep it, the connection itself among them, and its
/// messages.
#[derive(Debug)]
pub struct ConnectedClient {
    /// Its Client Identifier.
    pub client_id: Arc<str>,
    /// Its user, proved or not; none is anonymous.
    pub user_name: Option<Arc<str>>,
    /// The listener that it came by.
    pub listener: Arc<ListenerPolicy>,
    /// Where from; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// How it came.
    pub flags: ConnectedFlags,
    /// Counts its bytes as long as it exists; none while it has no names.
    gauge: Option<Arc<MemoryGauge>>,
}

/// A client that many keep. It has one count of references, so that it is a block of 80 bytes.
pub type SharedClient = PlainArc<ConnectedClient>;

flags! {
    /// How a client came. One byte, as there may be a million clients.
    #[derive(PartialEq, Eq)]
    pub ConnectedFlags(u8);
    /// It has proved to be its user.
    0 user_is_proved set_user_is_proved;
    /// Clean Start.
    1 clean_start set_clean_start;
    /// A session was there already.
    2 session_present set_session_present;
    /// Its user is a device.
    3 is_device set_is_device;
}

impl ConnectedClient {
    /// A client of this name and this user. Its bytes are not counted.
    pub fn new(client_id: &str, user_name: Option<&str>) -> Self {
        let mut client = Self::unknown(Arc::default(), None);
        client.client_id = client_id.into();
        client.user_name = user_name.map(Into::into);
        client
    }

    /// The same; `gauge` counts its bytes.
    #[must_use]
    pub fn counted_by(mut self, gauge: &Arc<MemoryGauge>) -> Self {
        self.uncount();
        self.count_by(Some(Arc::clone(gauge)));
        self
    }

    /// A client before its CONNECT was accepted: only its listener and address are known.
    pub(crate) fn unknown(listener: Arc<ListenerPolicy>, address: Option<(IpAddr, u16)>) -> Self {
        Self {
            client_id: Arc::default(),
            user_name: None,
            listener,
            address,
            keep_alive_secs: 0,
            version: ProtocolVersion::V311,
            flags: ConnectedFlags::default(),
            gauge: None,
        }
    }

    /// Its names are those from now on; `gauge` counts its bytes.
    pub(crate) fn set_names(
        &mut self,
        client_id: Arc<str>,
        user_name: Option<Arc<str>>,
        gauge: &Arc<MemoryGauge>,
    ) {
        self.uncount();
        (self.client_id, self.user_name) = (client_id, user_name);
        self.count_by(Some(Arc::clone(gauge)));
    }

    /// Changes its names.
    pub(crate) fn change_names(
        &mut self,
        change: impl FnOnce(&mut Arc<str>, &mut Option<Arc<str>>),
    ) {
        let gauge = self.uncount();
        change(&mut self.client_id, &mut self.user_name);
        self.count_by(gauge);
    }

    /// The device that it is; none if it is none, or is not known to be one.
    pub fn device(&self) -> Option<&str> {
        let name = self.user_name.as_deref();
        name.filter(|_| self.flags.is_device())
    }

    /// Bytes that it takes with its names.
    fn bytes(&self) -> usize {
        let user_name = self.user_name.as_ref().map_or(0, |name| name.len());
        size_of::<Self>() + self.client_id.len() + user_name
    }

    fn count_by(&mut self, gauge: Option<Arc<MemoryGauge>>) {
        if let Some(gauge) = &gauge {
            gauge.add(self.bytes());
        }
        self.gauge = gauge;
    }

    fn uncount(&mut self) -> Option<Arc<MemoryGauge>> {
        let gauge = self.gauge.take();
        if let Some(gauge) = &gauge {
            gauge.sub(self.bytes());
        }
        gauge
    }

    /// Its user; none is anonymous.
    pub fn user(&self) -> Option<UserName> {
        let name = self.user_name.clone()?;
        Some(match self.flags.user_is_proved() {
            true => UserName::Proved(name),
            false => UserName::Claimed(name),
        })
    }
}

impl Clone for ConnectedClient {
    fn clone(&self) -> Self {
        let mut client = Self {
            client_id: Arc::clone(&self.client_id),
            user_name: self.user_name.clone(),
            listener: Arc::clone(&self.listener),
            address: self.address,
            keep_alive_secs: self.keep_alive_secs,
            version: self.version,
            flags: self.flags,
            gauge: None,
        };
        client.count_by(self.gauge.clone());
        client
    }
}

impl PartialEq for ConnectedClient {
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.user_name == other.user_name
            && self.listener == other.listener
            && self.address == other.address
            && self.keep_alive_secs == other.keep_alive_secs
            && self.version == other.version
            && self.flags == other.flags
    }
}

impl Eq for ConnectedClient {}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.uncount();
    }
}

/// See [`Event::Published`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedMessage {
    /// Topic Name.
    pub topic: Box<str>,
    /// The message's name.
    pub id: MessageId,
    /// QoS.
    pub qos: QoS,
    /// It was to be retained.
    pub retain: bool,
    /// Whether there was a subscriber.
    pub matched: bool,
    /// Length of its payload.
    pub payload_bytes: usize,
    /// As much of the payload as is wanted.
    pub payload: Box<[u8]>,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// See [`Event::Delivered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredMessage {
    /// Topic Name; empty if it is not in memory any more.
    pub topic: Box<str>,
    /// The message's name.
    pub id: MessageId,
    /// The QoS that it was sent with.
    pub qos: QoS,
    /// Since it was received, milliseconds; none if that is not known any more.
    pub latency_ms: Option<u64>,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// Which events are wanted; others are never built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventInterest {
    /// Authenticated, connected, refused, taken over, disconnected, the ends of sessions, refused
    /// publishes and subscriptions, full queues.
    pub connections: bool,
    /// Dropped messages.
    pub drops: bool,
    /// Subscribed, unsubscribed.
    pub subscriptions: bool,
    /// Published messages.
    pub published: bool,
    /// Delivered messages.
    pub delivered: bool,
    /// Packets, in and out.
    pub packets: bool,
    /// Bytes of a payload to include, at most; 0 is none.
    pub payload_bytes_max: usize,
    /// Clients and topics for which all events are wanted.
    pub traced: Traced,
}

impl EventInterest {
    /// All events of this group are wanted too.
    pub fn want(&mut self, group: EventGroup) {
        match group {
            EventGroup::Connection => self.connections = true,
            EventGroup::Subscription => self.subscriptions = true,
            EventGroup::Dropped => self.drops = true,
            EventGroup::Published => self.published = true,
            EventGroup::Delivered => self.delivered = true,
            EventGroup::Packet => self.packets = true,
            EventGroup::Gap => {}
        }
    }
}

/// Clients and topics for which all events are wanted; each of these lists is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Clients.
    pub clients: Vec<(TenantId, Box<str>)>,
    /// Connections from there.
    pub addresses: Vec<IpAddr>,
    /// Messages whose topic matches: published, delivered and dropped, for all clients.
    pub topics: Vec<Box<str>>,
}

impl Traced {
    /// Everything is wanted of this client.
    pub(crate) fn has(&self, tenant: TenantId, client_id: &str, address: Option<IpAddr>) -> bool {
        let mut clients = self.clients.iter();
        clients.any(|(of, name)| *of == tenant && **name == *client_id)
            || address.is_some_and(|address| self.addresses.contains(&address))
    }

    /// Messages of this topic are wanted.
    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        let Ok(topic) = TopicName::new(topic) else {
            return false;
        };
        let mut filters = self.topics.iter();
        filters.any(|filter| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)))
    }
}

/// The same in one word, which the way of a message asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants(u8);

impl Wants {
    pub(crate) const CONNECTIONS: Self = Self(1);
    pub(crate) const DROPS: Self = Self(1 << 1);
    pub(crate) const SUBSCRIPTIONS: Self = Self(1 << 2);
    pub(crate) const PUBLISHED: Self = Self(1 << 3);
    pub(crate) const DELIVERED: Self = Self(1 << 4);
    pub(crate) const PACKETS: Self = Self(1 << 5);
    /// Some clients or addresses are traced.
    pub(crate) const CLIENTS: Self = Self(1 << 6);
    /// Some topics are.
    pub(crate) const TOPICS: Self = Self(1 << 7);

    pub(crate) fn of(interest: &EventInterest) -> Self {
        let traced = &interest.traced;
        let clients = !traced.clients.is_empty() || !traced.addresses.is_empty();
        [
            (interest.connections, Self::CONNECTIONS),
            (interest.drops, Self::DROPS),
            (interest.subscriptions, Self::SUBSCRIPTIONS),
            (interest.published, Self::PUBLISHED),
            (interest.delivered, Self::DELIVERED),
            (interest.packets, Self::PACKETS),
            (clients, Self::CLIENTS),
            (!traced.topics.is_empty(), Self::TOPICS),
        ]
        .into_iter()
        .filter(|(on, _)| *on)
        .fold(Self(0), |all, (_, one)| all.and(one))
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Any of these.
    #[inline]
    pub(crate) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}
