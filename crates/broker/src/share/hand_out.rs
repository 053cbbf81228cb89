//! A message on its way through a group: it comes, waits, is handed to a member, and ends.

use martlet_codec::QoS;
use martlet_permission::Limit;
use smallvec::SmallVec;

use super::group::{ASKED_AGAIN_AFTER, Choice, Outstanding};
use super::message::ShareMessage;
use super::ticket::{GroupId, ShareOutcome, ShareTicket};
use crate::counters::DropReason;
use crate::effect::{LostMessage, PageOf, QueueOwner, QueueRead, ReadMessage};
use crate::event::Event;
use crate::event_head::EventHead;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::id::{MessageId, SessionEpoch};
use crate::losses::limit_of;
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::part::interface::ReceiptOutcome;
use crate::record::{EnqueuedAs, MessageRecord, Record};
use crate::routing::Routing;
use crate::session::queue::{Entry, StoredEntry, TakenEntry, Window};
use crate::shard::Shard;
use crate::shortened::{digest_work, shortened};
use crate::work::{DELIVERY, EXPIRY, MEMBER_RULES};

/// Messages of a group's queue that are handed out at once: a member of QoS 0 takes any number.
const HANDED_OUT_AT_ONCE: usize = 256;

impl Shard {
    /// The filter of a group matched a message of this shard.
    pub(crate) fn group_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        routing: &mut Routing<'_>,
    ) {
        let (retain, qos) = (routing.publication.retain, routing.publication.qos);
        let message = self.hold(routing);
        self.count_matched();
        let group = &mut self.groups.slab[index as usize];
        group.accounting.matched += 1;
        if message.id().wants_receipts() {
            self.parts
                .receipts
                .begin(&routing.publication, qos > QoS::AtMostOnce);
        }
        let group = &mut self.groups.slab[index as usize];
        let entry = Entry {
            message,
            subscription_ids: SmallVec::new(),
            qos,
            retain,
            why: EnqueuedAs::Routed,
            recorded: routing.recorded && qos > QoS::AtMostOnce && group.durable,
            ticket: None,
        };
        let group = &mut self.groups.slab[index as usize];
        let waiting = !group.queue.is_empty();
        match waiting {
            true => group.members.retry_all(),
            false => group.retry_if_all_are_full(),
        }
        if waiting && qos > QoS::AtMostOnce {
            self.enqueue_for_group(cx, index, entry);
            self.serve_group(cx, index);
            return;
        }
        self.record_in_group(cx, index, &entry);
        let Some(entry) = self.hand_out(cx, index, entry) else {
            return;
        };
        if qos == QoS::AtMostOnce {
            let topic = routing.publication.topic;
            self.drop_in_group(cx, index, DropReason::NoMember, topic);
            if routing.publication.id.wants_receipts() {
                let group = self.groups.receiver(index);
                let dropped = Err(DropReason::NoMember);
                self.receipt_at_once(cx, &routing.publication, group, dropped);
            }
        } else {
            self.enqueue_recorded_for_group(cx, index, entry);
        }
    }

    /// An entry is the group's now.
    fn record_in_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &Entry) {
        if entry.recorded {
            let epoch = self.groups.slab[index as usize].epoch;
            let record = Record::Enqueued(entry.record(epoch, cx.now));
            self.append(cx, record);
        }
    }

    /// A message that came when no member had a durable session goes to a durable member: it gets
    /// its record now. Else its Packet Identifier would be given again after a restart, while the
    /// client still knows it.
    fn record_late<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &mut Entry) {
        entry.recorded = true;
        let id = entry.message.id();
        let message = MessageRecord {
            message: entry.message.clone(),
            // The session matters only for the receiver of receipts.
            publisher: id.wants_receipts().then(SessionEpoch::default),
            receipt: None,
            retained_revision: None,
            replaces: None,
            to_be_routed: true,
            will_of: None,
        };
        self.append(cx, Record::Message(message));
        self.record_in_group(cx, index, entry);
        self.append(cx, Record::Routed(id));
    }

    /// An entry of the group has come to its end.
    fn group_entry_ended<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &TakenEntry) {
        if entry.recorded() {
            let epoch = self.groups.slab[index as usize].epoch;
            let (message, why) = (entry.id(), entry.why());
            let record = Record::EntryEnded {
                epoch,
                message,
                why,
            };
            self.append(cx, record);
        }
    }

    /// Hands out what waits, as far as credit goes, at most [`HANDED_OUT_AT_ONCE`] messages.
    pub(crate) fn serve_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let group = &mut self.groups.slab[index as usize];
        group.retry_if_all_are_full();
        if group.queue.is_empty() || group.put_off || !group.has_taker() {
            return;
        }
        let mut left = HANDED_OUT_AT_ONCE;
        while let Some(entry) = self.groups.slab[index as usize].queue.pop_front() {
            self.work.add(DELIVERY);
            let back = match entry.message.expired(cx.now.mono_ms) {
                true => {
                    self.expire_in_group(cx, index, &TakenEntry::Held(entry));
                    None
                }
                false => self.hand_out(cx, index, entry),
            };
            if let Some(entry) = back {
                if fault::is(Fault::ShareReturnedByTurn) {
                    self.lent_entry_ended(cx, index, entry, ShareOutcome::Acknowledged);
                } else {
                    self.groups.slab[index as usize].queue.push_front(entry);
                }
                break;
            }
            left -= 1;
            if left == 0 && !self.work.unbounded {
                let group = &mut self.groups.slab[index as usize];
                group.put_off = true;
                let generation = group.generation;
                self.groups.put_off.push_back(GroupId { index, generation });
                return;
            }
        }
        let group = &mut self.groups.slab[index as usize];
        let generation = group.generation;
        if group.has_taker()
            && let Some(messages) = group.queue.page_to_read()
        {
            let owner = QueueOwner::Group(GroupId { index, generation });
            cx.effects.reads.push(QueueRead {
                owner,
                of: PageOf::Queue,
                messages,
                with_publishers: false,
            });
        }
    }

    /// Messages of a group have come from the store.
    pub(crate) fn group_messages_read<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        page: Vec<ReadMessage>,
    ) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let queue = &mut self.groups.slab[index as usize].queue;
        for (entry, why) in queue.page_read(page.into_iter()) {
            cx.effects.lost.push(LostMessage {
                id: entry.id,
                waited_for: self.groups.slab[index as usize].filter.to_string(),
                why,
            });
            self.drop_taken(
                cx,
                index,
                &TakenEntry::Stored(entry),
                DropReason::StoreDamaged,
            );
        }
        self.serve_group(cx, index);
    }

    /// Takes what has expired out of a group's queue, of its next `limit` entries. Answers whether
    /// there are more to be looked at.
    pub(crate) fn expire_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        limit: usize,
    ) -> bool {
        let Some(index) = self.groups.live(id) else {
            return false;
        };
        let queue = &mut self.groups.slab[index as usize].queue;
        let expired = queue.take_expired(cx.now.mono_ms, limit);
        self.work.add(expired.looked_at as u64 * EXPIRY);
        for entry in expired.entries {
            self.expire_in_group(cx, index, &entry);
        }
        expired.more
    }

    fn expire_in_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: &TakenEntry) {
        self.group_entry_ended(cx, index, entry);
        self.groups.slab[index as usize].accounting.expired += 1;
        self.counters.expired += 1;
        self.end_receipt_in_group(cx, index, entry.id(), ReceiptOutcome::Expired);
    }

    /// A message has come to its end in a group, without a member.
    fn end_receipt_in_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        message: MessageId,
        outcome: ReceiptOutcome,
    ) {
        if message.wants_receipts() {
            let receiver = self.groups.receiver(index);
            self.end_receipt_of(cx, message, receiver, outcome);
        }
    }

    /// Gives a message to the member whose turn it is, or drops it if no member may have it. Gives
    /// it back if no member can take it now. With the QoS granted to that member [MQTT-4.8.2-3].
    pub(super) fn hand_out<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        mut entry: Entry,
    ) -> Option<Entry> {
        let (shard, rules_version) = (self.id, self.permits.rules_version());
        let group = &mut self.groups.slab[index as usize];
        let choice = group.choose(&entry.message, entry.qos, rules_version);
        if !matches!(choice, Choice::Member(_)) && group.members.is_any_restricted() {
            // The rules of all of them were looked at, some several times.
            self.work.add(group.members.len() as u64 * MEMBER_RULES);
        }
        let chosen = match choice {
            Choice::Member(chosen) => chosen,
            Choice::Later => return Some(entry),
            Choice::Nobody(reason) => {
                self.drop_for_all(cx, index, entry, reason);
                return None;
            }
        };
        let member = group.members.at(chosen);
        let though_away = !member.connected;
        let qos = entry.qos.min(member.qos);
        if member.durable && !entry.recorded && qos > QoS::AtMostOnce {
            self.record_late(cx, index, &mut entry);
        }
        let group = &mut self.groups.slab[index as usize];
        let others = group.members.may_others_have(&entry.message, chosen);
        let member = group.members.at(chosen);
        let retain = entry.retain && member.retain_as_published;
        let (address, subscription_id) = (member.address, member.subscription_id);
        let copy = member.copy;
        let recorded = entry.recorded && member.durable;
        let message = entry.message.clone();
        let ticket = if qos == QoS::AtMostOnce {
            // It is the member's from here on: matched moves with it.
            group.accounting.matched -= 1;
            self.counters.matched -= 1;
            if entry.qos > QoS::AtMostOnce && entry.message.id().wants_receipts() {
                self.parts.receipts.take(entry.message.id());
            }
            self.group_entry_ended(cx, index, &TakenEntry::Held(entry));
            None
        } else {
            group.members.spend_credit(chosen);
            let delivery = group.next_delivery;
            group.next_delivery += 1;
            let generation = group.generation;
            let ticket = ShareTicket {
                shard,
                group: GroupId { index, generation },
                delivery,
                epoch: group.epoch,
                taken: false,
                others,
                qos: entry.qos,
                retain: entry.retain,
            };
            let held = Outstanding {
                entry: Some(entry),
                member: address,
                place: chosen,
            };
            if group.outstanding.insert_new(delivery, held) {
                self.groups.charge(index);
            }
            Some(ticket)
        };
        let member = address.session;
        let message = ShareMessage::Deliver {
            member,
            message,
            qos,
            retain,
            subscription_id,
            ticket,
            recorded,
            copy,
            though_away,
        };
        self.share_send(cx, address.shard, message);
        None
    }

    /// No member can have it, whether it is there or not.
    fn drop_for_all<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        reason: DropReason,
    ) {
        self.drop_taken(cx, index, &TakenEntry::Held(entry), reason);
    }

    /// Drops a message that was taken out of a group's queue because memory is short.
    pub(crate) fn drop_taken_from_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        entry: &TakenEntry,
    ) {
        if let Some(index) = self.groups.live(id) {
            self.drop_taken(cx, index, entry, DropReason::MemoryFull);
        }
    }

    fn drop_taken<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: &TakenEntry,
        reason: DropReason,
    ) {
        self.group_entry_ended(cx, index, entry);
        self.drop_in_group(cx, index, reason, entry.topic());
        self.end_receipt_in_group(cx, index, entry.id(), ReceiptOutcome::Dropped(reason));
    }

    pub(super) fn outcome_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        delivery: u64,
        outcome: ShareOutcome,
    ) {
        if self.parts.receipts.has_answers() {
            self.end_receipt_of_member(cx, id, delivery, outcome);
        }
        let Some(index) = self.groups.live(id) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        if outcome == ShareOutcome::Taken {
            if let Some(lent) = group.outstanding.get_mut(&delivery)
                && lent.entry.take().is_some()
            {
                // It is the member's from here on: matched moves with it.
                group.accounting.matched -= 1;
                self.counters.matched -= 1;
            }
            return;
        }
        let returned = ShareOutcome::Returned { sent_qos2: false };
        let outcome = match group.is_return_lost(delivery) {
            true if outcome == returned => ShareOutcome::Acknowledged,
            _ => outcome,
        };
        let Some(ended) = group.outstanding.remove(&delivery) else {
            return;
        };
        if let Some(place) = group.members.find_at(ended.place, ended.member) {
            let no_room = outcome == ShareOutcome::NoRoom;
            let until = no_room.then_some(group.next_delivery + ASKED_AGAIN_AFTER);
            group.members.return_credit(place, until);
        }
        if let Some(entry) = ended.entry {
            self.lent_entry_ended(cx, index, entry, outcome);
        }
        self.serve_group(cx, index);
    }

    /// Ends the receipt of a message that asks for receipts, if it ends by this answer.
    #[cold]
    #[inline(never)]
    fn end_receipt_of_member<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: GroupId,
        delivery: u64,
        answer: ShareOutcome,
    ) {
        let Some(receipt) = self.parts.receipts.take_answer(id, delivery) else {
            return;
        };
        let Some(index) = self.groups.live(id) else {
            return self.end_receipt_without_group(cx, receipt, answer);
        };
        let outstanding = &self.groups.slab[index as usize].outstanding;
        let lent = outstanding.get(&delivery);
        if lent.is_none_or(|lent| lent.entry.is_none()) {
            return;
        }
        if answer == ShareOutcome::Taken {
            // The member holds it.
            self.parts.receipts.take(receipt.message);
        } else if let Some(outcome) = receipt.outcome(answer) {
            self.end_receipt_of(cx, receipt.message, receipt.receiver, outcome);
        }
    }

    /// A message that the group held while a member had it has come to its end there.
    fn lent_entry_ended<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
        outcome: ShareOutcome,
    ) {
        let returned = ShareOutcome::Returned { sent_qos2: false };
        let outcome = match outcome {
            ShareOutcome::NoRoom if fault::is(Fault::ShareReturnedFull) => {
                ShareOutcome::Acknowledged
            }
            _ if outcome == returned && fault::is(Fault::ShareReturnedLent) => {
                ShareOutcome::Acknowledged
            }
            _ => outcome,
        };
        if outcome == returned || outcome == ShareOutcome::NoRoom {
            self.groups.slab[index as usize].queue.push_front(entry);
            return;
        }
        let entry = TakenEntry::Held(entry);
        self.group_entry_ended(cx, index, &entry);
        match outcome {
            ShareOutcome::Dropped(reason) => self.drop_in_group(cx, index, reason, entry.topic()),
            ShareOutcome::Returned { .. } | ShareOutcome::Settled => {
                let reason = DropReason::SessionEnded;
                self.drop_in_group(cx, index, reason, entry.topic());
            }
            _ => {}
        }
        if let TakenEntry::Held(entry) = entry {
            self.buffers.messages.put_back(entry.message);
        }
        let group = &mut self.groups.slab[index as usize];
        match outcome {
            ShareOutcome::Acknowledged => {
                group.accounting.delivered += 1;
                self.counters.delivered += 1;
            }
            ShareOutcome::Expired => {
                group.accounting.expired += 1;
                self.counters.expired += 1;
            }
            ShareOutcome::Dropped(_)
            | ShareOutcome::Returned { .. }
            | ShareOutcome::NoRoom
            | ShareOutcome::Taken
            | ShareOutcome::Settled => {}
        }
    }

    /// A message that a member had taken comes back. That is recorded already.
    pub(super) fn given_back(&mut self, index: u32, entry: StoredEntry, message: Option<Message>) {
        let window = self.group_window(index);
        self.count_matched();
        let group = &mut self.groups.slab[index as usize];
        group.accounting.matched += 1;
        match message {
            Some(message) if window != Window::Nothing => {
                group.queue.push_front(entry.with(message))
            }
            Some(message) => group.queue.push_back(entry.with(message), window),
            None => group.queue.push_back_stored(&entry, &self.memory.gauge),
        }
        let generation = group.generation;
        self.watch_queue_expiry(QueueOwner::Group(GroupId { index, generation }));
    }

    /// How much of a group's queue is kept in memory.
    fn group_window(&self, index: u32) -> Window {
        let group = &self.groups.slab[index as usize];
        self.store.window_of(group.members.is_any_present())
    }

    fn enqueue_for_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32, entry: Entry) {
        self.record_in_group(cx, index, &entry);
        self.enqueue_recorded_for_group(cx, index, entry);
    }

    /// As [`Shard::enqueue_for_group`], for an entry whose record is appended already.
    fn enqueue_recorded_for_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        entry: Entry,
    ) {
        let limits = &self.settings.limits;
        let (count_max, mut bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let is_in_memory = !(self.store.reads_back && entry.recorded);
        if is_in_memory {
            // As a client, it has no more than a share of the memory.
            bytes_max = bytes_max.min(self.memory.client_bytes_max as u64);
        }
        let window = self.memory.window_for_more(self.group_window(index));
        let queue = &self.groups.slab[index as usize].queue;
        let needs_memory = !(entry.recorded && queue.would_store(window));
        if needs_memory && self.memory.is_spent() {
            return self.drop_taken(cx, index, &TakenEntry::Held(entry), DropReason::MemoryFull);
        }
        // A group has no connection to end: its newest message goes unless the oldest may.
        let oldest = self.settings.queue_full == crate::limits::QueueFull::DropOldest;
        let bytes = entry.message.bytes();
        let fits = bytes as u64 <= bytes_max;
        loop {
            let queue = &mut self.groups.slab[index as usize].queue;
            if !queue.is_full_for(bytes, count_max, bytes_max) {
                break;
            }
            if queue.begins_to_drop() {
                let messages = queue.len();
                let group = &self.groups.slab[index as usize];
                let head = EventHead::new(group.tenant, &*group.filter);
                let limit = self.limit_at(index, is_in_memory);
                self.notify_queue_full(cx, head, messages, limit);
                let _ = self.groups.losses_mut(index);
                let owner = QueueOwner::Group(self.groups.id_of(index));
                self.notify_queue_losses_later(cx, owner, limit);
            }
            let queue = &mut self.groups.slab[index as usize].queue;
            let oldest_entry = match oldest && fits {
                true => queue.take_oldest(),
                false => None,
            };
            let Some(oldest_entry) = oldest_entry else {
                return self.drop_taken(cx, index, &TakenEntry::Held(entry), DropReason::QueueFull);
            };
            self.drop_taken(cx, index, &oldest_entry, DropReason::QueueFull);
        }
        let group = &mut self.groups.slab[index as usize];
        group.queue.push_back(entry, window);
        let generation = group.generation;
        self.watch_queue_expiry(QueueOwner::Group(GroupId { index, generation }));
    }

    /// The bound that the queue of a group is at.
    pub(crate) fn limit_of_group(&self, id: GroupId) -> Option<Limit> {
        let index = self.groups.live(id)?;
        let recorded = self.groups.slab[index as usize].recorded;
        Some(self.limit_at(index, !(self.store.reads_back && recorded)))
    }

    fn limit_at(&self, index: u32, is_in_memory: bool) -> Limit {
        let limits = &self.settings.limits;
        let is_share = is_in_memory && (self.memory.client_bytes_max as u64) < limits.queued_bytes;
        // One may have just been taken out.
        let messages = self.groups.slab[index as usize].queue.len() + 1;
        match messages >= limits.queued_messages as usize {
            true => Limit::QueuedMessages,
            false if is_share => Limit::MemoryShare,
            false => Limit::QueuedBytes,
        }
    }

    /// Counts a message that a group did not get, and notifies observers.
    fn drop_in_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        reason: DropReason,
        topic: &str,
    ) {
        self.groups.slab[index as usize].accounting.dropped += 1;
        self.counters.drop_messages(reason, 1);
        let losses = self.groups.losses_mut(index);
        losses.count_drop(reason, 1, cx.now.wall_ms);
        let owner = QueueOwner::Group(self.groups.id_of(index));
        if self.observers.wants.any(Wants::CONNECTIONS) {
            self.notify_losses_of(cx, owner, reason, topic);
        }
        if self.is_group_drop_observed(topic) {
            let limit = match reason {
                DropReason::QueueFull => self.limit_of_group(self.groups.id_of(index)),
                reason => limit_of(reason),
            };
            let limit = limit.map(|limit| self.reached(limit, None));
            let group = &self.groups.slab[index as usize];
            self.work
                .add(digest_work(topic) + digest_work(&group.filter));
            cx.effects.notify(
                EventHead::new(group.tenant, &*group.filter),
                Event::Dropped {
                    topic: shortened(topic).into_owned(),
                    stored: None,
                    reason,
                    limit,
                    refused: None,
                },
            );
        }
    }
}
