//! Messages towards a client: queued, in flight and sent (MQTT 5 sections 4.3, 4.4 and 4.9). What
//! the client answers is `acknowledge`'s.
//!
//! A message gets its Packet Identifier when the send quota allows, lies *in flight* from then on,
//! and is *unsent* until its packet is in the output buffer of the present connection. On a new
//! connection everything in flight is unsent again, in its first order [MQTT-4.4.0-1].

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use martlet_codec::{PacketId, QoS};

use crate::effect::ReadMessage;
use crate::fault::{self, Fault};
use crate::gauge::MemoryGauge;
use crate::id::{MessageId, RecordNumber, start_of};
use crate::report::InFlightMessage;
use crate::session::in_flight::{
    InFlight, InFlightState, Released, SentAt, SentEntry, UnreadableEntry,
};
use crate::session::packet_ids::PacketIdRing;
use crate::session::queue::{Entry, Queue, StoredEntry};
use crate::share::ticket::ShareTicket;

/// Messages that a session owes its client, queued or in flight.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) in_flight: PacketIdRing<InFlight>,
    /// Backlog that waits to be sent; not there while nothing does, which is nearly always.
    pub(super) waiting: Option<Box<OutboundBacklog>>,
    /// In flight and sent on this connection: what counts against the send quota.
    pub(crate) on_wire: u16,
    pub(super) last_packet_id: u16,
    pub(super) next_order: u32,
}

/// Backlog that waits to be sent.
#[derive(Debug)]
pub(super) struct OutboundBacklog {
    /// In flight and not yet sent on this connection, in order.
    unsent: VecDeque<PacketId>,
    pub(super) queue: Queue,
    /// Messages in flight that are unsent have been asked for and have not come yet.
    pub(super) reading_in_flight: bool,
}

impl OutboundBacklog {
    const NOTHING: Self = Self {
        unsent: VecDeque::new(),
        queue: Queue::EMPTY,
        reading_in_flight: false,
    };
}

static NOTHING: OutboundBacklog = OutboundBacklog::NOTHING;

/// The session holds the entry; one lent by a share group is held by the group.
fn is_own(ticket: Option<&ShareTicket>) -> bool {
    ticket.is_none_or(|ticket| ticket.taken)
}

impl Outbound {
    /// Messages that count as held (idea 6): one whose PUBREC came is delivered.
    pub(crate) fn held(&self) -> usize {
        let in_flight = self
            .in_flight
            .iter()
            .filter(|(_, message)| message.publish_qos().is_some())
            .filter(|(_, message)| is_own(message.state.ticket()))
            .count();
        // Entries lent by share groups are held by the group.
        in_flight + self.queue().len() - self.queue().lent()
    }

    /// In flight, lent by share groups, and free to go to another member: not what was sent with
    /// QoS 2 [MQTT-4.8.2-5].
    pub(crate) fn returnable(&self) -> Vec<PacketId> {
        let lent = self.in_flight.iter().filter(|(_, message)| {
            let is_sent = message.sent_before && message.publish_qos() == Some(QoS::ExactlyOnce);
            message.publish_qos().is_some() && message.state.ticket().is_some() && !is_sent
        });
        lent.map(|(packet_id, _)| packet_id).collect()
    }

    /// Returns what has no Packet Identifier yet.
    pub(crate) fn queue(&self) -> &Queue {
        &self.waiting.as_deref().unwrap_or(&NOTHING).queue
    }

    /// The queue, to add to it.
    pub(crate) fn queue_mut(&mut self) -> &mut Queue {
        &mut self.waiting_mut().queue
    }

    /// The queue, if anything has come into it since it was given back.
    pub(crate) fn queue_used(&mut self) -> Option<&mut Queue> {
        Some(&mut self.waiting.as_mut()?.queue)
    }

    /// In flight and not yet sent on this connection, in order.
    pub(super) fn unsent(&self) -> &VecDeque<PacketId> {
        &self.waiting.as_deref().unwrap_or(&NOTHING).unsent
    }

    /// Returns what is unsent, to add to it.
    pub(super) fn unsent_mut(&mut self) -> &mut VecDeque<PacketId> {
        &mut self.waiting_mut().unsent
    }

