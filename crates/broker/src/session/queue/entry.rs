//! An entry of a queue: with its message, or as a row that names it.

use martlet_codec::{PacketId, QoS};

use crate::fault::{self, Fault};
use crate::id::{MessageId, SessionEpoch, SubscriptionIds, same_subscription_ids};
use crate::message::Message;
use crate::record::{EnqueuedAs, EntryRecord};
use crate::share::ticket::ShareTicket;
use crate::time::Now;

/// A message in a queue or in flight.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    pub(crate) subscription_ids: SubscriptionIds,
    /// QoS to send it with: 1 or 2.
    pub(crate) qos: QoS,
    /// RETAIN flag to send it with.
    pub(crate) retain: bool,
    pub(crate) why: EnqueuedAs,
    /// Whether it has a record, and so has its end.
    pub(crate) recorded: bool,
    /// A share group waits for the outcome.
    pub(crate) ticket: Option<Box<ShareTicket>>,
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self {
            message: self.message.clone(),
            subscription_ids: same_subscription_ids(&self.subscription_ids),
            qos: self.qos,
            retain: self.retain,
            why: self.why,
            recorded: self.recorded,
            ticket: self.ticket.clone(),
        }
    }
}

/// Data remembered of a message that was sent and is never sent again. It has no record.
#[derive(Debug)]
pub(crate) struct Unkept {
    pub(crate) id: MessageId,
    pub(crate) why: EnqueuedAs,
    pub(crate) qos: QoS,
    pub(crate) ticket: Option<ShareTicket>,
}

/// An entry whose message may lie in the store alone.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    pub(crate) id: MessageId,
    pub(crate) why: EnqueuedAs,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) bytes: u32,
    /// Monotonic milliseconds, in whole seconds; `u64::MAX` is never.
    pub(crate) expires_at_ms: u64,
    pub(crate) apart: Apart,
}

/// Data that a stored entry has beside what fits into its row; nearly always none.
#[derive(Clone, Debug, Default)]
pub struct Apart {
    pub(crate) subscription_ids: SubscriptionIds,
    pub(crate) ticket: Option<Box<ShareTicket>>,
    /// Message, if it has no record: then this is where it is.
    pub(crate) message: Option<Message>,
}

impl Apart {
    /// Bytes of the message, if it is here.
    pub(super) fn kept_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, Message::bytes)
    }
}

impl Entry {
    /// As the store is to remember it, without Packet Identifier.
    pub(crate) fn record(&self, epoch: SessionEpoch, now: Now) -> EntryRecord {
        EntryRecord {
            epoch,
            message: self.message.id(),
            why: self.why,
            qos: self.qos,
            retain: self.retain,
            released: false,
            packet_id: None,
            bytes: self.message.bytes() as u32,
            expires_wall_secs: wall_secs(now, self.message.expires_at_ms()),
            subscription_ids: same_subscription_ids(&self.subscription_ids),
            group: self.ticket.as_ref().map(|ticket| ticket.epoch),
        }
    }

    /// Returns the record once it is sent under a Packet Identifier.
    pub(crate) fn record_in_flight(
        &self,
        epoch: SessionEpoch,
        now: Now,
        packet_id: PacketId,
    ) -> EntryRecord {
        let mut record = self.record(epoch, now);
        record.packet_id = Some(packet_id);
        if fault::is(Fault::InFlightIdsForgotten) {
            record.subscription_ids.clear();
        }
        record
    }

    /// The entry as something whose message is elsewhere.
    pub(crate) fn without_message(self) -> StoredEntry {
        let mut stored = self.stored();
        stored.apart.message = None;
        stored
    }

    /// The entry without its message, unless that has no record.
    pub(crate) fn stored(self) -> StoredEntry {
        StoredEntry {
            id: self.message.id(),
            why: self.why,
            qos: self.qos,
            retain: self.retain,
            bytes: self.message.bytes() as u32,
            expires_at_ms: self.message.expires_at_ms(),
            apart: Apart {
                subscription_ids: self.subscription_ids,
                ticket: self.ticket,
                message: (!self.recorded).then_some(self.message),
            },
        }
    }
}

