//! Sending of what waits for a client, as its send quota and its output allow, after it is read
//! back from the store.

use martlet_codec::{AckKind, PacketId, ReasonCode};

use crate::counters::DropReason;
use crate::effect::{LostMessage, PageOf, ReadMessage};
use crate::fault::{self, Fault};
use crate::id::{MessageId, RecordNumber, SessionId};
use crate::node::{Cx, Node};
use crate::part::interface::ReceiptOutcome;
use crate::record::Record;
use crate::routing::{MessageFrom, Sending};
use crate::session::in_flight::{InFlightState, SentEntry, UnreadableEntry};
use crate::session::queue::{StoredEntry, TakenEntry};
use crate::shard::{Gated, Shard};

/// Output, in bytes, up to which waiting messages are sent. Above that number further messages stay
/// in the store until all of the output has left: with hundreds of clients that reconnect at once,
/// unread output is most of the memory.
const PUMPED_BYTES_MAX: usize = 32 * 1024;

/// The result of sending the first unsent message.
enum Unsent {
    /// The message is in the output, or nothing is left to be sent.
    Sent,
    /// The record that gives it its Packet Identifier is not durable yet.
    NotDurable,
    /// The message is being read back.
    NotRead,
}

impl Shard {
    /// Sends what can be sent: first what is in flight and unsent, then from the queue.
    pub(crate) fn pump<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        if self.permits.reviews.is_under_way() {
            self.review(index);
        }
        self.queue_retained(index);
        while let Some(connection) = self.admitted_connection(index) {
            let limit = (self.settings.limits.output_bytes as usize).min(PUMPED_BYTES_MAX);
            let room = self.connections.at(connection).output_len() < limit;
            let quota = self.connections.at(connection).send_quota;
            if !room || self.sessions.at(index).outbound.on_wire >= quota {
                return;
            }
            let outbound = &self.sessions.at(index).outbound;
            let goes_on = match outbound.unsent().front() {
                None => self.send_next(cx, index),
                Some(&packet_id) => match self.send_unsent(cx, index, connection, packet_id) {
                    Unsent::Sent => true,
                    Unsent::NotRead => false,
                    // Those behind it wait for their records meanwhile, not one after the other.
                    Unsent::NotDurable => {
                        let outbound = &self.sessions.at(index).outbound;
                        outbound.sending() < quota.into() && self.send_next(cx, index)
                    }
                },
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Sends the first queued message under a new Packet Identifier; false if there is none.
    fn send_next<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) -> bool {
        let is_part = self.sessions.at(index).flags.part();
        let is_durable = is_part && self.is_next_of_part_durable(index);
        let Some(queue) = self.sessions.at(index).outbound.queue_used() else {
            return false;
        };
        let entry = queue.pop_front();
        self.read_queue(cx, index);
        let Some(entry) = entry else {
            return false;
        };
        if entry.message.expired(cx.now.mono_ms) {
            self.expire_entry(cx, index, TakenEntry::Held(entry));
            return true;
        }
        let session = self.sessions.at(index);
        let Some(packet_id) = session.outbound.next_packet_id(&self.memory.gauge) else {
            session.outbound.queue_mut().push_front(entry);
            return false;
        };
        let mut number = RecordNumber(0);
        if entry.recorded {
            let record = entry.record_in_flight(session.epoch, cx.now, packet_id);
            number = self.append(cx, Record::Changed(record));
        }
        if is_durable {
            number = RecordNumber(0);
        }
        self.send_under(cx, index, packet_id, entry, number, None);
        true
    }

    /// Messages of a session have come from the store.
    pub(crate) fn session_messages_read<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        of: PageOf,
        page: Vec<ReadMessage>,
    ) {
        let Some(index) = self.sessions.live(id) else {
            return;
        };
        let is_there = self.admitted_connection(index).is_some();
        let outbound = &mut self.sessions.at(index).outbound;
        match of {
            PageOf::Queue => {
                for (entry, why) in outbound.queue_mut().page_read(page.into_iter()) {
                    self.notify_lost(cx, index, entry.id, why);
                    self.drop_damaged(cx, index, entry);
                }
            }
            PageOf::InFlight => {
                outbound.waiting_mut().reading_in_flight = false;
                // To a client that went away meanwhile nothing is sent again: the next connection
                // asks for what it needs.
                let unread = match is_there {
                    true => outbound.in_flight_read(&page),
                    false => Vec::new(),
                };
                for unread in unread {
                    let UnreadableEntry {
                        entry,
                        packet_id,
                        why,
                    } = unread;
                    self.notify_lost(cx, index, entry.id, why);
                    match packet_id {
                        Some(packet_id) => self.release_unread(cx, index, &entry, packet_id),
                        None => self.drop_damaged(cx, index, entry.into()),
                    }
                }
            }
        }
        let window = self.window(index);
        if let Some(queue) = self.sessions.at(index).outbound.queue_used() {
            queue.put_away(window);
        }
        self.pump(cx, index);
    }