    pub(super) fn waiting_mut(&mut self) -> &mut OutboundBacklog {
        self.waiting
            .get_or_insert_with(|| Box::new(OutboundBacklog::NOTHING))
    }

    /// Gives memory back if nothing is in flight or queued.
    pub(crate) fn rest(&mut self) {
        if self.queue().is_empty() {
            self.in_flight.rest();
        }
    }

    /// Gives memory back, likewise, when the client has left, and nothing will wait soon.
    pub(super) fn rest_long(&mut self) {
        self.rest();
        if let Some(waiting) = &self.waiting
            && waiting.unsent.is_empty()
            && !waiting.reading_in_flight
            && waiting.queue.is_at_rest()
        {
            self.waiting = None;
        }
    }

    /// Returns the number that counts against the send quota, or will.
    pub(super) fn sending(&self) -> usize {
        usize::from(self.on_wire) + self.unsent().len()
    }

    /// Nothing is in flight or queued.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.queue().is_empty()
    }
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

    /// Lists what is in flight, in its order, at most `limit`, and no more once the topics have
    /// `bytes_max` bytes.
    pub(crate) fn messages_in_flight(
        &self,
        limit: usize,
        bytes_max: usize,
        now_ms: u64,
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
        all.map(|(packet_id, found)| found.info(packet_id, now_ms))
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
        self.put(packet_id, state, None);
    }

    /// As [`Outbound::put_in_flight`], in the output of the present connection already.
    #[inline(always)] // As `PacketIdRing::insert`.
    pub(super) fn put_sent(&mut self, packet_id: PacketId, state: InFlightState, now_ms: u64) {
        self.put(packet_id, state, Some(SentAt::at_ms(now_ms)));
        self.on_wire += 1;
    }

    #[inline(always)] // As `PacketIdRing::insert`.
    fn put(&mut self, packet_id: PacketId, state: InFlightState, sent_at: Option<SentAt>) {
        self.last_packet_id = packet_id.get();
        self.next_order = self.next_order.wrapping_add(1);
        let message = InFlight {
            state,
            order: self.next_order,
            record: RecordNumber(0),
            on_wire: sent_at.is_some(),
            sent_before: sent_at.is_some(),
            sent_at: sent_at.unwrap_or_default(),
        };
        self.in_flight.insert(packet_id, message);
    }

    /// Notes that what was in flight and unsent is in the output of the present connection.
    pub(super) fn sent(&mut self, packet_id: PacketId, now_ms: u64) {
        if let Some(message) = self.in_flight.get_mut(packet_id) {
            message.on_wire = true;
            message.sent_at = SentAt::at_ms(now_ms);
            message.sent_before = true;
            self.on_wire += 1;
        }
    }

    /// Notes that what was sent is to be sent again later: it counts against the send quota no
    /// more. False if it is not on its way.
    pub(crate) fn take_off_wire(&mut self, packet_id: PacketId) -> bool {
        let found = self.in_flight.get_mut(packet_id);
        let Some(message) = found.filter(|message| message.on_wire) else {
            return false;
        };
        message.on_wire = false;
        self.on_wire -= 1;
        true
    }

    /// Notes that what was taken off the wire is to be sent now, if it is still in flight. Answers
    /// how many are to be sent.
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

    /// Frees the memory of sent messages that the store can read back: the client has disconnected.
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

    /// Restores what was in flight before a restart, in the order of these calls. It counts as
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

    /// Messages that have to be sent again and still lie in the store, in order.
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
    pub(super) fn in_flight_read(&mut self, page: &[ReadMessage]) -> Vec<UnreadableEntry> {
        let mut damaged = Vec::new();
        // No more were asked for, and they are still the first, unless a new connection has begun
        // again: then the others are asked for again.
        let requested: Vec<_> = self.stored_unsent().take(page.len()).collect();
        for (packet_id, id) in requested {
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
            damaged.push(UnreadableEntry {
                entry,
                packet_id,
                why,
            });
        }
        damaged
    }
}

/// The queue of a session or share group that has ended.
#[derive(Debug)]
pub(crate) struct EndedQueue {
    pub(crate) queue: Queue,
    /// The Client Identifier, or the Topic Filter of the share group.
    pub(crate) receiver: Arc<str>,
}
