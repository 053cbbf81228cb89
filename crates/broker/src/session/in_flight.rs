//! Messages under a Packet Identifier: in flight until the receiver has answered for good (MQTT 5
//! sections 4.3 and 4.4).
//!
//! A message that was sent and whose record can be read back is not kept in memory: it is read
//! again if a new connection has to send it again, which is seldom. What stays is what its end
//! needs to be told by. No more stays of what was sent to a session that ends with its connection:
//! it is never sent again.

use martlet_codec::{PacketId, QoS};

use crate::id::{MessageId, RecordNumber, SessionEpoch, SubscriptionIds, same_subscription_ids};
use crate::message::Message;
use crate::record::{EnqueuedAs, EntryRecord};
use crate::report::{DeliveryState, InFlightMessage};
use crate::session::queue::entry::Unkept;
use crate::session::queue::{Apart, Entry, StoredEntry, TakenEntry};
use crate::share::ticket::ShareTicket;

/// A message under a Packet Identifier.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(super) state: InFlightState,
    /// Raised with each identifier given: the order in which they are sent again.
    pub(super) order: u32,
    /// The record that gave the identifier; a QoS 2 message is not sent before it is durable.
    pub(super) record: RecordNumber,
    pub(super) on_wire: bool,
    /// Sent at least once, on whichever connection: sent again with DUP 1 [MQTT-3.3.1-1].
    pub(super) sent_before: bool,
    /// When it was sent on this connection, if it was.
    pub(super) sent_at: SentAt,
}

/// When a message was sent, to about a second, in 2 bytes. After 18 hours it begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentAt(u16);

impl SentAt {
    /// See [`SentAt`]: 1,024 milliseconds.
    const UNIT_BITS: u32 = 10;

    #[inline]
    pub(super) fn at_ms(mono_ms: u64) -> Self {
        Self((mono_ms >> Self::UNIT_BITS) as u16)
    }

    /// How long ago that was, milliseconds.
    fn age_ms(self, now_ms: u64) -> u64 {
        let units = Self::at_ms(now_ms).0.wrapping_sub(self.0);
        u64::from(units) << Self::UNIT_BITS
    }
}

#[derive(Debug)]
pub(super) enum InFlightState {
    /// PUBLISH is owed or not yet acknowledged.
    Publish(Entry),
    /// PUBLISH likewise, and it was sent before; the message is in the store alone.
    Stored(SentEntry),
    /// PUBLISH likewise, and it is sent only once, because the session ends with its connection:
    /// the message is kept nowhere.
    Unkept(Unkept),
    /// PUBREC has come: PUBREL is owed until PUBCOMP [MQTT-4.3.3-8].
    Released(Released),
}

/// Data remembered of a message that was sent and lies in the store: what is needed to send it
/// again, and to end it.
#[derive(Clone, Debug)]
pub(super) struct SentEntry {
    pub(super) id: MessageId,
    pub(super) subscription_ids: SubscriptionIds,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) why: EnqueuedAs,
    pub(super) ticket: Option<Box<ShareTicket>>,
}

/// Data remembered of a message once its PUBREC has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    pub(super) message: MessageId,
    pub(super) why: EnqueuedAs,
    pub(super) recorded: bool,
}

impl SentEntry {
    /// An entry that has a record.
    pub(super) fn of(entry: Entry) -> Self {
        Self {
            id: entry.message.id(),
            subscription_ids: entry.subscription_ids,
            qos: entry.qos,
            retain: entry.retain,
            why: entry.why,
            ticket: entry.ticket,
        }
    }

    /// The entry with its message, read back.
    pub(super) fn with(self, message: Message) -> Entry {
        Entry {
            message,
            subscription_ids: self.subscription_ids,
            qos: self.qos,
            retain: self.retain,
            why: self.why,
            recorded: true,
            ticket: self.ticket,
        }
    }

    /// As the store is to remember it. It was sent, so it expires no more, and what it counts for
    /// in a queue does not matter.
    pub(super) fn record(&self, epoch: SessionEpoch) -> EntryRecord {
        EntryRecord {
            epoch,
            message: self.id,
            why: self.why,
            qos: self.qos,
            retain: self.retain,
            released: false,
            packet_id: None,
            bytes: 0,
            expires_wall_secs: 0,
            subscription_ids: same_subscription_ids(&self.subscription_ids),
            group: self.ticket.as_ref().map(|ticket| ticket.epoch),
        }
    }
}

