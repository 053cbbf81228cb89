//! The calls and events between a part and its shard.

use std::sync::Arc;

use martlet_codec::{PacketId, ReasonCode, RetainHandling};
use martlet_permission::{Identity, TenantId};

use crate::command::NewMessage;
use crate::connected_client::SharedClient;
use crate::counters::DropReason;
use crate::id::{MessageId, SubscriptionIds};
use crate::message::Message;
use crate::report::Published;

/// Names a part of this node while it is attached. The caller that attaches it chooses a new number
/// each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u64);

/// Terms that a part asks for when it attaches.
#[derive(Clone, Debug)]
pub struct PartSpec {
    /// Name of the part until it detaches.
    pub id: PartId,
    /// Tenant whose messages it takes.
    pub tenant: TenantId,
    /// Client Identifier, which begins with `$`. The session of an earlier part of this name is
    /// resumed, and a part that is still attached under it is ended.
    pub client_id: Arc<str>,
    /// The identity by whose rules it publishes and gets messages; none may do all.
    pub identity: Option<PartIdentity>,
    /// Subscriptions; other subscriptions that its session has are ended.
    pub subscriptions: Vec<PartSubscription>,
    /// Deliveries that it may have and not have settled, 1 to 65,535; the node's `in_flight` is the
    /// most.
    pub credit: u16,
    /// How long its session is kept while it is not attached, seconds; 0 ends with it, `u32::MAX`
    /// is for ever.
    pub session_expiry_secs: u32,
    /// QoS 0 messages are queued and stored like those of QoS 1, which delays no acknowledgement.
    /// Else those for which it has no credit are dropped.
    pub keeps_qos0: bool,
    /// Bounds of its queue.
    pub queue: PartQueueLimits,
    /// Which messages it takes of those that match.
    pub reach: PartReach,
}

/// A user or device by whose rules a part publishes and gets messages.
#[derive(Clone, Debug)]
pub struct PartIdentity {
    /// Identity of the part.
    pub identity: Identity,
    /// Number of the last revocation that was known when that was decided.
    pub last_revocation: u64,
}

impl From<Identity> for PartIdentity {
    /// Before any revocation.
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            last_revocation: 0,
        }
    }
}

/// Terms of a part that are remembered with its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartTerms {
    /// See [`PartSpec::keeps_qos0`].
    pub keeps_qos0: bool,
    /// See [`PartSpec::reach`].
    pub reach: PartReach,
    /// Bounds of its queue.
    pub queue: PartQueueLimits,
}

/// Which messages a part takes of those that match its subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartReach {
    /// Messages of its tenant, from all shards in one queue. If its session outlasts its
    /// attachment, a message of QoS 1 or 2 is in that queue when it is acknowledged. So what is
    /// published after that acknowledgement comes behind it, whichever shard receives it.
    #[default]
    Node,
    /// As [`PartReach::Node`], with [`PartEvent::Run`], so that what lanes of an earlier attachment
    /// have left can come first. Remembered as [`PartReach::Node`].
    NodeAfterLanes,
    /// Messages of its tenant that the shard of this lane receives. The Client Identifier is a
    /// [`lane_name`](crate::lane_name), unless it has no subscriptions: that empties a session that
    /// an earlier attachment has left. Retained messages are not sent at subscribing.
    Lane,
    /// Messages, likewise, of all tenants: for parts without an identity alone.
    LaneOfAllTenants,
}

impl PartReach {
    /// Whether the part is attached once per shard.
    pub fn is_lane(self) -> bool {
        matches!(self, Self::Lane | Self::LaneOfAllTenants)
    }
}

/// Policy for messages when the queue of a part is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest messages make room.
    #[default]
    DropOldest,
    /// Clients that publish what the part takes wait until there is room. What another shard has
    /// taken meanwhile may come, up to 1 MiB and an eighth beyond the bound; more is dropped. If
    /// the part is not attached within a minute after a start of the node, the oldest messages make
    /// room until it is.
    Hold,
    /// As [`OnFull::Hold`], for messages that come from outside, with no
    /// [hops](crate::Message::hops). What follows from a message of the part does not wait: the
    /// part could not go on. It enters the queue as what nobody waits with, up to 1 MiB and an
    /// eighth beyond the bound; more is dropped.
    HoldFromOutside,
}

/// Bounds of the queue of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartQueueLimits {
    /// Bytes of the messages in it; 0 is what a client's queue may have.
    pub bytes_max: u64,
    /// Time that a message may wait in it, seconds; 0 is for ever.
    pub age_max_secs: u32,
    /// Policy at the bound in bytes.
    pub on_full: OnFull,
}

