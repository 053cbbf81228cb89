//! Messages under a Packet Identifier: in flight until the receiver has answered for good (MQTT 5
//! sections 4.3 and 4.4).
//!
//! A message that was sent and whose record can be read back is not kept in memory: it is read
//! again if a new connection has to send it again, which is seldom. What stays is what its end
//! needs to be told by. No more stays of what was sent to a session that ends with its connection:
//! it is never sent again.

use std::collections::BTreeSet;
use std::sync::Arc;

use martlet_codec::{PacketId, QoS};

use crate::effect::ReadMessage;
use crate::fault::{self, Fault};
use crate::gauge::MemoryGauge;
use crate::id::{MessageId, RecordNumber, SessionEpoch, SubscriptionIds, start_of};
use crate::message::Message;
use crate::record::{EnqueuedAs, EntryRecord};
use crate::report::{DeliveryState, InFlightMessage};
use crate::session::outbound::Outbound;
use crate::session::queue::entry::Unkept;
use crate::session::queue::{Apart, Entry, StoredEntry, Taken};
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
}

#[derive(Debug)]
pub(super) enum InFlightState {
    /// PUBLISH is owed or not yet acknowledged.
    Publish(Entry),
    /// The same, and it was sent before; the message is in the store alone.
    Stored(SentEntry),
    /// The same, and it is sent only once, because the session ends with its connection: the
    /// message is kept nowhere.
    Unkept(Unkept),
    /// PUBREC has come: PUBREL is owed until PUBCOMP [MQTT-4.3.3-8].
    Released(Released),
}

/// What is remembered of a message that was sent and lies in the store: what is needed to send it
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

/// What is remembered of a message once its PUBREC has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    pub(super) message: MessageId,
    pub(super) why: EnqueuedAs,
    pub(super) recorded: bool,
}