impl Entry {
    /// Once it was sent, its message need not stay in memory. One of QoS 2 is soon released; what a
    /// share group lent is the group's.
    pub(super) fn can_be_let_go(&self) -> bool {
        self.recorded && self.qos == QoS::AtLeastOnce && self.ticket.is_none()
    }
}

impl Unkept {
    /// No share group lent it and it asks for no receipt, so its end is reported nowhere else.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.ticket.is_none() && !self.id.wants_receipts()
    }
}

impl From<Entry> for Unkept {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.message.id(),
            why: entry.why,
            qos: entry.qos,
            ticket: entry.ticket.as_deref().copied(),
        }
    }
}

impl From<SentEntry> for StoredEntry {
    fn from(entry: SentEntry) -> Self {
        Self {
            id: entry.id,
            why: entry.why,
            qos: entry.qos,
            retain: entry.retain,
            bytes: 0,
            expires_at_ms: u64::MAX,
            apart: Apart {
                subscription_ids: entry.subscription_ids,
                ticket: entry.ticket,
                message: None,
            },
        }
    }
}

impl InFlightState {
    /// The share group that waits for the outcome. It has that already once PUBREC has come.
    pub(super) fn ticket(&self) -> Option<&ShareTicket> {
        match self {
            Self::Publish(entry) => entry.ticket.as_deref(),
            Self::Stored(entry) => entry.ticket.as_deref(),
            Self::Unkept(sent) => sent.ticket.as_ref(),
            Self::Released(_) => None,
        }
    }
}

impl InFlight {
    /// The entry, unless it is released: then it is delivered already.
    pub(super) fn into_entry(self) -> Option<TakenEntry> {
        match self.state {
            InFlightState::Publish(entry) => Some(TakenEntry::Held(entry)),
            InFlightState::Stored(entry) => Some(TakenEntry::Stored(entry.into())),
            InFlightState::Unkept(sent) => Some(TakenEntry::Unkept(sent)),
            InFlightState::Released(_) => None,
        }
    }

    /// Bytes of the topic, if the message is in memory.
    pub(super) fn topic_bytes(&self) -> usize {
        match &self.state {
            InFlightState::Publish(entry) => entry.message.topic_bytes().len(),
            _ => 0,
        }
    }

    /// Which message it is.
    pub(super) fn message_id(&self) -> MessageId {
        match &self.state {
            InFlightState::Publish(entry) => entry.message.id(),
            InFlightState::Stored(entry) => entry.id,
            InFlightState::Unkept(sent) => sent.id,
            InFlightState::Released(released) => released.message,
        }
    }

    /// For operators.
    pub(super) fn info(&self, packet_id: PacketId, now_ms: u64) -> InFlightMessage {
        let id = self.message_id();
        let (qos, head) = match &self.state {
            InFlightState::Publish(entry) => (entry.qos, Some(entry.message.head())),
            InFlightState::Stored(entry) => (entry.qos, None),
            InFlightState::Unkept(sent) => (sent.qos, None),
            InFlightState::Released(_) => (QoS::ExactlyOnce, None),
        };
        let state = match (&self.state, self.on_wire) {
            (InFlightState::Released(_), _) => DeliveryState::Released,
            (_, true) => DeliveryState::Unacknowledged,
            (_, false) => DeliveryState::Unsent,
        };
        InFlightMessage {
            packet_id,
            id,
            state,
            qos,
            head,
            sent_age_ms: self.on_wire.then(|| self.sent_at.age_ms(now_ms)),
        }
    }

    /// QoS of a PUBLISH that is owed or not yet acknowledged; none once it is released.
    pub(super) fn publish_qos(&self) -> Option<QoS> {
        match &self.state {
            InFlightState::Publish(entry) => Some(entry.qos),
            InFlightState::Stored(entry) => Some(entry.qos),
            InFlightState::Unkept(sent) => Some(sent.qos),
            InFlightState::Released(_) => None,
        }
    }
}

/// A message whose contents cannot be read, and why.
pub(super) struct UnreadableEntry {
    pub(super) entry: SentEntry,
    /// The Packet Identifier that it keeps.
    pub(super) packet_id: Option<PacketId>,
    pub(super) why: String,
}
