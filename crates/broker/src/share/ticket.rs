//! Names of share groups, and tickets of what was lent by one.

use martlet_codec::QoS;

use crate::counters::DropReason;
use crate::id::{SessionEpoch, ShardId};

/// A share group of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A share group, wherever it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAddress {
    pub(crate) shard: ShardId,
    pub(crate) group: GroupId,
    pub(crate) epoch: SessionEpoch,
}

/// Ticket with which a member's shard answers when a message has come to its end.
#[derive(Clone, Copy, Debug)]
pub struct ShareTicket {
    pub(crate) shard: ShardId,
    pub(crate) group: GroupId,
    pub(crate) delivery: u64,
    /// The group's, in records.
    pub(crate) epoch: SessionEpoch,
    /// The member is durable and has taken the message into its own queue: the group holds it no
    /// more, and only waits until the member has room again.
    pub(crate) taken: bool,
    /// Another member may have room: a full queue answers [`ShareOutcome::NoRoom`] instead of
    /// dropping.
    pub(super) others: bool,
    /// As the group has it: QoS and RETAIN it was published with.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

#[cfg(test)]
impl ShareTicket {
    /// The ticket of no group.
    pub(crate) fn for_tests() -> Self {
        Self {
            shard: ShardId(0),
            group: GroupId {
                index: 0,
                generation: 0,
            },
            delivery: 0,
            epoch: SessionEpoch(0),
            taken: true,
            others: false,
            qos: QoS::AtLeastOnce,
            retain: false,
        }
    }
}

/// How a message handed to a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOutcome {
    /// The member's session is durable and has it in its own queue now, by one record.
    Taken,
    /// The message that was taken has come to its end.
    Settled,
    /// PUBACK or PUBREC below 0x80.
    Acknowledged,
    /// Dropped for that member, for this reason; a refusal too [MQTT-4.8.2-6].
    Dropped(DropReason),
    /// The expiry of the message ran out.
    Expired,
    /// The member's queue is full; others may have room.
    NoRoom,
    /// The member has left. A QoS 2 message that was sent is not given to another
    /// [MQTT-4.8.2-5].
    Returned {
        /// Whether it was QoS 2 and had been sent.
        sent_qos2: bool,
    },
}
