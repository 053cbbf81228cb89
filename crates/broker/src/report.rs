//! Answers of a shard to commands; each carries the command's `request`.
//!
//! Client Identifiers and topics are text from outside: programs that print them must escape them.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{PacketId, ProtocolVersion, QoS, ReasonCode};
use martlet_permission::{ReachedLimit, Rules, TenantId};

use crate::connected_client::UserName;
use crate::counters::{Counters, DropReason};
use crate::id::MessageId;
use crate::message::MessageHead;

/// The answer to a command.
#[derive(Clone, Debug)]
pub struct Report {
    /// The command's.
    pub request: u64,
    /// Contents.
    pub answer: Answer,
}

/// The contents of an answer, named like the [`Command`](crate::Command) that it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Counters and gauges of the shard.
    Snapshot(Box<Counters>),
    /// A page of the shard's sessions.
    Clients(ClientPage),
    /// The session of one client; none if it is not on this shard.
    ClientDetail(Option<Box<ClientDetail>>),
    /// A page of the shard's subscriptions.
    Subscriptions(SubscriptionPage),
    /// A page of the node's retained messages.
    Retained(RetainedPage),
    /// Topics in use, in no particular order.
    Traffic(Vec<TopicUse>),
    /// None: no such client is connected here.
    SessionRules(Option<SessionRules>),
    /// Details of those share groups that are on this shard.
    GroupDetails(Vec<GroupDetail>),
    /// Topics of messages without subscribers.
    Unmatched(Vec<UnmatchedTopic>),
    /// Retained messages that were taken away.
    RetainedEnded(Vec<RetainedEnded>),
    /// Devices that have published.
    ActiveDevices(ActiveDevices),
    /// Tenants that use something, in no particular order.
    TenantUses(Vec<TenantUse>),
    /// Result of each message, in order.
    Publish(Vec<Published>),
    /// Result of a deletion of retained messages.
    DeleteRetained {
        /// Retained messages that were deleted.
        deleted: u64,
        /// Whether those are all, and what kept the others.
        outcome: DeleteOutcome,
    },
    /// Whether there was a connection.
    Disconnect(bool),
    /// Whether there was a session.
    EndSession(bool),
    /// Result for each Topic Filter, in order; none if there is no such session here.
    Subscribe(Option<Vec<ReasonCode>>),
    /// Likewise.
    Unsubscribe(Option<Vec<ReasonCode>>),
    /// Too much is being worked on, or the store does not answer: the command may be repeated.
    Refused(ReasonCode),
}

impl Answer {
    /// The store has not answered in time: what waited for it is not promised.
    pub(crate) fn unpromised(self) -> Self {
        let reason = ReasonCode::QuotaExceeded;
        match self {
            Self::Publish(mut outcomes) => {
                for outcome in &mut outcomes {
                    if outcome.recorded {
                        outcome.reason = reason;
                    }
                }
                Self::Publish(outcomes)
            }
            Self::DeleteRetained { deleted, .. } => Self::DeleteRetained {
                deleted,
                outcome: DeleteOutcome::StoreSilent,
            },
            _ => Self::Refused(reason),
        }
    }
}

/// How a deletion of retained messages ended. It takes no memory, so that is never short for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// All are deleted, and the deletion is durable.
    Deleted,
    /// The store has no room, so the other messages remain.
    StoreFull,
    /// The store did not answer in time: other messages may remain, and what was deleted may come
    /// back after a crash.
    StoreSilent,
    /// The other messages remain for this reason.
    Refused(ReasonCode),
}

/// Result of a message that operators publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The reason code of a PUBACK; 0x10 for QoS 0 too.
    pub reason: ReasonCode,
    /// The name of the message; none if it was refused.
    pub id: Option<MessageId>,
    /// Sessions and share groups of this shard that it was chosen for.
    pub matched_locally: u64,
    /// Lanes of parts among them, such as integrations that take all messages.
    pub lanes: u64,
    /// Number of other shards with receivers.
    pub other_shards: u32,
    /// The store was to keep something of it.
    pub recorded: bool,
    /// Whether it was refused because a part holds back what it takes, until its queue has room:
    /// the same message may be accepted later.
    pub is_held: bool,
    /// Whether it was refused because memory or the store is full: the same message may be accepted
    /// later.
    pub is_short: bool,
}

