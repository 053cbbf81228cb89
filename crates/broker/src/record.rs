//! Records of what is persisted. A record leaves the shard as an effect; what it promises is
//! acknowledged when the store has answered that it is durable.
//!
//! One record per message, written by the shard that received it; all that follows is derived and
//! idempotent (idea 5). Each record is atomic: it is on the disk as a whole or not at all. How a
//! record is laid out on the disk is `persistence`'s affair.

use std::sync::Arc;

use martlet_codec::{PacketId, ProtocolVersion, QoS};
use martlet_permission::{Realm, TenantId};

use crate::id::{MessageId, RecordNumber, SessionEpoch, SubscriptionIds};
use crate::message::Message;
use crate::part::interface::PartTerms;

/// The version that stands in each record once it is encoded.
pub const RECORD_VERSION: u8 = 1;

/// Why a message lies in a queue. With queue and message id the key of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnqueuedAs {
    /// A subscription matched it.
    Routed,
    /// The message was retained when the session subscribed. Subscriptions that overlap, or are
    /// made again, may each bring a copy of the same message: the number, below
    /// [`RETAINED_COPIES`], tells them apart.
    Retained(u8),
    /// A share group handed it over. A session in several groups may get the same message from
    /// each: the number, below [`SHARED_COPIES`], is that of the subscription.
    Shared(u8),
}

/// Number of numbers for retained copies: after this number of subscriptions they repeat.
pub const RETAINED_COPIES: u8 = 125;

/// Shared subscriptions of one session, at most.
pub const SHARED_COPIES: u8 = 128;

/// Identity of the client of a session, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOwner {
    /// Where its rules are looked up.
    pub realm: Realm,
    /// Name of the user; none is anonymous.
    pub user_name: Option<Arc<str>>,
    /// Which of the users that had the name; 0: not known.
    pub holder: u64,
    /// No other user may take the session over.
    pub bound: bool,
    /// Whether it counts among the sessions that its user may have.
    pub is_counted: bool,
}

/// A Will, kept from CONNECT until it is sent or not needed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWill {
    /// Topic Name.
    pub topic: Box<str>,
    /// Payload.
    pub payload: Box<[u8]>,
    /// Properties that are passed on unaltered, encoded as on the wire.
    pub forwarded: Box<[u8]>,
    /// QoS it is published with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Message Expiry Interval, seconds.
    pub message_expiry_secs: Option<u32>,
    /// Will Delay Interval, seconds.
    pub delay_secs: u32,
}

/// A session, as its record has it.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// Which life of it.
    pub epoch: SessionEpoch,
    /// Session Expiry Interval, seconds; 0 is recorded for its Will alone.
    pub expiry_secs: u32,
    /// Whether its subscriptions and messages are recorded.
    pub durable: bool,
    /// The protocol version of its last CONNECT; none in records that are older than this.
    pub version: Option<ProtocolVersion>,
    /// When its connection ended, in the time of records; none while it is connected.
    pub left_wall_ms: Option<u64>,
    /// Whether its end was put off after a start, which is done once while its client is away.
    pub put_off: bool,
    /// Terms of the part that it is of; none: it is a client's.
    pub part: Option<PartTerms>,
    /// The user of its client; none where no credentials were asked for.
    pub owner: Option<SessionOwner>,
    /// The Will that is still due; none takes away the one recorded before.
    pub will: Option<Arc<StoredWill>>,
}

/// A subscription, as its record has it.
#[derive(Clone, Debug)]
pub struct SubscriptionRecord {
    /// Whose.
    pub epoch: SessionEpoch,
    /// Which of that session's; a subscription that replaces one keeps its number and its place in
    /// the order of records.
    pub number: u32,
    /// Topic Filter, with `$share/…` where shared.
    pub filter: Box<str>,
    /// Maximum QoS granted.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier; 0 is none.
    pub subscription_id: u32,
    /// Retained messages are still owed for it.
    pub retained_pending: bool,
    /// Topic up to which, in the retained store's order, retained messages are with the session
    /// already.
    pub retained_after: Option<Box<str>>,
}

