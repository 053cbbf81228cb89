//! Commands of operators and of the control plane to a shard.

use std::sync::Arc;

use martlet_codec::{QoS, ReasonCode, SubscriptionOptions};
use martlet_permission::{Revocation, RuleBook, TenantId};

use crate::event_interest::EventInterest;
use crate::limits::ListenerPolicy;

/// A command; answers come as [`Report`](crate::Report)s that carry the same `request`.
#[derive(Debug, Clone)]
pub enum Command {
    /// Report this shard's counters and gauges.
    Snapshot {
        /// Named again by the answer.
        request: u64,
    },
    /// Report a page of the sessions of this shard, connected or not.
    Clients {
        /// Named again by the answer.
        request: u64,
        /// The clients that are asked for.
        query: Box<ClientQuery>,
    },
    /// Report all that is known of one session.
    ClientDetail {
        /// Repeated in the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: Box<str>,
        /// Subscriptions, messages in its queue, and messages in flight to report, at most.
        limit: usize,
    },
    /// Report a page of the subscriptions of this shard.
    Subscriptions {
        /// Repeated in the answer.
        request: u64,
        /// The subscriptions that are asked for.
        query: Box<SubscriptionQuery>,
    },
    /// Report a page of the retained messages of the node. Sent to one shard only.
    Retained {
        /// Named again by the answer.
        request: u64,
        /// The retained messages that are asked for.
        query: Box<RetainedQuery>,
    },
    /// Report which topics are in use, and by whom.
    Traffic {
        /// Named again by the answer.
        request: u64,
        /// At most this many uses.
        limit: usize,
    },
    /// Report what the client of this identifier may do, if it is connected here.
    SessionRules {
        /// Named again by the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: String,
    },
    /// Report what these share groups of this shard have lost, and what waits for their members.
    GroupDetails {
        /// Repeated in the answer.
        request: u64,
        /// Their tenant.
        tenant: TenantId,
        /// Their Topic Filters, as they were asked for: `$share/…`.
        filters: Arc<[Box<str>]>,
    },
    /// Report topics of this shard's messages without subscribers.
    Unmatched {
        /// Repeated in the answer.
        request: u64,
        /// In whose topic space.
        tenant: TenantId,
    },
    /// Report retained messages that were taken away by this shard.
    RetainedEnded {
        /// Repeated in the answer.
        request: u64,
        /// In whose topic space.
        tenant: TenantId,
        /// Topic Filter that they match.
        filter: Box<str>,
    },
    /// Report which devices have published here since the last such command. From the first one on
    /// they are listed, each once in some seconds.
    ActiveDevices {
        /// Repeated in the answer.
        request: u64,
    },
    /// Report what the clients of each tenant use of what all teams share.
    TenantUses {
        /// Repeated in the answer.
        request: u64,
    },
    /// Publish statistics below `$SYS/`, retained, QoS 0. Sent to one shard only.
    PublishSys(Vec<SysTopic>),
    /// Route messages as if a client had published them here. Answered once what has to be
    /// recorded is durable, so when their PUBACK would come.
    Publish {
        /// Named again by the answer.
        request: u64,
        /// In whose topic space.
        tenant: TenantId,
        /// The publisher, as events show it.
        publisher: Arc<str>,
        /// In order.
        messages: Arc<[NewMessage]>,
    },
    /// Take away all retained messages that match, each as a PUBLISH with an empty payload would.
    /// Sent to one shard only; answered once that is durable.
    DeleteRetained {
        /// Named again by the answer.
        request: u64,
        /// In whose topic space.
        tenant: TenantId,
        /// Topic Filter; a Topic Name is one that matches itself.
        filter: Box<str>,
    },
    /// End the connection of a client, if it is connected here.
    Disconnect {
        /// Named again by the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: String,
        /// The reason code for v5 clients; for a ban, "not authorized" and the ban.
        reason: ReasonCode,
    },
    /// End a session, connected or not, if it lives here. Its Will is sent, as at every end of a
    /// session [MQTT-3.1.2-8]. Answered once that is durable.
    EndSession {
        /// Named again by the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: Box<str>,
    },
    /// Subscribe for a client whose session lives here, connected or not, as if it had asked.
    /// Answered when its SUBACK would be.
    Subscribe {
        /// Named again by the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: Box<str>,
        /// In order.
        subscriptions: Vec<NewSubscription>,
    },
    /// The opposite. Answered when its UNSUBACK would be.
    Unsubscribe {
        /// Named again by the answer.
        request: u64,
        /// Tenant of the client.
        tenant: TenantId,
        /// Client Identifier.
        client_id: Box<str>,
        /// Topic Filters, in order, `$share/…` for Shared Subscriptions.
        filters: Vec<Box<str>>,
    },
    /// Revokes credentials: all connections by them end with 0x87, and clients that are being
    /// authenticated by them are refused.
    Revoke(Arc<[Revocation]>),
    /// Sets where rules are looked up, for all sessions and new clients, except those whose rules
    /// are their own.
    SetRules(Arc<dyn RuleBook>),
    /// Sets where rules are looked up, likewise, with a book that differs from the one before only
    /// for these users.
    SetRulesOf {
        /// Book of rules from now on.
        book: Arc<dyn RuleBook>,
        /// Users whose rules are looked up again; sorted.
        users: Arc<[Arc<str>]>,
    },
    /// These listeners require authentication from now on. Their clients that have not
    /// authenticated end with 0x87, connecting clients too.
    Ask(Arc<[Arc<ListenerPolicy>]>),
    /// From now on clients that need no credentials are asked for too, or not: some may be banned.
    CheckBans(bool),
    /// From now on these events are wanted.
    SetEvents(Arc<EventInterest>),
    /// The node stops: accept no client, send v5 clients DISCONNECT 0x8B and close all connections.
    /// Wills are kept back, since the clients are not lost, the server is.
    Shutdown,
}