impl Published {
    /// Sessions and share groups of this shard, and other shards, that it was chosen for. Lanes are
    /// not counted: they answer no request.
    pub fn subscribers(&self) -> u64 {
        self.matched_locally.saturating_sub(self.lanes) + u64::from(self.other_shards)
    }

    /// Whether the same message may be accepted later.
    pub fn comes_later(&self) -> bool {
        self.is_held || self.is_short
    }

    /// Memory or the store is full.
    pub(crate) fn short() -> Self {
        Self {
            is_short: true,
            ..Self::refused(ReasonCode::QuotaExceeded)
        }
    }

    /// A part holds it back.
    pub(crate) fn held() -> Self {
        Self {
            is_held: true,
            ..Self::refused(ReasonCode::QuotaExceeded)
        }
    }

    /// Creates the result of a message that is not delivered.
    pub(crate) fn refused(reason: ReasonCode) -> Self {
        Self {
            reason,
            id: None,
            matched_locally: 0,
            lanes: 0,
            other_shards: 0,
            recorded: false,
            is_held: false,
            is_short: false,
        }
    }
}

/// Sessions of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPage {
    /// Sorted by Client Identifier, then by tenant.
    pub clients: Vec<ClientInfo>,
    /// How many match the query, wherever its cursor is.
    pub total: usize,
    /// Where the next page begins: behind this key, which may be that of a session that has ended
    /// since it was found. None: this is the last page.
    pub end: Option<(Box<str>, TenantId)>,
}

/// Subscriptions of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionPage {
    /// Sorted by Client Identifier, tenant, Topic Filter.
    pub subscriptions: Vec<SubscriptionInfo>,
    /// How many match the query, wherever its cursor is.
    pub total: usize,
    /// There are more behind the last one.
    pub more: bool,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Tenant of the client.
    pub tenant: TenantId,
    /// Client Identifier of the subscriber.
    pub client_id: Arc<str>,
    /// As it was asked for, `$share/…` where it is a Shared Subscription.
    pub filter: Box<str>,
    /// The QoS granted.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier; 0 is none.
    pub subscription_id: u32,
    /// Whether it brought the retained messages that match it.
    pub retained: RetainedAtSubscribe,
}

/// Whether a subscription brought the retained messages that match it, when it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainedAtSubscribe {
    /// The subscription brought them. Of one from before a restart that is not known.
    #[default]
    Sent,
    /// Retain Handling 1, and the session had the subscription already.
    NotNew,
    /// Retain Handling 2.
    NotWanted,
}

impl SubscriptionInfo {
    /// Bytes that it counts for on a page.
    pub fn bytes(&self) -> usize {
        self.client_id.len() + self.filter.len() + size_of::<Self>()
    }

    /// The ShareName of a Shared Subscription.
    pub fn share_name(&self) -> Option<&str> {
        let (name, _) = self.filter.strip_prefix("$share/")?.split_once('/')?;
        Some(name)
    }
}

/// Retained messages of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedPage {
    /// Sorted by topic.
    pub messages: Vec<RetainedInfo>,
    /// How many match the query, wherever its cursor is; none if that was not asked.
    pub total: Option<u64>,
    /// There are more behind the last one.
    pub more: bool,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedInfo {
    /// Topic Name.
    pub topic: Box<str>,
    /// Name of the message.
    pub id: MessageId,
    /// QoS it was published with.
    pub qos: QoS,
    /// Payload Format Indicator: the payload is UTF-8 text.
    pub payload_is_utf8: Option<bool>,
    /// Content Type.
    pub content_type: Option<Box<str>>,
    /// Response Topic.
    pub response_topic: Option<Box<str>>,
    /// Correlation Data.
    pub correlation_data: Option<Box<[u8]>>,
    /// User Properties, in order.
    pub user_properties: Vec<(Box<str>, Box<str>)>,
    /// Length of its payload.
    pub payload_bytes: usize,
    /// As much of the payload as was asked for.
    pub payload: Box<[u8]>,
    /// When it came in, milliseconds since the Unix epoch.
    pub received_wall_ms: u64,
    /// Seconds until it expires; none is never.
    pub expires_in_secs: Option<u32>,
}