/// A message in a queue or in flight, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRecord {
    /// The session with the queue.
    pub epoch: SessionEpoch,
    /// The message.
    pub message: MessageId,
    /// Why.
    pub why: EnqueuedAs,
    /// QoS to send it with: 1 or 2.
    pub qos: QoS,
    /// RETAIN flag to send it with.
    pub retain: bool,
    /// PUBREC has come: only PUBREL is owed.
    pub released: bool,
    /// Packet Identifier, once it has one: from then on it counts as sent.
    pub packet_id: Option<PacketId>,
    /// Bytes that the message counts for in queues.
    pub bytes: u32,
    /// When it expires, seconds in the time of records; 0 is never.
    pub expires_wall_secs: u32,
    /// Subscription Identifiers that go with it.
    pub subscription_ids: SubscriptionIds,
    /// The share group that handed it over.
    pub group: Option<SessionEpoch>,
}

/// A message that must be kept.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// The message. An empty payload with a retained revision clears its topic: it is kept until no
    /// older record of the topic can follow.
    pub message: Message,
    /// The session that published it; none is the node itself. [`Message::client`] has its names.
    pub publisher: Option<SessionEpoch>,
    /// The publisher's session and the Packet Identifier of a QoS 2 receipt.
    pub receipt: Option<(SessionEpoch, PacketId)>,
    /// Revision in the retained store, if it is or clears the topic's retained message.
    pub retained_revision: Option<u64>,
    /// The topic's retained message before it, which is it no more.
    pub replaces: Option<MessageId>,
    /// Whether it has receivers: then [`Record::Routed`] follows.
    pub to_be_routed: bool,
    /// Session whose Will it is; that Will is used up by it.
    pub will_of: Option<SessionEpoch>,
}

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// A session that outlives its connection, or has a Will, began or changed.
    Session(Box<SessionRecord>),
    /// A session or share group ended, with all that belongs to it.
    Ended(SessionEpoch),
    /// A share group that outlives the connections of its members began.
    Group {
        /// Whose.
        tenant: TenantId,
        /// `$share/name/filter`.
        filter: Box<str>,
        /// Which life of it; its queue.
        epoch: SessionEpoch,
    },
    /// A subscription was made or changed.
    Subscribed(Box<SubscriptionRecord>),
    /// A page of the retained messages that a subscription is owed is with its session. It stands
    /// behind their entries and is on the disk with all of them or not at all, so that no restart
    /// brings one of them again.
    RetainedSent {
        /// Whose.
        epoch: SessionEpoch,
        /// Which of that session's.
        number: u32,
        /// The last topic of the page; none: nothing is owed any more.
        up_to: Option<Box<str>>,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Whose.
        epoch: SessionEpoch,
        /// Which of that session's.
        number: u32,
    },
    /// A message that must be kept.
    Message(MessageRecord),
    /// A message is not the retained one of its topic any more.
    RetainedEnded(MessageId),
    /// All target shards have appended their entries of this message.
    Routed(MessageId),
    /// A QoS 2 receipt is over: its Packet Identifier may be used again.
    Released {
        /// The publisher's session.
        epoch: SessionEpoch,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A message entered a queue, with its Packet Identifier if it was sent at once.
    Enqueued(EntryRecord),
    /// An entry got its Packet Identifier, or its PUBREC came. It keeps its place.
    Changed(EntryRecord),
    /// An entry is over: acknowledged, dropped or expired; or a message was dropped before it
    /// became one, which recovery must know.
    EntryEnded {
        /// The session with the queue.
        epoch: SessionEpoch,
        /// The message.
        message: MessageId,
        /// Why it was there.
        why: EnqueuedAs,
    },
    /// An entry goes from a share group to a member, or back: it is in one of both, whatever
    /// happens.
    Moved {
        /// The session whose queue it leaves.
        from: SessionEpoch,
        /// Why it was there.
        from_why: EnqueuedAs,
        /// The entry it becomes.
        to: EntryRecord,
    },
}

/// Counts the records of a shard and what is durable of them.
#[derive(Debug, Default)]
pub(crate) struct RecordCount {
    appended: u64,
    durable: u64,
}

impl RecordCount {
    /// One more; its number.
    pub(crate) fn appended(&mut self) -> RecordNumber {
        self.appended += 1;
        RecordNumber(self.appended)
    }

    /// The last one's number.
    pub(crate) fn last(&self) -> RecordNumber {
        RecordNumber(self.appended)
    }

    /// The last one that is durable.
    pub(crate) fn last_durable(&self) -> RecordNumber {
        RecordNumber(self.durable)
    }

    /// The store has answered.
    pub(crate) fn durable(&mut self, up_to: RecordNumber) {
        self.durable = self.durable.max(up_to.0);
    }

    /// Whether what depends on `number` may go out. Number 0 depends on nothing.
    pub(crate) fn is_durable(&self, number: RecordNumber) -> bool {
        number.0 <= self.durable
    }
}