/// A Topic Filter of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSubscription {
    /// The filter; `$share/…` is none.
    pub filter: Box<str>,
    /// Subscription Identifier, 1 to 268,435,455; 0 is none.
    pub identifier: u32,
    /// Whether it gets the retained messages that match.
    pub retain_handling: RetainHandling,
}

/// A call of a part to the shard that owns its session.
#[derive(Clone, Debug)]
pub enum PartCall {
    /// The part attaches. Answered with [`PartEvent::Attached`] or [`PartEvent::Ended`].
    Attach(Box<PartSpec>),
    /// Answers to deliveries.
    Settle(PartId, Vec<Settlement>),
    /// The part publishes a message. Answered with [`PartEvent::Published`].
    Publish(PartId, Box<PartPublish>),
    /// The part may have this number of deliveries that are not settled, from now on.
    Credit(PartId, u16),
    /// The queue of the part may have this number of bytes from now on; not for a queue without a
    /// bound of its own.
    QueueBytes(PartId, u64),
    /// The part detaches. Its session is kept for the time that it has asked for.
    Detach(PartId),
    /// The part detaches, and its session ends.
    End(PartId),
}

/// The answer to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Token of the delivery.
    pub token: PacketId,
    /// Outcome of the delivery.
    pub outcome: PartOutcome,
}

/// Answer of a part to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartOutcome {
    /// The delivery is done: the part needs it no more.
    Done,
    /// The delivery is never done, for this reason: dropped, and counted as refused by its
    /// receiver.
    Refused(PartRefusal),
    /// The delivery has waited longer than its queue allows, see [`PartQueueLimits::age_max_secs`]:
    /// dropped, and counted as too old.
    TooOld,
    /// The delivery is to be delivered again after this number of milliseconds, if the part is
    /// attached then. Others may come before it. A lane does not put off what came in in an earlier
    /// run of the node: later messages, which wait for it, would use up the credit.
    Later(u32),
}

/// A message that a part publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPublish {
    /// Names it in the answer, [`PartEvent::Published`].
    pub number: u64,
    /// The message.
    pub message: NewMessage,
    /// The part gets the outcome for each receiver ([`PartEvent::Receipt`]), and the number of
    /// receivers ([`PartEvent::Receivers`]).
    ///
    /// Each receiver leads to one receipt. It is sent when the client has answered, or when the
    /// message was dropped or has expired. For a client that is not connected, that may be days
    /// later.
    ///
    /// The part gets receipts while it is attached with the session that published the message.
    /// Receipts that come while it is not attached are lost. A part with a durable session gets
    /// them after a restart of the node too. After a crash some receipts may be repeated.
    ///
    /// Clients that find the message retained later are not receivers.
    pub receipts: bool,
}

/// An event of a shard for a part.
#[derive(Clone, Debug)]
pub enum PartEvent {
    /// The part is attached, and its session and subscriptions are durable if they are to be.
    /// Deliveries may follow.
    Attached {
        /// Whether its session was there already.
        session_present: bool,
        /// For each subscription whether it was granted, in order.
        granted: Vec<ReasonCode>,
    },
    /// A message for it.
    Delivery(Delivery),
    /// The outcome of a message that it has published, sent when a client would get PUBACK. A part
    /// must not rely on the message before that.
    Published {
        /// See [`PartPublish::number`].
        number: u64,
        /// The outcome.
        outcome: Published,
    },
    /// The outcome of a message that it has published, for one of its receivers. Only if the part
    /// asked for it: see [`PartPublish::receipts`].
    Receipt(Receipt),
    /// All receivers of a message with receipts are known. Sent once, after
    /// [`PartEvent::Published`]. Receipts may come before and after it.
    Receivers {
        /// The message.
        message: MessageId,
        /// Number of sessions and share groups that it was routed to, and so of its receipts.
        receivers: u64,
    },
    /// The oldest message that the session of a lane has is of this run of the node, see
    /// [`start_of`](crate::start_of): none of an earlier run is left. Sent after
    /// [`PartEvent::Attached`] and whenever it changes, until it is the present run, to lanes and
    /// to what may have had some ([`PartReach::NodeAfterLanes`]).
    Run {
        /// The run.
        oldest: u32,
        /// Whether it is the present run: what comes from now on was received in this one. For a
        /// session that an earlier attachment has left: it is empty.
        is_present: bool,
    },
    /// The state of its queue, if that has bounds of its own. Sent once a second if it has changed.
    Queue(PartQueueState),
    /// The part is not attached any more, or has not been.
    Ended {
        /// The reason code that a client would get.
        reason: ReasonCode,
        /// In words.
        why: &'static str,
    },
}

