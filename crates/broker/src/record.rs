//! What is persisted. A record leaves the shard as an effect; what it promises is acknowledged when
//! the store has answered that it is durable.
//!
//! One record per message, written by the shard that received it; all that follows is derived and
//! idempotent (idea 5).

use crate::id::{MessageId, RecordNumber, TenantId};
use crate::message::Message;
use martlet_codec::{PacketId, QoS};

/// The version that stands in each record once it is encoded.
pub const RECORD_VERSION: u8 = 1;

/// A session across its whole life: raised with each new session, never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionEpoch(pub u64);

/// Why a message lies in a session's queue. With session and message id the key of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnqueuedAs {
    /// A subscription matched it.
    Routed,
    /// It was retained when the session subscribed.
    Retained,
    /// A share group handed it over.
    Shared,
}

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// A session that outlives its connection, or has a Will, began or changed.
    Session {
        /// Whose.
        tenant: TenantId,
        /// Client Identifier.
        client_id: Box<str>,
        /// Which life of it.
        epoch: SessionEpoch,
        /// Session Expiry Interval, seconds.
        expiry_secs: u32,
    },
    /// A session ended, with all that belongs to it.
    SessionEnded(SessionEpoch),
    /// A subscription was made or replaced.
    Subscribed {
        /// Whose.
        epoch: SessionEpoch,
        /// Topic Filter, with `$share/…` where shared.
        filter: Box<str>,
        /// Maximum QoS granted.
        qos: QoS,
        /// No Local, Retain As Published, as bits 0 and 1.
        options: u8,
        /// Subscription Identifier; 0 is none.
        subscription_id: u32,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Whose.
        epoch: SessionEpoch,
        /// Topic Filter.
        filter: Box<str>,
    },
    /// A message that somebody must keep.
    Message {
        /// The message.
        message: Message,
        /// The publisher's session and the Packet Identifier of a QoS 2 receipt.
        receipt: Option<(SessionEpoch, PacketId)>,
        /// Revision in the retained store; 0 if not retained.
        retained_revision: u64,
        /// Nobody is there to route it to.
        unrouted: bool,
    },
    /// A retained message was cleared.
    RetainedCleared {
        /// Its topic.
        topic: Box<str>,
        /// Revision in the retained store.
        revision: u64,
    },
    /// All target shards have appended their entries of this message.
    Routed(MessageId),
    /// A QoS 2 receipt is over: its Packet Identifier may be used again.
    Released {
        /// The publisher's session.
        epoch: SessionEpoch,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A message entered a session's queue, with its Packet Identifier if it was sent at once.
    Enqueued {
        /// Whose queue.
        epoch: SessionEpoch,
        /// Which message.
        message: MessageId,
        /// Why.
        why: EnqueuedAs,
        /// Given at once.
        packet_id: Option<PacketId>,
    },
    /// A queued message got its Packet Identifier.
    Assigned {
        /// Whose queue.
        epoch: SessionEpoch,
        /// Which message.
        message: MessageId,
        /// The identifier.
        packet_id: PacketId,
    },
    /// PUBREC came: from here on only PUBREL is sent.
    Received {
        /// Whose queue.
        epoch: SessionEpoch,
        /// The identifier.
        packet_id: PacketId,
    },
    /// An entry is over: acknowledged, dropped or expired.
    Ended {
        /// Whose queue.
        epoch: SessionEpoch,
        /// Which message.
        message: MessageId,
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

    /// The store has answered.
    pub(crate) fn durable(&mut self, up_to: RecordNumber) {
        self.durable = self.durable.max(up_to.0);
    }

    /// What depends on `number` may go out. Number 0 depends on nothing.
    pub(crate) fn is_durable(&self, number: RecordNumber) -> bool {
        number.0 <= self.durable
    }
}
