//! A message for a session: sent, queued, or dropped with a reason.

use martlet_codec::{PacketId, QoS, ReasonCode};

use crate::counters::DropReason;
use crate::effect::QueueOwner;
use crate::fault::{self, Fault};
use crate::id::{MessageId, RecordNumber, SessionEpoch, SubscriptionIds, start_of};
use crate::limits::QueueFull;
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::notify::observers::NOTIFY_DELIVERED;
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, EntryRecord, Record};
use crate::retained::is_own as is_own_topic;
use crate::routing::{MessageFrom, Routing, Sending};
use crate::session::in_flight::{InFlightState, SentEntry};
use crate::session::queue::entry::Unkept;
use crate::session::queue::{Entry, TakenEntry, Window};
use crate::shard::{Gated, Shard};
use crate::share::ticket::{ShareOutcome, ShareTicket};

/// Entries of a full queue to check for expiry, for each message that needs room in it.
const LOOKED_AT_FOR_ROOM: usize = 64;
/// Messages that are dropped for one that comes: no more, if the queue shrinks by that.
const DROPPED_FOR_ROOM: usize = 1024;

/// The record of an entry that enters a queue, from a share group's if it comes from there.
pub(super) fn enqueued(to: EntryRecord, from: Option<SessionEpoch>) -> Record {
    match from {
        Some(from) => Record::Moved {
            from,
            from_why: EnqueuedAs::Routed,
            to,
        },
        None => Record::Enqueued(to),
    }
}

/// Whether the publisher of an entry waits while a part holds publishers back. No one waits for
/// Wills, for the node's own topics and for what was retained.
fn is_awaited(entry: &Entry) -> bool {
    let message = &entry.message;
    entry.why == EnqueuedAs::Routed && !message.is_will() && !is_own_topic(message.topic())
}

/// Longest output of a client, in bytes, to which QoS 0 messages are added while memory is used up.
/// Without it, one client that uses up the memory would make all others lose messages.
const SMALL_OUTPUT_BYTES: usize = 1024;