    /// A message that the session still waited for cannot be read.
    fn notify_lost<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, id: MessageId, why: String) {
        cx.effects.lost.push(LostMessage {
            id,
            waited_for: self.sessions.at(index).client_id.to_string(),
            why,
        });
    }

    fn drop_damaged<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: StoredEntry) {
        self.drop_entry(
            cx,
            index,
            TakenEntry::Stored(entry),
            DropReason::StoreDamaged,
        );
    }

    /// A QoS 2 message in flight is lost; PUBREL ends its exchange, once the record says so.
    fn release_unread<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: &SentEntry,
        packet_id: PacketId,
    ) {
        let mut changed = entry.record(self.sessions.at(index).epoch);
        (changed.packet_id, changed.released) = (Some(packet_id), true);
        let record = self.append(cx, Record::Changed(changed));
        let id = self.sessions.id_of(index);
        let outbound = &mut self.sessions.at(index).outbound;
        if let Some(message) = outbound.in_flight.get_mut(packet_id) {
            message.record = record;
        }
        self.gate(cx, record, Gated::Pump(id));
        self.drop_stored(cx, index, DropReason::StoreDamaged, entry.id);
        let dropped = ReceiptOutcome::Dropped(DropReason::StoreDamaged);
        self.end_receipt(cx, index, entry.id, entry.why, dropped);
    }

    /// Sends the first unsent message, unless it has to wait.
    /// What was sent before does not expire [MQTT-4.3.3-7], nor does an exchange end by expiry
    /// [MQTT-4.3.3-13].
    fn send_unsent<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        connection: u32,
        packet_id: PacketId,
    ) -> Unsent {
        let lets_go = self.lets_messages_go(index);
        let outbound = &mut self.sessions.at(index).outbound;
        let Some(message) = outbound.in_flight.get_mut(packet_id) else {
            outbound.unsent_mut().pop_front();
            return Unsent::Sent;
        };
        if !self.store.records.is_durable(message.record) {
            return Unsent::NotDurable;
        }
        if matches!(message.state, InFlightState::Stored(_)) {
            self.read_in_flight(cx, index);
            return Unsent::NotRead;
        }
        let was_sent = message.sent_before;
        let dup = was_sent && !fault::is(Fault::DupForgotten);
        let entry = match &message.state {
            InFlightState::Publish(entry) => Some(entry.clone()),
            InFlightState::Stored(_) => return Unsent::NotRead,
            // It was sent on the only connection that its session has.
            InFlightState::Unkept(_) => {
                outbound.unsent_mut().pop_front();
                return Unsent::Sent;
            }
            InFlightState::Released(_) => None,
        };
        outbound.unsent_mut().pop_front();
        let Some(entry) = entry else {
            outbound.sent(packet_id, cx.now.mono_ms);
            let (ok, none) = (ReasonCode::Success, RecordNumber(0));
            self.answer_ack(cx, connection, AckKind::PubRel, packet_id, ok, none);
            return Unsent::Sent;
        };
        if !dup && entry.message.expired(cx.now.mono_ms) {
            if let Some(entry) = self.take_in_flight(index, packet_id) {
                self.expire_entry(cx, index, entry);
            }
            return Unsent::Sent;
        }
        let how = Sending {
            dup,
            qos: entry.qos,
            retain: entry.retain,
            packet_id: Some(packet_id),
        };
        outbound.sent(packet_id, cx.now.mono_ms);
        let ids = &entry.subscription_ids;
        let source = MessageFrom::Held(&entry.message);
        if let Err(reason) = self.send_publish(cx, connection, source, how, ids) {
            self.drop_in_flight(cx, index, connection, packet_id, was_sent, reason);
        } else if lets_go && entry.can_be_let_go() {
            self.sessions.at(index).outbound.let_go(packet_id, entry);
        }
        Unsent::Sent
    }
}