/// Which sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// Tenant; none is all.
    pub tenant: Option<TenantId>,
    /// Text to search for in Client Identifier, User Name and address.
    pub search: Option<Search>,
    /// Exactly this user name: as proved, or as in the CONNECT where no proof is required.
    pub user: Option<Box<str>>,
    /// With a connection, or without.
    pub connected: Option<bool>,
    /// Without sessions whose Client Identifiers begin with one of these: those of parts that the
    /// node has for itself.
    pub without: &'static [&'static str],
    /// Behind this one, in the order of the answer.
    pub after: Option<(Box<str>, TenantId)>,
    /// At most this many.
    pub limit: usize,
}

/// A text that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Text to look for; large and small letters differ.
    pub text: Box<str>,
    /// Not only at the beginning.
    pub anywhere: bool,
}

impl Search {
    /// Whether it finds this text.
    pub fn finds(&self, text: &str) -> bool {
        match self.anywhere {
            true => text.contains(&*self.text),
            false => text.starts_with(&*self.text),
        }
    }
}

/// A filter of subscriptions. All given conditions must be true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionQuery {
    /// Tenant; none is all.
    pub tenant: Option<TenantId>,
    /// Client Identifier.
    pub client_id: Option<Box<str>>,
    /// Exactly this Topic Filter, with `$share/…` where it is a Shared Subscription.
    pub filter: Option<Box<str>>,
    /// Share name.
    pub share_name: Option<Box<str>>,
    /// Topic Name that the Topic Filter matches.
    pub topic: Option<Box<str>>,
    /// Without sessions whose Client Identifiers begin with one of these: those of parts that the
    /// node has for itself.
    pub without: &'static [&'static str],
    /// Behind this one, in the order of the answer: Client Identifier, tenant, Topic Filter.
    pub after: Option<(Box<str>, TenantId, Box<str>)>,
    /// At most this many.
    pub limit: usize,
}

/// Which retained messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetainedQuery {
    /// In whose topic space.
    pub tenant: TenantId,
    /// Topic Filter that they match.
    pub filter: Box<str>,
    /// Search that the topic must match.
    pub search: Option<Search>,
    /// Begin behind this topic.
    pub after: Option<Box<str>>,
    /// Messages to report, at most.
    pub limit: usize,
    /// Bytes of each payload to report, at most.
    pub payload_bytes_max: usize,
    /// Count all matches, which visits each of them.
    pub count: bool,
}

/// A message that operators publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Topic Name.
    pub topic: Box<str>,
    /// Payload.
    pub payload: Box<[u8]>,
    /// QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Payload Format Indicator: the payload is UTF-8 text.
    pub payload_is_utf8: Option<bool>,
    /// Message Expiry Interval, seconds.
    pub message_expiry_secs: Option<u32>,
    /// Content Type.
    pub content_type: Option<Box<str>>,
    /// Response Topic.
    pub response_topic: Option<Box<str>>,
    /// Correlation Data.
    pub correlation_data: Option<Box<[u8]>>,
    /// User Properties, in order.
    pub user_properties: Vec<(Box<str>, Box<str>)>,
    /// 0 if it comes from outside; else more than [`Message::hops`](crate::Message::hops) of the
    /// message that it follows from. What a part publishes with more than
    /// [`HOPS_MAX`](crate::HOPS_MAX) is refused.
    pub hops: u8,
}

/// A subscription that operators make for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Topic Filter, `$share/…` for a Shared Subscription.
    pub filter: Box<str>,
    /// Subscription Options.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0 is none.
    pub subscription_id: u32,
}

/// One value published below `$SYS/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysTopic {
    /// The Topic Name, such as `$SYS/broker/uptime`.
    pub topic: String,
    /// The value as text.
    pub payload: String,
}
