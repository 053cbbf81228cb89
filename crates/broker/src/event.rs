//! What a shard reports: events for logs and feeds, reports as answers to commands.
//!
//! Each refusal, disconnect, takeover and drop is an event that names what decided it.
//! Client identifiers and topics are text from outside: those who print them escape them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{ProtocolVersion, ReasonCode};

use crate::counters::{Counters, DropReason};
use crate::id::MessageId;
use crate::limits::QueueFull;
use crate::permission::Rules;
use crate::traffic::TopicUse;

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

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Report {
    /// To [`Command::Snapshot`](crate::Command::Snapshot).
    Snapshot {
        /// The command's.
        request: u64,
        /// Counters and gauges of the shard.
        counters: Box<Counters>,
    },
    /// To [`Command::Clients`](crate::Command::Clients).
    Clients {
        /// The command's.
        request: u64,
        /// Sessions in no particular order, as far as the limit goes.
        clients: Vec<ClientInfo>,
        /// How many there are in all.
        total: usize,
    },
    /// To [`Command::Traffic`](crate::Command::Traffic).
    Traffic {
        /// The command's.
        request: u64,
        /// In no particular order.
        uses: Vec<TopicUse>,
    },
    /// To [`Command::SessionRules`](crate::Command::SessionRules).
    SessionRules {
        /// The command's.
        request: u64,
        /// None: no such client is connected here.
        found: Option<SessionRules>,
    },
}

/// What the client of a session may do.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// Its user; none is anonymous.
    pub user: Option<UserName>,
    /// Its rules; none: nobody had to say who they are, and everything is permitted.
    pub rules: Option<Arc<Rules>>,
    /// They came with the proof of who it is, and are in no file and no table.
    pub has_own_rules: bool,
}

/// A session, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Client Identifier.
    pub client_id: String,
    /// A Network Connection is there.
    pub connected: bool,
    /// User name of the last CONNECT.
    pub user_name: Option<String>,
    /// Protocol version of the last CONNECT.
    pub version: ProtocolVersion,
    /// Peer of the connection; none while away or on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// Session Expiry Interval, seconds; `u32::MAX` is never.
    pub session_expiry_secs: u32,
    /// Wall clock of the last CONNECT, milliseconds.
    pub connected_at_ms: u64,
    /// Number of subscriptions.
    pub subscriptions: usize,
    /// Messages waiting in the queue.
    pub queued: usize,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Accounting: matched so far.
    pub matched: u64,
    /// Accounting: delivered so far.
    pub delivered: u64,
    /// Accounting: dropped so far, all reasons.
    pub dropped: u64,
    /// Accounting: expired so far.
    pub expired: u64,
}