impl Shard {
    /// A message is for this session: send it now, queue it, or drop it with a reason.
    /// With the lower of the published and the granted QoS [MQTT-3.8.4-8]; a client that is away
    /// finds QoS 1 and 2 in its queue [MQTT-4.5.0-1], [MQTT-3.1.1/3.1.2-5].
    #[inline(always)] // Measured by `cargo instructions`.
    pub(crate) fn deliver<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        qos: QoS,
        retain: bool,
        subscription_ids: SubscriptionIds,
    ) {
        let session = self.sessions.at(index);
        if qos == QoS::AtMostOnce && session.flags.part() {
            return self.deliver_qos0_to_part(cx, index, routing, retain, subscription_ids);
        }
        session.accounting.matched += 1;
        self.count_matched();
        if routing.publication.id.wants_receipts() {
            self.parts
                .receipts
                .begin(&routing.publication, qos > QoS::AtMostOnce);
            if qos == QoS::AtMostOnce {
                let ids = &subscription_ids;
                return self.deliver_qos0_with_receipt(cx, index, routing, retain, ids);
            }
        }
        if qos == QoS::AtMostOnce {
            self.deliver_qos0(cx, index, routing, retain, &subscription_ids);
            return;
        }
        let may_send = self.may_send_now(index);
        if may_send
            && self.sends_once(index)
            && let Some(packet_id) = self
                .sessions
                .at(index)
                .outbound
                .next_packet_id(&self.memory.gauge)
        {
            let how = Sending {
                dup: false,
                qos,
                retain,
                packet_id: Some(packet_id),
            };
            return self.send_once(cx, index, routing, how, packet_id, &subscription_ids);
        }
        let message = self.hold(routing);
        let entry = Entry {
            message,
            subscription_ids,
            qos,
            retain,
            why: EnqueuedAs::Routed,
            recorded: routing.recorded && self.sessions.at(index).durable,
            ticket: None,
        };
        if may_send {
            self.send_entry(cx, index, entry, Some(routing));
        } else {
            self.enqueue(cx, index, entry);
        }
    }

    /// Whether what is sent to this session is never sent again, so that it need not be kept: its
    /// session ends with its connection, and the topic of each dropped message is not to be
    /// reported.
    fn sends_once(&mut self, index: u32) -> bool {
        let session = self.sessions.at(index);
        !session.durable && !session.flags.part() && !self.is_outcome_observed(index)
    }

    /// A QoS 0 message for a part: as one of QoS 1 if it keeps them; else it gets it if it is there
    /// and has credit. So it is too with a message that has no record, because the store could not
    /// take it, or because it was routed before this subscription was known where it came in.
    #[cold]
    #[inline(never)]
    fn deliver_qos0_to_part<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        retain: bool,
        subscription_ids: SubscriptionIds,
    ) {
        let session = self.sessions.at(index);
        let (keeps, durable) = (session.flags.keeps_qos0(), session.durable);
        let is_unrecorded = keeps && durable && !routing.recorded;
        let keeps = keeps && !is_unrecorded;
        session.accounting.matched += 1;
        self.count_matched();
        let is_dropped = !keeps && !self.may_send_now(index);
        if routing.publication.id.wants_receipts() {
            self.parts.receipts.begin(&routing.publication, !is_dropped);
        }
        if is_dropped {
            let reason = self
                .store
                .reason_not_kept(routing.publication.tenant, is_unrecorded);
            self.drop_message(cx, index, reason, 1, routing.publication.topic);
            return self.receipt_at_qos0(cx, index, &routing.publication, Err(reason));
        }
        let entry = Entry {
            message: self.hold(routing),
            subscription_ids,
            qos: QoS::AtLeastOnce,
            retain,
            why: EnqueuedAs::Routed,
            recorded: keeps && durable,
            ticket: None,
        };
        self.send_or_enqueue(cx, index, entry, Some(routing));
    }

    /// Sends an entry at once if that is possible, else puts it into the queue.
    pub(crate) fn send_or_enqueue<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        routing: Option<&mut Routing<'_>>,
    ) {
        if self.may_send_now(index) {
            self.send_entry(cx, index, entry, routing);
        } else {
            self.enqueue(cx, index, entry);
        }
    }

    /// Whether what is sent to this session is never sent again, and a message for it can be sent
    /// now.
    pub(crate) fn sends_at_once_and_never_again(&mut self, index: u32) -> bool {
        self.sends_once(index) && self.may_send_now(index)
    }

    /// Sends a message that a share group lent to such a session; the group keeps it.
    pub(crate) fn send_lent_once<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: &Entry,
        ticket: ShareTicket,
    ) {
        let connection = self.admitted_connection(index);
        let packet_id = self
            .sessions
            .at(index)
            .outbound
            .next_packet_id(&self.memory.gauge);
        let (id, qos) = (entry.message.id(), entry.qos);
        let (Some(connection), Some(packet_id)) = (connection, packet_id) else {
            let outcome = ShareOutcome::Returned { sent_qos2: false };
            return self.answer_group(cx, &ticket, Some(index), id, outcome);
        };
        let how = Sending {
            dup: false,
            qos,
            retain: entry.retain,
            packet_id: Some(packet_id),
        };
        let source = MessageFrom::Held(&entry.message);
        let ids = &entry.subscription_ids;
        if let Err(reason) = self.send_publish(cx, connection, source, how, ids) {
            let outcome = match reason {
                // Others may have it; the group knows the rules too, or will before this answer.
                DropReason::NotPermitted => ShareOutcome::Returned { sent_qos2: false },
                reason => ShareOutcome::Dropped(reason),
            };
            return self.answer_group(cx, &ticket, Some(index), id, outcome);
        }
        let sent = Unkept {
            id,
            why: entry.why,
            qos,
            ticket: Some(ticket),
        };
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.put_sent(packet_id, InFlightState::Unkept(sent), cx.now.mono_ms);
    }

    /// Sends a message that is not kept, and of which nothing is unsent.
    fn send_once<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        how: Sending,
        packet_id: PacketId,
        subscription_ids: &[u32],
    ) {
        let Publication { id, topic, .. } = routing.publication;
        let sent = match self.admitted_connection(index) {
            Some(connection) => {
                let source = MessageFrom::Routing(routing);
                self.send_publish(cx, connection, source, how, subscription_ids)
            }
            None => Err(DropReason::ClientAway),
        };
        if let Err(reason) = sent {
            self.drop_message(cx, index, reason, 1, topic);
            let dropped = ReceiptOutcome::Dropped(reason);
            return self.end_receipt(cx, index, id, EnqueuedAs::Routed, dropped);
        }
        let sent = Unkept {
            id,
            why: EnqueuedAs::Routed,
            qos: how.qos,
            ticket: None,
        };
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.put_sent(packet_id, InFlightState::Unkept(sent), cx.now.mono_ms);
    }

    /// A QoS 0 message for a session: into the output buffer or nowhere.
    /// DUP is 0 [MQTT-4.3.1-1].
    pub(crate) fn deliver_qos0<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        retain: bool,
        subscription_ids: &[u32],
    ) {
        let Some(connection) = self.admitted_connection(index) else {
            return self.drop_message(
                cx,
                index,
                DropReason::ClientAway,
                1,
                routing.publication.topic,
            );
        };
        let waiting = self.connections.at(connection).output_len();
        if waiting >= self.memory.output_bytes_max {
            return self.drop_message(
                cx,
                index,
                DropReason::OutputFull,
                1,
                routing.publication.topic,
            );
        }
        if waiting > SMALL_OUTPUT_BYTES && self.memory.is_spent() {
            return self.drop_message(
                cx,
                index,
                DropReason::MemoryFull,
                1,
                routing.publication.topic,
            );
        }
        let how = Sending {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            packet_id: None,
        };
        let source = MessageFrom::Routing(routing);
        if let Err(reason) = self.send_publish(cx, connection, source, how, subscription_ids) {
            let topic = routing.publication.topic;
            self.drop_message(cx, index, reason, 1, topic);
        } else if self.observers.wants.any(NOTIFY_DELIVERED) {
            self.notify_when_written(connection, &routing.publication);
        }
    }

    /// A new message gets its Packet Identifier at once: nothing is queued before it and the send
    /// quota has room, what is unsent counted in. Quota [MQTT-4.9.0-2].
    fn may_send_now(&mut self, index: u32) -> bool {
        let Some(connection) = self.admitted_connection(index) else {
            return false;
        };
        let outbound = &self.sessions.at(index).outbound;
        let connection = self.connections.at(connection);
        outbound.queue().is_empty()
            && (outbound.sending() < connection.send_quota.into() || fault::is(Fault::QuotaIgnored))
            && connection.output_len() < self.memory.output_bytes_max
    }

    /// Puts an entry in flight and sends it, at once if it need not wait for its record; the output
    /// has room and the send quota too. First sent with DUP 0, even if it came with DUP 1
    /// [MQTT-3.3.1-3], [MQTT-4.3.3-2].
    fn send_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        mut entry: Entry,
        routing: Option<&mut Routing<'_>>,
    ) {
        let Some(packet_id) = self
            .sessions
            .at(index)
            .outbound
            .next_packet_id(&self.memory.gauge)
        else {
            return self.enqueue(cx, index, entry);
        };
        let moved_from = self.take_from_group(cx, index, &mut entry);
        let mut number = RecordNumber(0);
        if entry.recorded {
            let epoch = self.sessions.at(index).epoch;
            let record = entry.record_in_flight(epoch, cx.now, packet_id);
            number = self.append(cx, enqueued(record, moved_from));
        }
        self.send_under(cx, index, packet_id, entry, number, routing);
    }

    /// Sends an entry for the first time, under a Packet Identifier that record `number` gives it.
    pub(super) fn send_under<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        entry: Entry,
        number: RecordNumber,
        routing: Option<&mut Routing<'_>>,
    ) {
        if entry.recorded && self.waits_for_record(index, &entry, number) {
            let outbound = &mut self.sessions.at(index).outbound;
            outbound.put_in_flight(packet_id, InFlightState::Publish(entry));
            return self.send_when_durable(cx, index, packet_id, number);
        }
        let Some(connection) = self.admitted_connection(index) else {
            // It is sent when there is one.
            let outbound = &mut self.sessions.at(index).outbound;
            return outbound.put_in_flight(packet_id, InFlightState::Publish(entry));
        };
        let outbound = &mut self.sessions.at(index).outbound;
        if !outbound.unsent().is_empty() {
            // No message overtakes another one [MQTT-4.6.0-5], [MQTT-4.6.0-6].
            outbound.put_in_flight(packet_id, InFlightState::Publish(entry));
            return outbound.unsent_mut().push_back(packet_id);
        }
        let how = Sending {
            // What is just being routed is new.
            dup: routing.is_none() && self.may_have_been_sent(index, entry.message.id()),
            qos: entry.qos,
            retain: entry.retain,
            packet_id: Some(packet_id),
        };
        let source = match routing {
            Some(routing) => MessageFrom::Routing(routing),
            None => MessageFrom::Held(&entry.message),
        };
        let ids = &entry.subscription_ids;
        if let Err(reason) = self.send_publish(cx, connection, source, how, ids) {
            return self.drop_entry(cx, index, TakenEntry::Held(entry), reason);
        }
        let state = if self.sends_once(index) && !entry.recorded {
            InFlightState::Unkept(entry.into())
        } else if self.lets_messages_go(index) && entry.can_be_let_go() {
            InFlightState::Stored(SentEntry::of(entry))
        } else {
            InFlightState::Publish(entry)
        };
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.put_sent(packet_id, state, cx.now.mono_ms);
    }

    /// QoS 2 outward waits for the Packet Identifier. A part waits for the message: see
    /// [`RecentEntries`](crate::part::RecentEntries). QoS 0 waits for nothing.
    fn waits_for_record(&mut self, index: u32, entry: &Entry, number: RecordNumber) -> bool {
        if entry.qos == QoS::ExactlyOnce {
            return !fault::is(Fault::Qos2BeforeRecord);
        }
        self.sessions.at(index).flags.part()
            && entry.message.qos() > QoS::AtMostOnce
            && !self.store.records.is_durable(number)
            && !fault::is(Fault::PartToldBeforeRecord)
    }

    /// A message may have been sent at the end of the last run of the node, which ended before the
    /// record of that was durable: it came in before, and its receiver was connected then. Such a
    /// message says so [MQTT-3.3.1-1].
    fn may_have_been_sent(&mut self, index: u32, message: MessageId) -> bool {
        let run = self.run();
        if start_of(message.0) >= run || fault::is(Fault::DupForgotten) {
            return false;
        }
        let session = self.sessions.at(index);
        session.flags.was_there() && start_of(session.epoch.0) < run
    }

    /// Sends a message once this record is durable, so that no crash makes it a second message.
    fn send_when_durable<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        record: RecordNumber,
    ) {
        let id = self.sessions.id_of(index);
        let outbound = &mut self.sessions.at(index).outbound;
        if let Some(message) = outbound.in_flight.get_mut(packet_id) {
            message.record = record;
        }
        outbound.unsent_mut().push_back(packet_id);
        self.gate(cx, record, Gated::Pump(id));
    }

    /// Puts an entry at the end of the session's queue, within its bounds.
    pub(crate) fn enqueue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, mut entry: Entry) {
        if entry.message.expired(cx.now.mono_ms) {
            // Only to be delivered if that was possible at once [MQTT-3.3.2-5].
            return self.expire_entry(cx, index, TakenEntry::Held(entry));
        }
        let window = self.window(index);
        let window = self.memory.window_for_more(window);
        let queue = self.sessions.at(index).outbound.queue();
        let needs_memory = !(entry.recorded && queue.would_store(window));
        if needs_memory && self.memory.is_spent() {
            return self.drop_entry(cx, index, TakenEntry::Held(entry), DropReason::MemoryFull);
        }
        if !self.make_room(cx, index, &entry) {
            return self.drop_entry(cx, index, TakenEntry::Held(entry), DropReason::QueueFull);
        }
        if entry.recorded {
            let moved_from = self.take_from_group(cx, index, &mut entry);
            let epoch = self.sessions.at(index).epoch;
            let record = enqueued(entry.record(epoch, cx.now), moved_from);
            self.append(cx, record);
        }
        let queue = self.sessions.at(index).outbound.queue_mut();
        match fault::is(Fault::QueueOutOfOrder) {
            true => queue.push_front(entry),
            false => queue.push_back(entry, window),
        }
        if self.sessions.at(index).flags.part() {
            self.part_entry_queued(index);
        }
        let owner = QueueOwner::Session(self.sessions.id_of(index));
        self.watch_queue_expiry(owner);
    }

    /// How much of a session's queue is kept in memory.
    pub(super) fn window(&mut self, index: u32) -> Window {
        let session = self.sessions.at(index);
        // The age of a part's first message is looked at while the part is not attached, too.
        let is_there = session.connection.is_some() || session.flags.part();
        self.store.window_of(is_there)
    }

    /// Makes room in a full queue as configured; false if the new message has to go.
    fn make_room<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &Entry) -> bool {
        let bytes = entry.message.bytes();
        let is_in_memory = self.is_queue_in_memory(index);
        let id = self.sessions.id_of(index);
        let bounds = self.bounds_of_queue(id);
        let (count_max, mut bytes_max) = (bounds.messages, bounds.bytes);
        let queue = self.sessions.at(index).outbound.queue();
        if queue.bytes() >= bounds.notify_from_bytes {
            // Before a hold begins, as this ends one for which there is room.
            self.tend_queue_of_part(cx, id);
        }
        if bounds.holds {
            if self.is_queue_full_for(index, bytes, bounds.bytes) {
                self.begin_hold(cx, index);
            }
            let follows = entry.message.hops() > 0 && self.parts.passes_on(id);
            if is_awaited(entry) && !follows && !fault::is(Fault::HoldDrops) {
                // Its shard did not know of the hold yet. It is in memory and in the store already,
                // and its publisher waits with the next one.
                return true;
            }
            // For what nobody waits with.
            bytes_max = self.parts.bytes_beyond_hold(id, bytes_max);
        }
        if is_in_memory {
            // No client has more than a share of it.
            bytes_max = bytes_max.min(self.memory.client_bytes_max as u64);
        }
        let policy = match bounds.holds {
            true => QueueFull::DropNewest,
            false => bounds.policy,
        };
        let queue = self.sessions.at(index).outbound.queue();
        if !queue.is_full_for(bytes, count_max, bytes_max) {
            return true;
        }
        self.expire_queued(cx, index, LOOKED_AT_FOR_ROOM);
        let bytes_before = self.sessions.at(index).outbound.queue().bytes();
        let mut dropped = 0_usize;
        loop {
            let session = self.sessions.at(index);
            let queue = session.outbound.queue_mut();
            if !queue.is_full_for(bytes, count_max, bytes_max) {
                return true;
            }
            // A bound that was lowered: the queue shrinks with each message that comes.
            let freed = bytes_before.saturating_sub(queue.bytes());
            if dropped >= DROPPED_FOR_ROOM && freed >= 2 * bytes as u64 {
                return true;
            }
            dropped += 1;
            self.notify_if_queue_begins_to_drop(cx, index);
            match policy {
                QueueFull::DropNewest => return false,
                QueueFull::Disconnect => {
                    if let Some(connection) = self.sessions.at(index).connection() {
                        let id = self.connections.id_of(connection);
                        let limit = self.limit_of_queue(index);
                        self.waiting
                            .closing
                            .push((id, ReasonCode::QuotaExceeded, limit.into()));
                    }
                    return false;
                }
                // One that is longer than the queue may be would empty it and then not fit.
                QueueFull::DropOldest if bytes as u64 > bytes_max => return false,
                QueueFull::DropOldest => {
                    if !self.drop_oldest_of_queue(cx, index) {
                        return false;
                    }
                }
            }
        }
    }

    fn is_queue_full_for(&mut self, index: u32, bytes: usize, bytes_max: u64) -> bool {
        let queue = self.sessions.at(index).outbound.queue();
        queue.is_full_for(bytes, u32::MAX, bytes_max)
    }

    /// A retained message found by a subscription.
    /// RETAIN is 1 [MQTT-3.1.1/3.3.1-8].
    pub(crate) fn deliver_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: &Message,
        qos: QoS,
        subscription_ids: SubscriptionIds,
        copy: u8,
    ) {
        self.sessions.at(index).accounting.matched += 1;
        self.count_matched();
        let mut qos = qos.min(message.qos());
        if self.sessions.at(index).flags.part() {
            // Each delivery to a part is settled.
            qos = QoS::AtLeastOnce;
        }
        if qos > QoS::AtMostOnce {
            let entry = Entry {
                message: message.clone(),
                subscription_ids,
                qos,
                retain: true,
                why: EnqueuedAs::Retained(copy),
                recorded: self.sessions.at(index).durable && !is_own_topic(message.topic()),
                ticket: None,
            };
            return self.send_or_enqueue(cx, index, entry, None);
        }
        let Some(connection) = self.admitted_connection(index) else {
            return self.drop_message(cx, index, DropReason::ClientAway, 1, message.topic());
        };
        let how = Sending {
            dup: false,
            qos,
            retain: true,
            packet_id: None,
        };
        let source = MessageFrom::Held(message);
        if let Err(reason) = self.send_publish(cx, connection, source, how, &subscription_ids) {
            self.drop_message(cx, index, reason, 1, message.topic());
        } else if self.observers.wants.any(NOTIFY_DELIVERED) {
            self.notify_when_written(connection, &message.publication());
        }
    }

    /// As [`Shard::deliver_qos0`], with a receipt of the outcome.
    // Apart from it, so that other messages pay for one look at their name.
    #[cold]
    #[inline(never)]
    pub(crate) fn deliver_qos0_with_receipt<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
        retain: bool,
        subscription_ids: &[u32],
    ) {
        let before = self.counters.dropped;
        self.deliver_qos0(cx, index, routing, retain, subscription_ids);
        let after = &self.counters.dropped;
        let mut all = DropReason::ALL.iter().copied();
        let dropped = all.find(|reason| after[*reason as usize] > before[*reason as usize]);
        self.receipt_at_qos0(cx, index, &routing.publication, dropped.map_or(Ok(()), Err));
    }

    /// Messages that were sent need not stay in memory: the store has them, should they have to be
    /// sent again. Unless the topic of each dropped message is to be reported.
    pub(super) fn lets_messages_go(&mut self, index: u32) -> bool {
        self.store.reads_back && !self.is_outcome_observed(index)
    }
}
