//! Messages towards a client: queued, in flight and sent (MQTT 5 sections 4.3, 4.4 and 4.9). What
//! the client answers is `acknowledge`'s.
//!
//! A message gets its Packet Identifier when the send quota allows, lies *in flight* from then on,
//! and is *unsent* until its packet is in the output buffer of the present connection. On a new
//! connection everything in flight is unsent again, in its first order [MQTT-4.4.0-1].

use std::collections::VecDeque;
use std::sync::Arc;

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode};

use crate::counters::DropReason;
use crate::decision::Limit;
use crate::effect::{LostMessage, PageOf, QueueOwner, QueueRead, ReadMessage};
use crate::event::Event;
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::id::{MessageId, RecordNumber, SessionEpoch, SessionId, SubscriptionIds, start_of};
use crate::limits::QueueFull;
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, EntryRecord, Record};
use crate::retained::is_own as is_own_topic;
use crate::routing::Routing;
use crate::session::in_flight::{InFlight, InFlightState, SentEntry, Unread};
use crate::session::packet_ids::PacketIdRing;
use crate::session::queue::entry::Unkept;
use crate::session::queue::{Entry, Queue, StoredEntry, Taken, Window};
use crate::session::sending::{Sending, Source};
use crate::shard::{Gated, Shard, StoreState};
use crate::share::ticket::{ShareOutcome, ShareTicket};
use crate::tell::telling::TOLD_OF_DELIVERED;
use crate::work::{ENDS, EXPIRY, FREED_MESSAGE};

/// What a session owes its client.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) in_flight: PacketIdRing<InFlight>,
    /// What waits to be sent; not there while nothing does, which is nearly always.
    waiting: Option<Box<Waiting>>,
    /// In flight and sent on this connection: what counts against the send quota.
    pub(crate) on_wire: u16,
    pub(super) last_packet_id: u16,
    pub(super) next_order: u32,
}

/// What waits to be sent.
#[derive(Debug)]
struct Waiting {
    /// In flight and not yet sent on this connection, in order.
    unsent: VecDeque<PacketId>,
    queue: Queue,
    /// Messages in flight that are unsent have been asked for and have not come yet.
    reading_in_flight: bool,
}

impl Waiting {
    const NOTHING: Self = Self {
        unsent: VecDeque::new(),
        queue: Queue::EMPTY,
        reading_in_flight: false,
    };
}

static NOTHING: Waiting = Waiting::NOTHING;

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

    /// What has no Packet Identifier yet.
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

    /// The same, to add to it.
    pub(super) fn unsent_mut(&mut self) -> &mut VecDeque<PacketId> {
        &mut self.waiting_mut().unsent
    }

    fn waiting_mut(&mut self) -> &mut Waiting {
        self.waiting
            .get_or_insert_with(|| Box::new(Waiting::NOTHING))
    }

    /// Gives memory back if nothing is in flight or queued.
    pub(crate) fn rest(&mut self) {
        if self.queue().is_empty() {
            self.in_flight.rest();
        }
    }

    /// The same when the client has left, and nothing will wait soon.
    fn rest_long(&mut self) {
        self.rest();
        if let Some(waiting) = &self.waiting
            && waiting.unsent.is_empty()
            && !waiting.reading_in_flight
            && waiting.queue.is_at_rest()
        {
            self.waiting = None;
        }
    }

    /// What counts against the send quota, or will.
    fn sending(&self) -> usize {
        usize::from(self.on_wire) + self.unsent().len()
    }

    /// Nothing is in flight or queued.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.queue().is_empty()
    }
}

/// The queue of a session or share group that has ended.
#[derive(Debug)]
pub(crate) struct EndedQueue {
    pub(crate) queue: Queue,
    /// The Client Identifier, or the Topic Filter of the share group.
    pub(crate) receiver: Arc<str>,
}

/// Messages in flight read back at once.
const IN_FLIGHT_PAGE: usize = 128;

/// The result of sending the first unsent message.
enum Unsent {
    /// It is in the output, or nothing is left to be sent.
    Sent,
    /// The record that gives it its Packet Identifier is not durable yet.
    NotDurable,
    /// It is being read back.
    NotRead,
}

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

/// Output, in bytes, up to which waiting messages are sent. Above that number further messages stay
/// in the store until all of the output has left: with hundreds of clients that reconnect at once,
/// unread output is most of the memory.
const PUMPED_BYTES_MAX: usize = 32 * 1024;