impl StoredEntry {
    /// As [`Entry::record`].
    pub(crate) fn record(&self, epoch: SessionEpoch, now: Now) -> EntryRecord {
        EntryRecord {
            epoch,
            message: self.id,
            why: self.why,
            qos: self.qos,
            retain: self.retain,
            released: false,
            packet_id: None,
            bytes: self.bytes,
            expires_wall_secs: wall_secs(now, self.expires_at_ms),
            subscription_ids: same_subscription_ids(&self.apart.subscription_ids),
            group: self.apart.ticket.as_ref().map(|ticket| ticket.epoch),
        }
    }

    /// The entry with its message.
    pub(crate) fn with(self, message: Message) -> Entry {
        Entry {
            message,
            subscription_ids: self.apart.subscription_ids,
            qos: self.qos,
            retain: self.retain,
            why: self.why,
            recorded: self.apart.message.is_none(),
            ticket: self.apart.ticket,
        }
    }

    /// Whether it has a record, and so has its end.
    pub(crate) fn recorded(&self) -> bool {
        self.apart.message.is_none()
    }

    /// All of it but the ticket and the message fits into its row.
    pub(super) fn is_plain(&self) -> bool {
        self.apart.ticket.is_none() && self.apart.message.is_none()
    }

    /// `subscription`: the Subscription Identifiers of its row.
    pub(super) fn row(&self, subscription: u32) -> [u64; 3] {
        let (why, copy) = match self.why {
            EnqueuedAs::Routed => (WHY_ROUTED, 0),
            EnqueuedAs::Retained(copy) => (WHY_RETAINED, copy),
            EnqueuedAs::Shared(copy) => (WHY_SHARED, copy),
        };
        let flags = u64::from(self.qos == QoS::ExactlyOnce)
            | u64::from(self.retain) << 1
            | why << 2
            | u64::from(!self.is_plain()) << 4
            | u64::from(copy) << 8;
        // Whole seconds, rounded up, plus one; 0 is never.
        let expires = match self.expires_at_ms {
            u64::MAX => 0,
            at_ms => (at_ms.div_ceil(1000) + 1).min(u64::from(u32::MAX)),
        };
        [
            self.id.0,
            u64::from(self.bytes) << 16 | flags,
            expires << 32 | u64::from(subscription),
        ]
    }

    /// The contents of a row.
    pub(super) fn of_row(row: [u64; 3]) -> Self {
        let [id, sizes, more] = row;
        let mut apart = Apart::default();
        let subscription = more as u32;
        if subscription != 0 && subscription & SEVERAL == 0 {
            apart.subscription_ids.push(subscription >> 1);
        }
        Self {
            id: MessageId(id),
            why: match (sizes >> 2) & 3 {
                WHY_ROUTED => EnqueuedAs::Routed,
                WHY_RETAINED => EnqueuedAs::Retained((sizes >> 8) as u8),
                _ => EnqueuedAs::Shared((sizes >> 8) as u8),
            },
            qos: match sizes & 1 {
                0 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            },
            retain: sizes & 2 != 0,
            bytes: row_bytes(row) as u32,
            expires_at_ms: row_expires_at_ms(row),
            apart,
        }
    }
}

/// When an entry expires; what is further away than the year 2106 is kept as never.
fn wall_secs(now: Now, expires_at_ms: u64) -> u32 {
    u32::try_from(now.record_ms_of(expires_at_ms).div_ceil(1000)).unwrap_or(0)
}

pub(super) fn row_expires_at_ms([_, _, more]: [u64; 3]) -> u64 {
    match more >> 32 {
        0 => u64::MAX,
        secs => (secs - 1) * 1000,
    }
}

pub(super) fn row_bytes([_, sizes, _]: [u64; 3]) -> u64 {
    sizes >> 16
}

/// The number of its Subscription Identifiers, if it has several.
pub(super) fn row_several([_, _, more]: [u64; 3]) -> Option<u32> {
    let subscription = more as u32;
    (subscription & SEVERAL != 0).then_some(subscription >> 1)
}

pub(super) fn row_is_apart([_, sizes, _]: [u64; 3]) -> bool {
    sizes & 16 != 0
}

/// Why an entry is there, in two bits of its row.
const WHY_ROUTED: u64 = 0;
const WHY_RETAINED: u64 = 1;
const WHY_SHARED: u64 = 2;

/// A row has the number of several Subscription Identifiers, above this bit, or else one of them.
pub(super) const SEVERAL: u32 = 1;
/// Subscription Identifiers are lower.
pub(super) const SINGLE_MAX: u32 = u32::MAX >> 1;
