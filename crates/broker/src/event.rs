//! Events that a shard reports by itself, for logs and feeds.
//!
//! Each refusal, disconnect, takeover and drop is an event that names what decided it. Client
//! Identifiers and topics are text from outside: programs that print them must escape them.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{PacketType, QoS, ReasonCode};
use martlet_permission::{Proof, ReachedLimit, Refusal, RefusalCause, TenantId};

use crate::connected_client::SharedClient;
use crate::counters::DropReason;
use crate::event_head::EventHead;
use crate::event_interest::EventGroup;
use crate::id::MessageId;
use crate::limits::{ListenerPolicy, QueueFull};

/// An event: the client that it is about, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNotice {
    /// The client that it is about.
    pub head: EventHead,
    /// Event.
    pub event: Event,
}

/// Event in a node. The [`EventHead`] has the client that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client has proved its identity. The next event is that its CONNECT was accepted or
    /// refused, unless it is connected already and has authenticated again.
    Authenticated {
        /// The proof of its identity.
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
    /// A client that was accepted failed to re-authenticate; its connection ends.
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
        /// Will of the client, and whether it is published; none: it had none.
        will: Option<Box<WillNotice>>,
    },
    /// A message was dropped for one receiver (or, with an empty client id, before routing).
    Dropped {
        /// Topic of the message; empty if it lay in the store alone.
        topic: String,
        /// Name of the message in the store, if its topic is not known.
        stored: Option<MessageId>,
        /// Why.
        reason: DropReason,
        /// The limit that it was dropped for, if it was one.
        limit: Option<ReachedLimit>,
        /// The reason code with which its receiver refused it; see
        /// [`PartRefusal::of`](crate::PartRefusal::of) for a part.
        refused: Option<ReasonCode>,
    },
    /// A queue is at its bound: from now on messages are dropped. Reported once until the queue was
    /// empty.
    QueueFull {
        /// Messages that wait in it.
        messages: usize,
        /// Policy for further messages.
        policy: QueueFull,
        /// The bound that it is at.
        limit: ReachedLimit,
    },
    /// Messages for a client or a share group were dropped. Reported for each reason at once, and
    /// again every 10 seconds in which there are more.
    MessagesLost {
        /// The topic of the first of them; empty if that is not known.
        topic: Box<str>,
        /// Why.
        reason: DropReason,
        /// Number of messages since the last report.
        count: u64,
        /// The limit that they were dropped for, if it was one.
        limit: Option<ReachedLimit>,
        /// Why the session ended, of messages that were dropped with their session.
        ended: Option<RefusalCause>,
    },
    /// A PUBLISH was refused. Clients before MQTT 5 get no error.
    PublishRefused {
        /// To which topic.
        topic: String,
        /// With which reason code.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
    /// A client published faster than it may, and messages beyond that were dropped: those of
    /// QoS 0, or those that waited when it disconnected. Reported once a second per client
    /// at most.
    RateExceeded {
        /// To which topic the first of them was.
        topic: Box<str>,
        /// How many they were.
        count: u32,
        /// They waited for the rate when the client disconnected.
        waited: bool,
        /// The rate that is permitted.
        limit: ReachedLimit,
    },
    /// A client publishes faster than it may, and its messages wait. Reported at once, and again
    /// each minute in which that is so.
    PublishesDelayed {
        /// How often a message has waited since the last report.
        count: u32,
        /// The rate that is permitted.
        limit: ReachedLimit,
    },
    /// A connection is ended because its client has connected again. The next event is its end.
    TakenOver {
        /// Where the new one is from.
        by: Option<(IpAddr, u16)>,
    },
    /// A session ended, and with it its subscriptions and queue.
    SessionEnded {
        /// Cause of the end.
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
        /// Topic Filter.
        filter: Box<str>,
    },
    /// A message was accepted and routed.
    Published(Box<PublishedMessage>),
    /// A message was delivered: QoS 0 written, PUBACK or PUBREC received.
    Delivered(Box<DeliveredMessage>),
    /// A packet was received or written.
    Packet {
        /// Whether it was written to the client.
        is_out: bool,
        /// Type of the packet.
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

/// See [`Event::Published`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedMessage {
    /// Topic Name.
    pub topic: Box<str>,
    /// The message's name.
    pub id: MessageId,
    /// QoS.
    pub qos: QoS,
    /// Whether it was to be retained.
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

/// A Will whose connection has ended, and whether it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillNotice {
    /// Will Topic.
    pub topic: Box<str>,
    /// Whether its client ended the connection by a DISCONNECT that discards it. Else it is
    /// published, now or after its Will Delay Interval.
    pub is_discarded: bool,
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

impl EventNotice {
    /// An event about a client that has connected.
    pub fn connected(tenant: TenantId, client: SharedClient) -> Self {
        Self {
            head: EventHead::of_client(tenant, &client),
            event: Event::Connected(client),
        }
    }
}

impl Event {
    /// Group to which it belongs.
    pub fn group(&self) -> EventGroup {
        match self {
            Self::Subscribed { .. } | Self::Unsubscribed { .. } => EventGroup::Subscription,
            Self::Published(_) => EventGroup::Published,
            Self::Delivered(_) => EventGroup::Delivered,
            Self::Dropped { .. } => EventGroup::Dropped,
            Self::Packet { .. } => EventGroup::Packet,
            _ => EventGroup::Connection,
        }
    }

    /// Why something was refused or ended; none: it is about something else.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { why, .. }
            | Self::ReauthenticationRefused { why, .. }
            | Self::Disconnected { why, .. }
            | Self::PublishRefused { why, .. }
            | Self::SubscribeRefused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Returns why something was refused or ended, to change it.
    pub(crate) fn refusal_mut(&mut self) -> Option<&mut Refusal> {
        match self {
            Self::Refused { why, .. }
            | Self::ReauthenticationRefused { why, .. }
            | Self::Disconnected { why, .. }
            | Self::PublishRefused { why, .. }
            | Self::SubscribeRefused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The cause of a refusal, an end, or a drop by a limit.
    pub fn cause(&self) -> Option<RefusalCause> {
        match self {
            Self::SessionEnded { cause, .. }
            | Self::MessagesLost {
                ended: Some(cause), ..
            } => Some(*cause),
            _ => match self.refusal() {
                Some(refusal) => Some(refusal.cause),
                None => self.reached().map(|reached| reached.limit.into()),
            },
        }
    }

    /// The limit that messages were dropped or delayed for, with its value.
    pub fn reached(&self) -> Option<ReachedLimit> {
        match self {
            Self::Dropped { limit, .. } | Self::MessagesLost { limit, .. } => *limit,
            Self::QueueFull { limit, .. }
            | Self::RateExceeded { limit, .. }
            | Self::PublishesDelayed { limit, .. } => Some(*limit),
            _ => None,
        }
    }

    /// The name of its reason code, or of the reason of a drop.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused { reason, .. }
            | Self::ReauthenticationRefused { reason, .. }
            | Self::Disconnected { reason, .. }
            | Self::PublishRefused { reason, .. }
            | Self::SubscribeRefused { reason, .. } => Some(reason.name()),
            Self::Dropped { reason, .. } | Self::MessagesLost { reason, .. } => Some(reason.name()),
            _ => None,
        }
    }

    /// How many messages it is about, where it counts them.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::MessagesLost { count, .. } => Some(*count),
            Self::RateExceeded { count, .. } | Self::PublishesDelayed { count, .. } => {
                Some(u64::from(*count))
            }
            _ => None,
        }
    }
}