/// Entries of a full queue to check for expiry, for each message that needs room in it.
const LOOKED_AT_FOR_ROOM: usize = 64;
/// Messages in the queue of a session that ends whose drop is told one by one, where anybody wants
/// to be told; what is behind them is counted.
const TOLD_AT_END: usize = 1024;

/// Messages whose memory is given back at once when their session ends.
const FREED_AT_ONCE: usize = 256;

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
        if qos == QoS::AtMostOnce && self.sessions.at(index).flags.part() {
            return self.deliver_qos0_to_part(cx, index, routing, retain, subscription_ids);
        }
        self.sessions.at(index).accounting.matched += 1;
        self.count_matched();
        if routing.publication.id.asks_for_receipts() {
            self.begin_receipt(&routing.publication, qos > QoS::AtMostOnce);
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
            && let Some(packet_id) = self.sessions.at(index).outbound.next_packet_id(&self.gauge)
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

    /// What is sent to this session is never sent again, so it need not be kept: its session ends
    /// with its connection. Unless the topic of each dropped message is to be reported.
    fn sends_once(&mut self, index: u32) -> bool {
        let session = self.sessions.at(index);
        !session.durable && !session.flags.part() && !self.keeps_to_tell(index)
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
        if routing.publication.id.asks_for_receipts() {
            self.begin_receipt(&routing.publication, !is_dropped);
        }
        if is_dropped {
            let reason = self.reason_not_kept(is_unrecorded);
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

    /// Why a part does not get a QoS 0 message that is not kept for it.
    fn reason_not_kept(&self, is_unrecorded: bool) -> DropReason {
        match self.store_state() {
            StoreState::Full | StoreState::AtLimit if is_unrecorded => DropReason::StoreFull,
            StoreState::Behind | StoreState::Stuck if is_unrecorded => DropReason::StoreStalled,
            _ => DropReason::PartBusy,
        }
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

    /// The same, and a message for it can be sent now.
    pub(crate) fn sends_at_once_and_never_again(&mut self, index: u32) -> bool {
        self.sends_once(index) && self.may_send_now(index)
    }

    /// Sends a message that a share group lent to such a session; the group keeps it.
    pub(crate) fn send_lent_once<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: &Message,
        (qos, retain, why): (QoS, bool, EnqueuedAs),
        subscription_ids: &[u32],
        ticket: ShareTicket,
    ) {
        let connection = self.admitted_connection(index);
        let packet_id = self.sessions.at(index).outbound.next_packet_id(&self.gauge);
        let answer = (Some(index), message.id());
        let (Some(connection), Some(packet_id)) = (connection, packet_id) else {
            let outcome = ShareOutcome::Returned { sent_qos2: false };
            return self.answer_group(cx, &ticket, answer, outcome);
        };
        let how = Sending {
            dup: false,
            qos,
            retain,
            packet_id: Some(packet_id),
        };
        let source = Source::Held(message);
        if let Err(reason) = self.send_publish(cx, connection, source, how, subscription_ids) {
            let outcome = match reason {
                // Others may have it; the group knows the rules too, or will before this answer.
                DropReason::NotPermitted => ShareOutcome::Returned { sent_qos2: false },
                reason => ShareOutcome::Dropped(reason),
            };
            return self.answer_group(cx, &ticket, answer, outcome);
        }
        let sent = Unkept {
            id: message.id(),
            why,
            qos,
            ticket: Some(ticket),
        };
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.put_sent(packet_id, InFlightState::Unkept(sent));
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
                let source = Source::Routing(routing);
                self.send_publish(cx, connection, source, how, subscription_ids)
            }
            None => Err(DropReason::ClientAway),
        };
        if let Err(reason) = sent {
            self.drop_message(cx, index, reason, 1, topic);
            let dropped = ReceiptOutcome::Dropped(reason);
            return self.end_receipt(cx, index, (id, EnqueuedAs::Routed), dropped);
        }
        let sent = Unkept {
            id,
            why: EnqueuedAs::Routed,
            qos: how.qos,
            ticket: None,
        };
        let outbound = &mut self.sessions.at(index).outbound;
        outbound.put_sent(packet_id, InFlightState::Unkept(sent));
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
        if waiting >= self.output_bytes_max {
            return self.drop_message(
                cx,
                index,
                DropReason::OutputFull,
                1,
                routing.publication.topic,
            );
        }
        if waiting > 0 && self.memory.is_spent() {
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
        let source = Source::Routing(routing);
        if let Err(reason) = self.send_publish(cx, connection, source, how, subscription_ids) {
            let topic = routing.publication.topic;
            self.drop_message(cx, index, reason, 1, topic);
        } else if self.wants.any(TOLD_OF_DELIVERED) {
            self.tell_when_written(connection, &routing.publication);
        }
    }

    /// Where packets of a session may go: before its CONNACK nothing does [MQTT-3.2.0-1].
    pub(crate) fn admitted_connection(&mut self, index: u32) -> Option<u32> {
        let connection = self.sessions.at(index).connection()?;
        let admitted = self.connections.at(connection).flags.admitted();
        admitted.then_some(connection)
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
            && connection.output_len() < self.output_bytes_max
    }

    /// Puts an entry in flight and sends it, at once if it need not wait for its record; the output
    /// has room and the send quota too.
    /// First sent with DUP 0, whatever DUP it came with [MQTT-3.3.1-3], [MQTT-4.3.3-2].
    fn send_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        mut entry: Entry,
        routing: Option<&mut Routing<'_>>,
    ) {
        let Some(packet_id) = self.sessions.at(index).outbound.next_packet_id(&self.gauge) else {
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
    fn send_under<N: Node>(
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
            Some(routing) => Source::Routing(routing),
            None => Source::Held(&entry.message),
        };
        let ids = &entry.subscription_ids;
        if let Err(reason) = self.send_publish(cx, connection, source, how, ids) {
            return self.drop_entry(cx, index, Taken::Held(entry), reason);
        }
        let state = if self.sends_once(index) && !entry.recorded {
            InFlightState::Unkept(entry.into())
        } else if self.lets_messages_go(index) && entry.can_be_let_go() {
            InFlightState::Stored(SentEntry::of(entry))
        } else {
            InFlightState::Publish(entry)
        };
        self.sessions.at(index).outbound.put_sent(packet_id, state);
    }

    /// QoS 2 outward waits for the Packet Identifier. A part waits for the message: see
    /// [`RecentEntries`](crate::part::RecentEntries). QoS 0 waits for nothing.
    fn waits_for_record(&mut self, index: u32, entry: &Entry, number: RecordNumber) -> bool {
        if entry.qos == QoS::ExactlyOnce {
            return !fault::is(Fault::Qos2BeforeRecord);
        }
        self.sessions.at(index).flags.part()
            && entry.message.qos() > QoS::AtMostOnce
            && !self.records.is_durable(number)
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

    /// It waits until this record is durable, so that no crash makes it a second message.
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
            return self.expire_entry(cx, index, Taken::Held(entry));
        }
        let window = self.window(index);
        let window = self.window_for_more(window);
        let queue = self.sessions.at(index).outbound.queue();
        let needs_memory = !(entry.recorded && queue.would_store(window));
        if needs_memory && self.memory.is_spent() {
            return self.drop_entry(cx, index, Taken::Held(entry), DropReason::MemoryFull);
        }
        if !self.make_room(cx, index, entry.message.bytes()) {
            return self.drop_entry(cx, index, Taken::Held(entry), DropReason::QueueFull);
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
    fn window(&mut self, index: u32) -> Window {
        let session = self.sessions.at(index);
        // The age of a part's first message is looked at while the part is not attached, too.
        let is_there = session.connection.is_some() || session.flags.part();
        self.window_of(is_there)
    }

    /// Part of a queue that is kept in memory, by whether the client is connected.
    pub(crate) fn window_of(&self, is_there: bool) -> Window {
        match is_there {
            _ if !self.reads_back => Window::Whole,
            true => Window::Front,
            false => Window::Nothing,
        }
    }

    /// The same for what is added: with memory spent, what is in the store is not in memory as
    /// well.
    pub(crate) fn window_for_more(&self, window: Window) -> Window {
        match window {
            Window::Front if self.memory.is_spent() => Window::Nothing,
            window => window,
        }
    }

    /// Makes room in a full queue as configured; false if the new message has to go.
    fn make_room<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, bytes: usize) -> bool {
        let is_in_memory = self.is_queue_in_memory(index);
        let bounds = self.bounds_of_queue(self.sessions.id_of(index));
        let (count_max, mut bytes_max) = (bounds.messages, bounds.bytes);
        let queue = self.sessions.at(index).outbound.queue();
        if queue.bytes() >= bounds.told_from {
            // Before a hold begins, as this ends one for which there is room.
            let id = self.sessions.id_of(index);
            self.tend_queue_of_part(cx, id);
        }
        if bounds.holds {
            if self.is_queue_full_for(index, bytes, bounds.bytes) {
                self.begin_hold(cx, index);
            }
            // What was under way already.
            bytes_max = self.bytes_beyond_hold(self.sessions.id_of(index), bytes_max);
        }
        if is_in_memory {
            // No client has more than a share of it.
            bytes_max = bytes_max.min(self.client_bytes_max as u64);
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
        loop {
            let session = self.sessions.at(index);
            let queue = session.outbound.queue_mut();
            if !queue.is_full_for(bytes, count_max, bytes_max) {
                return true;
            }
            if queue.begins_to_drop() {
                let id = self.sessions.id_of(index);
                self.dropping.insert(id);
                let messages = self.sessions.at(index).outbound.queue().len();
                let limit = self.limit_of_queue(index);
                let head = self.head_of(index);
                self.tell_queue_full(cx, head, messages, limit);
                let _ = self.sessions.losses(index);
                self.tell_queue_losses_later(cx, QueueOwner::Session(id), limit);
            }
            let session = self.sessions.at(index);
            let queue = session.outbound.queue_mut();
            match policy {
                QueueFull::DropNewest => return false,
                QueueFull::Disconnect => {
                    if let Some(connection) = session.connection() {
                        let id = self.connections.id_of(connection);
                        let limit = self.limit_of_queue(index);
                        self.closing
                            .push((id, ReasonCode::QuotaExceeded, limit.into()));
                    }
                    return false;
                }
                // One that is longer than the queue may be would empty it and then not fit.
                QueueFull::DropOldest if bytes as u64 > bytes_max => return false,
                QueueFull::DropOldest => match queue.take_oldest() {
                    Some(oldest) => {
                        self.drop_entry(cx, index, oldest, DropReason::QueueFull);
                    }
                    None => return false,
                },
            }
        }
    }

    fn is_queue_full_for(&mut self, index: u32, bytes: usize, bytes_max: u64) -> bool {
        let queue = self.sessions.at(index).outbound.queue();
        queue.is_full_for(bytes, u32::MAX, bytes_max)
    }

    /// From now on a queue loses messages: who operates the node is to know.
    pub(crate) fn tell_queue_full<N: Node>(
        &self,
        cx: &mut Cx<'_, N>,
        head: EventHead,
        messages: usize,
        limit: Limit,
    ) {
        if self.wants.any(Wants::CONNECTIONS) {
            let policy = match limit {
                Limit::PartQueue => QueueFull::DropOldest,
                _ => self.settings.queue_full,
            };
            cx.effects.tell(
                head,
                Event::QueueFull {
                    messages,
                    policy,
                    limit: self.reached(limit, None),
                },
            );
        }
    }

    /// Whether all that waits in the queue of a session is in memory.
    fn is_queue_in_memory(&mut self, index: u32) -> bool {
        !self.reads_back || !self.sessions.at(index).durable
    }

    /// The bound that the queue of a session is at.
    pub(crate) fn limit_of_queue(&mut self, index: u32) -> Limit {
        if self.has_bounds_of_part(self.sessions.id_of(index)) {
            return Limit::PartQueue;
        }
        let is_in_memory = self.is_queue_in_memory(index);
        let limits = &self.settings.limits;
        let is_in_memory = is_in_memory && (self.client_bytes_max as u64) < limits.queued_bytes;
        // One may have just been taken out.
        match self.sessions.at(index).outbound.queue().len() + 1 >= limits.queued_messages as usize
        {
            true => Limit::QueuedMessages,
            false if is_in_memory => Limit::MemoryShare,
            false => Limit::QueuedBytes,
        }
    }

    /// Takes what has expired out of a queue, of its next `limit` entries. Answers whether there
    /// are more to be looked at.
    pub(crate) fn expire_queued<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        limit: usize,
    ) -> bool {
        let Some(queue) = self.sessions.at(index).outbound.queue_used() else {
            return false;
        };
        let expired = queue.take_expired(cx.now.mono_ms, limit);
        self.work.add(expired.looked_at as u64 * EXPIRY);
        for entry in expired.entries {
            self.expire_entry(cx, index, entry);
        }
        expired.more
    }

    /// Sends what can be sent: first what is in flight and unsent, then from the queue.
    pub(crate) fn pump<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        if self.reviews.is_under_way() {
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
            self.expire_entry(cx, index, Taken::Held(entry));
            return true;
        }
        let session = self.sessions.at(index);
        let Some(packet_id) = session.outbound.next_packet_id(&self.gauge) else {
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

    /// Asks for the next messages of a queue that runs low, of which more lie in the store.
    pub(crate) fn read_queue<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let queue = self.sessions.at(index).outbound.queue_used();
        if let Some(messages) = queue.and_then(Queue::page_to_read) {
            let owner = QueueOwner::Session(self.sessions.id_of(index));
            let of = PageOf::Queue;
            let with_publishers = self.sessions.at(index).flags.part();
            cx.effects.reads.push(QueueRead {
                owner,
                of,
                messages,
                with_publishers,
            });
        }
    }

    /// Asks for messages that were in flight before a restart and are to be sent again.
    fn read_in_flight<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let outbound = &mut self.sessions.at(index).outbound;
        if core::mem::replace(&mut outbound.waiting_mut().reading_in_flight, true) {
            return;
        }
        let stored = outbound.stored_unsent().map(|(_, id)| id);
        let messages = stored.take(IN_FLIGHT_PAGE).collect();
        let owner = QueueOwner::Session(self.sessions.id_of(index));
        let of = PageOf::InFlight;
        let with_publishers = self.sessions.at(index).flags.part();
        cx.effects.reads.push(QueueRead {
            owner,
            of,
            messages,
            with_publishers,
        });
    }

    /// Messages of a session have come from the store.
    pub(crate) fn session_messages_read<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: SessionId,
        of: PageOf,
        page: Vec<ReadMessage>,
    ) {
        let Some(index) = self.live_session(id) else {
            return;
        };
        let is_there = self.admitted_connection(index).is_some();
        let outbound = &mut self.sessions.at(index).outbound;
        match of {
            PageOf::Queue => {
                for (entry, why) in outbound.queue_mut().page_read(page.into_iter()) {
                    self.tell_lost(cx, index, entry.id, why);
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
                    let Unread {
                        entry,
                        packet_id,
                        why,
                    } = unread;
                    self.tell_lost(cx, index, entry.id, why);
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
    fn tell_lost<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, id: MessageId, why: String) {
        cx.effects.lost.push(LostMessage {
            id,
            waited_for: self.sessions.at(index).client_id.to_string(),
            why,
        });
    }

    fn drop_damaged<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: StoredEntry) {
        self.drop_entry(cx, index, Taken::Stored(entry), DropReason::StoreDamaged);
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
        self.end_receipt(cx, index, (entry.id, entry.why), dropped);
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
        if !self.records.is_durable(message.record) {
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
            outbound.sent(packet_id);
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
        outbound.sent(packet_id);
        let ids = &entry.subscription_ids;
        let source = Source::Held(&entry.message);
        if let Err(reason) = self.send_publish(cx, connection, source, how, ids) {
            self.drop_in_flight(cx, (index, connection), packet_id, was_sent, reason);
        } else if lets_go && entry.can_be_let_go() {
            self.sessions.at(index).outbound.let_go(packet_id, entry);
        }
        Unsent::Sent
    }

    /// Messages that were sent need not stay in memory: the store has them, should they have to be
    /// sent again. Unless the topic of each dropped message is to be reported.
    fn lets_messages_go(&mut self, index: u32) -> bool {
        self.reads_back && !self.keeps_to_tell(index)
    }

    /// A connection took the session over: what was under way is sent again [MQTT-4.4.0-1].
    pub(crate) fn resume_outbound(&mut self, index: u32) {
        let session = self.sessions.at(index);
        session.outbound.restart();
        if fault::is(Fault::TakeoverForgetsInFlight)
            || fault::is(Fault::PartInFlightForgotten) && session.flags.part()
        {
            session.outbound.unsent_mut().clear();
        }
    }

    /// The connection is gone: what a share group handed over and was not sent goes back to it.
    pub(crate) fn pause_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        // Without bounds: as it was restored.
        let lost_by = match self.work.unbounded {
            true => Fault::ShareReturnLostAtStart,
            false => Fault::ShareReturnLostAway,
        };
        let queue = self.sessions.at(index).outbound.queue_used();
        for entry in queue.map(Queue::take_shared).unwrap_or_default() {
            self.return_shared(cx, index, entry, false, lost_by);
        }
        let window = self.window(index);
        let lets_go = self.lets_messages_go(index);
        let outbound = &mut self.sessions.at(index).outbound;
        if let Some(queue) = outbound.queue_used() {
            queue.put_away(window);
        }
        if lets_go {
            outbound.put_away();
        }
        outbound.rest_long();
    }

    /// The session ends with all it held.
    pub(crate) fn abandon_outbound<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let mut outbound = core::mem::take(&mut self.sessions.at(index).outbound);
        for (_, message) in outbound.in_flight.drain() {
            let sent_qos2 = message.sent_before && message.publish_qos() == Some(QoS::ExactlyOnce);
            if let Some(entry) = message.into_entry() {
                self.abandon(cx, index, entry, sent_qos2, Fault::ShareReturnLostAtEnd);
            }
        }
        let Some(waiting) = outbound.waiting else {
            return;
        };
        let mut queue = waiting.queue;
        for entry in queue.take_shared() {
            self.abandon(cx, index, entry, false, Fault::ShareReturnLostUnsent);
        }
        let is_told = self.tells_drop(index, "") || self.wants.any(Wants::TOPICS);
        let one_by_one = if is_told { TOLD_AT_END } else { 0 };
        for entry in queue.take_all().take(one_by_one) {
            self.abandon(cx, index, entry, false, Fault::ShareReturnLostUnsent);
        }
        let (left, wall_ms) = (queue.len() as u64, cx.now.wall_ms);
        self.count_drop(index, DropReason::SessionEnded, left, wall_ms);
        let client_id = &self.sessions.at(index).client_id;
        let receiver = Arc::clone(client_id);
        self.free_queue(EndedQueue { queue, receiver });
    }

    /// Gives the memory of a queue back, in later turns where that takes long.
    pub(crate) fn free_queue(&mut self, ended: EndedQueue) {
        let has_receipts = self.receipts.due() > 0 && !ended.queue.is_empty();
        if ended.queue.in_memory() > FREED_AT_ONCE || has_receipts {
            self.ended_queues.push_back(ended);
        }
    }

    /// Goes on giving back the memory of queues whose sessions have ended, and tells the receipts
    /// of what was in them.
    pub(crate) fn free_ended_queues<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while let Some(mut ended) = self.ended_queues.pop_front() {
            let mut freed = 0;
            for entry in ended.queue.take_all().take(FREED_AT_ONCE) {
                freed += FREED_MESSAGE;
                if entry.asks_for_receipt() {
                    let dropped = ReceiptOutcome::Dropped(DropReason::SessionEnded);
                    let receiver = Arc::clone(&ended.receiver);
                    self.end_receipt_of(cx, entry.id(), receiver, dropped);
                }
            }
            self.work.add(freed);
            self.free_queue(ended);
            if self.work.is_past(ENDS) {
                return;
            }
        }
    }

    fn abandon<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Taken,
        sent_qos2: bool,
        lost_by: Fault,
    ) {
        if entry.ticket().is_some() {
            self.return_shared(cx, index, entry, sent_qos2, lost_by);
        } else {
            let topic = entry.topic();
            self.drop_message(cx, index, DropReason::SessionEnded, 1, topic);
            let dropped = ReceiptOutcome::Dropped(DropReason::SessionEnded);
            self.end_receipt(cx, index, (entry.id(), entry.why()), dropped);
        }
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
        let source = Source::Held(message);
        if let Err(reason) = self.send_publish(cx, connection, source, how, &subscription_ids) {
            self.drop_message(cx, index, reason, 1, message.topic());
        } else if self.wants.any(TOLD_OF_DELIVERED) {
            self.tell_when_written(connection, &message.publication());
        }
    }

    /// The session that a stale handle names, if it is still there.
    pub(crate) fn live_session(&self, id: SessionId) -> Option<u32> {
        self.sessions.get(id).map(|_| id.index)
    }
}
