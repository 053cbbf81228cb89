//! What a shard tells of by itself: events, for logs and feeds.
//!
//! Each refusal, disconnect, takeover and drop is an event that names what decided it.
//! Client identifiers and topics are text from outside: those who print them escape them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{ProtocolVersion, ReasonCode};

use crate::counters::DropReason;
use crate::id::MessageId;
use crate::limits::QueueFull;

/// A user name, and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// The client has proved to be that user.
    Proved(Arc<str>),
    /// The client says so: nobody has asked it for a proof, or it gave none that is good.
    Claimed(Arc<str>),
}

impl UserName {
    /// Proved or not.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Proved(name) | Self::Claimed(name) => name,
        }
    }

    /// The client has proved to be that user.
    pub fn is_proved(&self) -> bool {
        matches!(self, Self::Proved(_))
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A CONNECT was accepted.
    Connected {
        /// Its client.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Protocol version.
        version: ProtocolVersion,
        /// Where from; none on a Unix socket.
        address: Option<(IpAddr, u16)>,
        /// A session was there already.
        session_present: bool,
    },
    /// A connection ended before it was accepted.
    Refused {
        /// Its client, as far as known.
        client_id: String,
        /// Its user, as far as known.
        user: Option<UserName>,
        /// The topic of its Will, as far as known.
        will_topic: Option<Box<str>>,
        /// Where from.
        address: Option<(IpAddr, u16)>,
        /// With which reason code.
        reason: ReasonCode,
        /// What decided it: a rule, a limit, a statement of the specification.
        why: Cow<'static, str>,
    },
    /// A client that was let in did not prove anew who it is; its connection ends.
    ReauthenticationRefused {
        /// Its client.
        client_id: String,
        /// Whom it proved to be before.
        user: Option<UserName>,
        /// With which reason code, as far as it was for its credentials.
        reason: ReasonCode,
        /// What decided it.
        why: Cow<'static, str>,
    },
    /// An accepted connection ended.
    Disconnected {
        /// Its client.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Reason code, sent or received or implied.
        reason: ReasonCode,
        /// What decided it.
        why: Cow<'static, str>,
    },
    /// A message was dropped for one receiver (or, with an empty client id, before routing).
    Dropped {
        /// Who did not get it.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Its topic; empty if it lay in the store alone.
        topic: String,
        /// Its name in the store, if its topic is not known.
        stored: Option<MessageId>,
        /// Why.
        reason: DropReason,
    },
    /// A queue is at its bound: from now on messages are dropped. Told once until it was empty.
    QueueFull {
        /// Whose: a client, or the Topic Filter of a share group.
        owner: String,
        /// Messages that wait in it.
        messages: usize,
        /// What becomes of further ones.
        policy: QueueFull,
    },
    /// A PUBLISH was refused; before MQTT 5 its client is not told.
    PublishRefused {
        /// Who published.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Where from; none on a Unix socket, or while the client is away, as for its Will.
        address: Option<(IpAddr, u16)>,
        /// To which topic.
        topic: String,
        /// With which reason code.
        reason: ReasonCode,
        /// What decided it.
        why: Cow<'static, str>,
    },
    /// A client published faster than it may, and what was beyond that was dropped: QoS 0. Told of
    /// a client once a second at most.
    RateExceeded {
        /// Who published.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Where from; none on a Unix socket.
        address: Option<(IpAddr, u16)>,
        /// To which topic the first of them was.
        topic: Box<str>,
        /// How many they were.
        count: u32,
    },
    /// A subscription was refused.
    SubscribeRefused {
        /// Whose.
        client_id: String,
        /// Its user; none is anonymous.
        user: Option<UserName>,
        /// Where from; none on a Unix socket.
        address: Option<(IpAddr, u16)>,
        /// The Topic Filter asked for.
        filter: String,
        /// With which reason code.
        reason: ReasonCode,
        /// What decided it.
        why: Cow<'static, str>,
    },
}

/// Which kinds of events are wanted; others are never built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventInterest {
    /// Connected, refused, disconnected, refused subscriptions, full queues.
    pub connections: bool,
    /// Dropped messages.
    pub drops: bool,
}