/// The state of the queue of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartQueueState {
    /// Messages in it. What the part has and has not settled does not count.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that it may have. A queue in memory may have no more than a client's share of that.
    pub bytes_max: u64,
    /// When the first message in it came in, wall clock in milliseconds; none if there is none, or
    /// it has not been read back from the store yet.
    pub oldest_wall_ms: Option<u64>,
    /// Publishers wait until there is room.
    pub holds: bool,
    /// Messages that its session has lost, for any reason.
    pub dropped: u64,
    /// Messages that have expired in it.
    pub expired: u64,
}

/// The end of a message for one of its receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which message: see [`Published::id`](crate::Published::id).
    pub message: MessageId,
    /// Client Identifier of the receiver. `$share/name/filter` for a message that a share group
    /// dropped, or that expired, before a member had it. Empty if the receiver's session ended
    /// while the message was on its way from a share group to it.
    pub receiver: Arc<str>,
    /// How it ended.
    pub outcome: ReceiptOutcome,
}

/// How a message ended for one of its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The client answered with PUBACK or PUBREC below 0x80: it has the message. A part has
    /// settled it as done.
    Acknowledged,
    /// The client answered with this reason code, 0x80 or above. A part has refused it: see
    /// [`PartRefusal::of`](super::PartRefusal::of).
    Refused(ReasonCode),
    /// The message was dropped for this reason, which is never
    /// [`RefusedByReceiver`](DropReason::RefusedByReceiver).
    Dropped(DropReason),
    /// The expiry of the message ran out.
    Expired,
    /// Sent with QoS 0 to a client that is connected. Whether it arrives is not known.
    Sent,
}

/// Takes the events of a part. It is called on the thread of a shard, in order, and must not block.
/// The last event is [`PartEvent::Ended`], unless the node stops at once.
pub trait PartOutlet: Send {
    /// Takes the next event.
    fn notify(&mut self, event: PartEvent);

    /// Takes all events of one tick. An outlet that wakes a thread does so once.
    fn notify_all(&mut self, events: Vec<PartEvent>) {
        for event in events {
            self.notify(event);
        }
    }
}

impl<F: FnMut(PartEvent) + Send> PartOutlet for F {
    fn notify(&mut self, event: PartEvent) {
        self(event);
    }
}

/// Commands of a part, attached or about to be, to its shard. The part is detached when this is
/// dropped.
pub trait PartLine: core::fmt::Debug + Send + Sync {
    /// Says what happened to deliveries.
    fn settle(&self, settlements: Vec<Settlement>);
    /// Sets how many deliveries it may have and not have settled, 1 to 65,535.
    fn set_credit(&self, credit: u16);
    /// Sets how many bytes its queue may have: see [`PartCall::QueueBytes`].
    fn set_queue_bytes(&self, bytes_max: u64);
    /// Publishes a message: see [`PartCall::Publish`].
    fn publish(&self, publish: PartPublish);
    /// Detaches it and ends its session: what waits for it is dropped.
    fn end(&self);
}

/// A message for a part.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The number by which it is settled.
    pub token: PacketId,
    /// The message, with its id, time of receipt and properties. Shared with all other holders.
    pub message: Message,
    /// How long ago the message came in, milliseconds. Unlike a difference of its time of receipt
    /// it does not change when the clock is set.
    pub age_ms: u64,
    /// Whether it was retained when it was found.
    pub retained: bool,
    /// Whether it may have been delivered before.
    pub dup: bool,
    /// Identifiers of the subscriptions that match.
    pub subscription_ids: SubscriptionIds,
}

impl Delivery {
    /// The client that published it; none for the node's own messages.
    pub fn publisher(&self) -> Option<&SharedClient> {
        self.message.client()
    }
}

/// Why a part refuses a message for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRefusal {
    /// The target rejects the message.
    Rejected,
    /// The part fails at this message each time.
    Failed,
}

impl PartRefusal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rejected, Self::Failed];

    /// The reason code of a receipt, as if a client had answered with it.
    pub fn code(self) -> ReasonCode {
        match self {
            Self::Rejected => ReasonCode::ImplementationSpecificError,
            Self::Failed => ReasonCode::UnspecifiedError,
        }
    }

    /// The reason of a part that this code stands for.
    pub fn of(code: ReasonCode) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// In words, as a sentence without a full stop.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Rejected => "the target of the integration rejected the message",
            Self::Failed => "the integration failed at the message each time",
        }
    }
}