/// All details of a session, without the contents of its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDetail {
    /// As in a page of clients.
    pub info: ClientInfo,
    /// User, and what that is worth.
    pub user: Option<UserName>,
    /// Whether its rules came with its credentials; none where no credentials are asked for.
    pub has_own_rules: Option<bool>,
    /// Whether it outlives its connection, so that its subscriptions and messages are recorded.
    pub durable: bool,
    /// When its connection ended, milliseconds in the time of records; none while it has one.
    pub left_ms: Option<u64>,
    /// Details that were negotiated; none while it has no connection.
    pub connection: Option<ConnectionDetail>,
    /// Will, if one is kept.
    pub will: Option<WillInfo>,
    /// Subscriptions, as many as were asked for.
    pub subscriptions: Vec<SubscriptionInfo>,
    /// Bytes of the messages that wait in its queue.
    pub queued_bytes: u64,
    /// The first of them, as many as were asked for.
    pub queue: Vec<QueuedMessage>,
    /// Messages with a Packet Identifier, likewise, in the order in which it was given.
    pub in_flight: Vec<InFlightMessage>,
    /// QoS 2 messages of its own between PUBLISH and PUBREL.
    pub receipts: usize,
    /// Number of drops by reason; reasons without drops are left out. Counted from the start of the
    /// node on.
    pub drops: Vec<(DropReason, u64)>,
    /// When that was, in the same order.
    pub dropped_at: Vec<LossTimes>,
    /// When messages expired for it.
    pub expired_at: LossTimes,
    /// The bound that its queue is at, if it has dropped messages and has no room since.
    pub queue_full: Option<ReachedLimit>,
    /// The device has published since it logged in; none: it is no device, or that is not noted.
    pub has_published: Option<bool>,
}

/// A topic of messages that were not retained and had no receiver: only clients with a subscription
/// to all topics were subscribed, or the rules forbade the subscribers of a shard to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmatchedTopic {
    /// Topic Name.
    pub topic: Box<str>,
    /// Client Identifier of the last publisher; none: an operator, or a client whose session has
    /// ended.
    pub client_id: Option<Arc<str>>,
    /// How many they were.
    pub count: u64,
    /// When the first of them came, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When the last of them came, likewise.
    pub last_ms: u64,
    /// Clients were subscribed to it that the rules forbid to read it.
    pub is_forbidden: bool,
    /// Clients got it that are subscribed to all topics, by `#` or `+/#`. Then not each of the
    /// messages was counted.
    pub reached_all: bool,
}

impl UnmatchedTopic {
    /// Adds what another shard knows of the same topic.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.is_forbidden |= other.is_forbidden;
        self.reached_all |= other.reached_all;
        if other.last_ms > self.last_ms {
            (self.last_ms, self.client_id) = (other.last_ms, other.client_id);
        }
    }
}

/// The end of a retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedEnded {
    /// Topic Name.
    pub topic: Box<str>,
    /// How it ended.
    pub end: RetainedEnd,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Client Identifier of the client that cleared it, or that had published what expired; none:
    /// an operator, or it is not known.
    pub client_id: Option<Arc<str>>,
}

/// How a retained message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainedEnd {
    /// A message with an empty payload and RETAIN cleared it.
    Cleared,
    /// The Message Expiry Interval ran out.
    Expired,
}

/// Devices that have published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveDevices {
    /// Their tenants, and their ids there; in no particular order.
    pub devices: Vec<(TenantId, Arc<str>)>,
    /// There was no room for more of them.
    pub is_cut: bool,
}

/// Use by the clients of one tenant of what all teams share. All but the subscriptions is of the
/// whole node, and reported by shard 0 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Tenant; of the common one connections and sessions are not counted.
    pub tenant: TenantId,
    /// Connections.
    pub connections: usize,
    /// Sessions, with a connection or without.
    pub sessions: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
    /// Bytes of the subscriptions on this shard.
    pub subscription_bytes: usize,
    /// Bytes of the Wills on this shard.
    pub will_bytes: usize,
}

/// Messages that no member of a share group got, or that wait for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDetail {
    /// Topic Filter of the group, `$share/…`.
    pub filter: Box<str>,
    /// Messages that wait because no member can take one.
    pub queued: usize,
    /// When the first of them came in, milliseconds since the Unix epoch; none: none waits, or it
    /// is not known.
    pub waiting_since_ms: Option<u64>,
    /// Number of drops by reason, and when they were. Counted from the start of the node on.
    pub drops: Vec<(DropReason, u64, LossTimes)>,
    /// The bound that its queue is at, if that has no room.
    pub queue_full: Option<ReachedLimit>,
}