impl SentEntry {
    /// Of an entry that has a record.
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
    fn with(self, message: Message) -> Entry {
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
            subscription_ids: self.subscription_ids.clone(),
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
    /// No share group lent it and it asks for no receipt, so its end is told to nobody else.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.ticket.is_none() && !self.id.asks_for_receipts()
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
    pub(super) fn into_entry(self) -> Option<Taken> {
        match self.state {
            InFlightState::Publish(entry) => Some(Taken::Held(entry)),
            InFlightState::Stored(entry) => Some(Taken::Stored(entry.into())),
            InFlightState::Unkept(sent) => Some(Taken::Unkept(sent)),
            InFlightState::Released(_) => None,
        }
    }

    /// Bytes of the topic, if the message is in memory.
    fn topic_bytes(&self) -> usize {
        match &self.state {
            InFlightState::Publish(entry) => entry.message.topic_bytes().len(),
            _ => 0,
        }
    }

    /// Which message it is.
    fn message_id(&self) -> MessageId {
        match &self.state {
            InFlightState::Publish(entry) => entry.message.id(),
            InFlightState::Stored(entry) => entry.id,
            InFlightState::Unkept(sent) => sent.id,
            InFlightState::Released(released) => released.message,
        }
    }

    /// For operators.
    fn info(&self, packet_id: PacketId) -> InFlightMessage {
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
pub(super) struct Unread {
    pub(super) entry: SentEntry,
    /// The Packet Identifier that it keeps.
    pub(super) packet_id: Option<PacketId>,
    pub(super) why: String,
}

impl Outbound {
    /// A new connection: all that is in flight is to be sent again, in order.
    pub(super) fn restart(&mut self) {
        let mut all: Vec<(u32, PacketId)> = Vec::with_capacity(self.in_flight.len());
        all.extend(
            self.in_flight
                .iter()
                .map(|(id, message)| (message.order, id)),
        );
        // Orders are compared relative to the next one, so that wrapping does no harm.
        let next = self.next_order;
        all.sort_unstable_by_key(|(order, _)| core::cmp::Reverse(next.wrapping_sub(*order)));
        if fault::is(Fault::ResentInReverse) {
            all.reverse();
        }
        for (_, id) in &all {
            if let Some(message) = self.in_flight.get_mut(*id) {
                message.on_wire = false;
            }
        }
        self.on_wire = 0;
        if !all.is_empty() || !self.unsent().is_empty() {
            *self.unsent_mut() = all.into_iter().map(|(_, id)| id).collect();
        }
    }

    /// Bytes of the messages that wait for the client in memory: in flight and in the queue's
    /// window. What is kept of those that are under way counts too, and messages that it shares
    /// with others count in full.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let in_flight = self
            .in_flight
            .iter()
            .map(|(_, message)| match &message.state {
                InFlightState::Publish(entry) => entry.message.bytes(),
                _ => 0,
            });
        in_flight.sum::<usize>() + self.in_flight.bytes() + self.queue().bytes_in_memory()
    }

    /// The run of the node that its oldest message came in, queued or in flight; none if there is
    /// no message.
    pub(crate) fn oldest_run(&self) -> Option<u32> {
        let in_flight = self.in_flight.iter();
        let in_flight = in_flight.map(|(_, message)| message.message_id());
        let all = in_flight.chain(self.queue().first_message());
        all.map(|id| start_of(id.0)).min()
    }

    /// Messages in flight.
    pub(crate) fn count_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What is in flight, in its order, at most `limit`, and no more once the topics have
    /// `bytes_max` bytes.
    pub(crate) fn messages_in_flight(
        &self,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<InFlightMessage> {
        let mut all: Vec<_> = self.in_flight.iter().collect();
        let next = self.next_order;
        let place = |found: &InFlight| core::cmp::Reverse(next.wrapping_sub(found.order));
        if all.len() > limit {
            all.select_nth_unstable_by_key(limit, |(_, found)| place(found));
            all.truncate(limit);
        }
        all.sort_unstable_by_key(|(_, found)| place(found));
        let mut bytes = 0;
        let all = all.into_iter().take_while(|(_, found)| {
            let fits = bytes < bytes_max;
            bytes += found.topic_bytes();
            fits
        });
        all.map(|(packet_id, found)| found.info(packet_id))
            .collect()
    }

    /// Gives an entry its Packet Identifier; none if all are taken.
    /// None of those under way [MQTT-4.3.2-1], [MQTT-4.3.3-1]; it is under way until it is answered
    /// [MQTT-4.3.2-3], [MQTT-4.3.3-3].
    pub(super) fn next_packet_id(&mut self, gauge: &Arc<MemoryGauge>) -> Option<PacketId> {
        self.in_flight.count_by(gauge);
        self.in_flight.next_free(self.last_packet_id)
    }

    /// Puts an entry in flight, behind all others, under [`Outbound::next_packet_id`]; it is not
    /// sent yet.
    pub(super) fn put_in_flight(&mut self, packet_id: PacketId, state: InFlightState) {
        self.put(packet_id, state, false);
    }

    /// As [`Outbound::put_in_flight`], in the output of the present connection already.
    #[inline(always)] // As `PacketIdRing::insert`.
    pub(super) fn put_sent(&mut self, packet_id: PacketId, state: InFlightState) {
        self.put(packet_id, state, true);
        self.on_wire += 1;
    }

    #[inline(always)] // As `PacketIdRing::insert`.
    fn put(&mut self, packet_id: PacketId, state: InFlightState, sent: bool) {
        self.last_packet_id = packet_id.get();
        self.next_order = self.next_order.wrapping_add(1);
        let message = InFlight {
            state,
            order: self.next_order,
            record: RecordNumber(0),
            on_wire: sent,
            sent_before: sent,
        };
        self.in_flight.insert(packet_id, message);
    }

    /// What was in flight and unsent is in the output of the present connection.
    pub(super) fn sent(&mut self, packet_id: PacketId) {
        if let Some(message) = self.in_flight.get_mut(packet_id) {
            message.on_wire = true;
            message.sent_before = true;
            self.on_wire += 1;
        }
    }

    /// What was sent is to be sent again later: it counts against the send quota no more. False if
    /// it is not on its way.
    pub(crate) fn take_off_wire(&mut self, packet_id: PacketId) -> bool {
        let found = self.in_flight.get_mut(packet_id);
        let Some(message) = found.filter(|message| message.on_wire) else {
            return false;
        };
        message.on_wire = false;
        self.on_wire -= 1;
        true
    }

    /// What was taken off the wire is to be sent now, if it is still in flight. Answers how many
    /// are to be sent.
    pub(crate) fn send_again(&mut self, packet_ids: &[PacketId]) -> usize {
        // Identifiers may have been given again meanwhile.
        let mut unsent: BTreeSet<PacketId> = self.unsent().iter().copied().collect();
        for packet_id in packet_ids {
            let found = self.in_flight.get(*packet_id);
            if found.is_some_and(|message| !message.on_wire) && unsent.insert(*packet_id) {
                self.unsent_mut().push_back(*packet_id);
            }
        }
        unsent.len()
    }

    /// The message of an entry that was sent need not stay in memory.
    pub(super) fn let_go(&mut self, packet_id: PacketId, entry: Entry) {
        if let Some(message) = self.in_flight.get_mut(packet_id) {
            message.state = InFlightState::Stored(SentEntry::of(entry));
        }
    }

    /// The client has left: what was sent and can be read back needs no memory.
    pub(super) fn put_away(&mut self) {
        for message in self.in_flight.values_mut() {
            if message.sent_before
                && let InFlightState::Publish(entry) = &message.state
                && entry.recorded
                && entry.ticket.is_none()
            {
                message.state = InFlightState::Stored(SentEntry::of(entry.clone()));
            }
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: PacketId) -> Option<InFlight> {
        let message = self.in_flight.remove(id)?;
        self.on_wire -= u16::from(message.on_wire);
        Some(message)
    }

    /// What was in flight before a restart is so again, in the order of these calls. It counts as
    /// sent.
    pub(crate) fn restore_in_flight(
        &mut self,
        packet_id: PacketId,
        entry: StoredEntry,
        released: bool,
        gauge: &Arc<MemoryGauge>,
    ) {
        self.in_flight.count_by(gauge);
        let state = match released {
            true => InFlightState::Released(Released {
                message: entry.id,
                why: entry.why,
                recorded: true,
            }),
            false => InFlightState::Stored(SentEntry {
                id: entry.id,
                subscription_ids: entry.apart.subscription_ids,
                qos: entry.qos,
                retain: entry.retain,
                why: entry.why,
                ticket: entry.apart.ticket,
            }),
        };
        self.put_in_flight(packet_id, state);
        if let Some(message) = self.in_flight.get_mut(packet_id) {
            message.sent_before = true;
        }
    }

    /// What is to be sent again and still lies in the store, in order.
    pub(super) fn stored_unsent(&self) -> impl Iterator<Item = (PacketId, MessageId)> {
        let unsent = self.unsent().iter();
        unsent.filter_map(|id| match &self.in_flight.get(*id)?.state {
            InFlightState::Stored(entry) => Some((*id, entry.id)),
            InFlightState::Publish(_) | InFlightState::Unkept(_) | InFlightState::Released(_) => {
                None
            }
        })
    }

    /// Messages in flight have come from the store. Those that cannot be read are given back, with
    /// the Packet Identifier if it is not free: what a QoS 2 exchange was about is lost, but the
    /// client may know the identifier, so the exchange goes on with PUBREL until PUBCOMP
    /// [MQTT-4.3.3-8].
    pub(super) fn in_flight_read(&mut self, page: &[ReadMessage]) -> Vec<Unread> {
        let mut damaged = Vec::new();
        // No more were asked for, and they are still the first, unless a new connection has begun
        // again: then the others are asked for again.
        let asked: Vec<_> = self.stored_unsent().take(page.len()).collect();
        for (packet_id, id) in asked {
            let Some((_, read)) = page.iter().find(|(found, _)| *found == id) else {
                continue;
            };
            let Some(message) = self.in_flight.get_mut(packet_id) else {
                continue;
            };
            let InFlightState::Stored(entry) = &message.state else {
                continue;
            };
            let entry = entry.clone();
            let why = match read {
                Ok(read) => {
                    message.state = InFlightState::Publish(entry.with(read.clone()));
                    continue;
                }
                Err(why) => why.clone(),
            };
            let packet_id = match entry.qos {
                QoS::ExactlyOnce => {
                    message.state = InFlightState::Released(Released {
                        message: entry.id,
                        why: entry.why,
                        recorded: true,
                    });
                    Some(packet_id)
                }
                QoS::AtMostOnce | QoS::AtLeastOnce => {
                    self.remove(packet_id);
                    None
                }
            };
            damaged.push(Unread {
                entry,
                packet_id,
                why,
            });
        }
        damaged
    }
}