/// Details of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionDetail {
    /// The listener that it came by.
    pub listener: String,
    /// Clean Start of its CONNECT.
    pub clean_start: bool,
    /// The CONNACK is out.
    pub admitted: bool,
    /// The client's Receive Maximum, bounded by ours.
    pub receive_maximum: u16,
    /// The client's Maximum Packet Size; none is no limit.
    pub maximum_packet_size: Option<u32>,
    /// The client's Topic Alias Maximum, bounded by ours.
    pub topic_alias_maximum: u16,
    /// Bytes that wait to be written.
    pub output_bytes: usize,
    /// Bytes that came and wait to be worked off.
    pub input_bytes: usize,
    /// Answers that wait for the store.
    pub answers_gated: u32,
    /// When its last packet came, wall clock in milliseconds, up to 49 days ago; none: it is a
    /// part, which sends no packets.
    pub last_packet_ms: Option<u64>,
    /// Whether what it has sent waits until the store takes more.
    pub waits_for_store: bool,
}

/// A Will, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillInfo {
    /// Topic Name.
    pub topic: Box<str>,
    /// QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Length of its payload.
    pub payload_bytes: usize,
    /// Will Delay Interval, seconds.
    pub delay_secs: u32,
}

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Name of the message.
    pub id: MessageId,
    /// The QoS that it is sent with.
    pub qos: QoS,
    /// Whether it is sent with RETAIN 1.
    pub retain: bool,
    /// Bytes that it counts for in limits: topic, properties, payload and overhead.
    pub bytes: usize,
    /// Contents; none if it lies in the store alone.
    pub head: Option<MessageHead>,
}

/// A message under a Packet Identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightMessage {
    /// The identifier.
    pub packet_id: PacketId,
    /// Name of the message.
    pub id: MessageId,
    /// How far it has come.
    pub state: DeliveryState,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// Contents; none if it is not in memory any more.
    pub head: Option<MessageHead>,
    /// How long ago it was sent on this connection, milliseconds, to about a second; none: it was
    /// not. After 18 hours it begins anew.
    pub sent_age_ms: Option<u64>,
}

/// How far a message under a Packet Identifier has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// The PUBLISH is not yet sent on the present connection.
    Unsent,
    /// PUBACK or PUBREC has not come.
    Unacknowledged,
    /// PUBREC has come, PUBCOMP has not.
    Released,
}

/// Permissions of the client of a session.
#[derive(Clone, Debug)]
pub struct SessionRules {
    /// User; none is anonymous.
    pub user: Option<UserName>,
    /// Rules; none: no credentials were asked for, and everything is permitted.
    pub rules: Option<Arc<Rules>>,
    /// They came with its credentials, and are in no file and no table.
    pub has_own_rules: bool,
}

/// A session, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Tenant of the client.
    pub tenant: TenantId,
    /// Client Identifier.
    pub client_id: String,
    /// A Network Connection is there.
    pub connected: bool,
    /// User name of the last CONNECT; of a client that is away, if it was proved.
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

impl ClientInfo {
    /// Bytes that it counts for on a page.
    pub fn bytes(&self) -> usize {
        let user_name = self.user_name.as_ref();
        self.client_id.len() + user_name.map_or(0, String::len) + size_of::<Self>()
    }
}

/// When messages were lost: wall clock, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossTimes {
    /// First, as far as known.
    pub first_ms: u64,
    /// Last, likewise.
    pub last_ms: u64,
}

impl LossTimes {
    pub(crate) fn note(&mut self, wall_ms: u64) {
        if self.first_ms == 0 {
            self.first_ms = wall_ms;
        }
        self.last_ms = wall_ms;
    }
}

/// A client uses a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicUse {
    /// Client Identifier.
    pub client_id: String,
    /// The user name by which it is known.
    pub user_name: Option<String>,
    /// Topic Name.
    pub topic: Arc<str>,
    /// Whether it publishes to the topic; else messages of it are sent to it.
    pub publishes: bool,
}
