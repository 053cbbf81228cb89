//! Bringing a shard back to where the store left it. `persistence` reads the store and calls these
//! before any listener opens, in this order: [`Shard::begin_run`], groups, sessions, entries; then
//! subscriptions and messages not yet routed, in the order of their records, so that a message is
//! routed only to subscriptions made before it; at last [`Shard::restored`].
//!
//! Which shard a session or group belongs to follows from its name, so the number of shards may
//! differ from one run to the next.

use std::sync::Arc;

use martlet_codec::{PacketId, ProtocolVersion, SubscriptionFilter};
use martlet_permission::{RefusalCause, TenantId};

use crate::effect::QueueOwner;
use crate::fault::{self, Fault};
use crate::gauge::MemoryGauge;
use crate::id::{RecordNumber, SessionAddress, SessionEpoch};
use crate::message::Message;
use crate::node::{Cx, Node};
use crate::record::{EnqueuedAs, EntryRecord, Record, SessionRecord, SubscriptionRecord};
use crate::run::Run;
use crate::session::Session;
use crate::session::permit::Permit;
use crate::session::queue::{Apart, StoredEntry};
use crate::session::receipts::Receipts;
use crate::shard::Shard;
use crate::share::ticket::GroupAddress;
use crate::timer::Timer;

/// A session does not expire sooner after a start, so that its client can come back; once.
const EXPIRY_AFTER_START_MS: u64 = 60_000;

impl Shard {
    /// Begins a run of the node, whose messages and sessions get names that no earlier run has
    /// given. From here on queues keep their messages in the store and ask for them
    /// ([`QueueRead`](crate::QueueRead)).
    pub fn begin_run(&mut self, run: Run) {
        self.begin_names(run);
        self.store.reads_back = true;
        self.work.unbounded = true;
    }

    /// Returns what counts the bytes of this shard's messages, for those that are read from the
    /// store.
    pub fn gauge(&self) -> Arc<MemoryGauge> {
        Arc::clone(&self.memory.gauge)
    }

    /// Brings a share group back.
    pub fn restore_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        epoch: SessionEpoch,
    ) -> GroupAddress {
        self.restored_group(cx, tenant, filter, epoch)
    }

    /// Brings a session back, with the Packet Identifiers of its QoS 2 receipts. Whose client was
    /// connected counts as lost from now on. Of two sessions of one client, which only damage can
    /// leave behind, the younger stays: none if this is not it.
    pub fn restore_session<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        record: &SessionRecord,
        receipt_ids: impl Iterator<Item = PacketId>,
    ) -> Option<SessionAddress> {
        if let Some(other) = self.sessions.find(record.tenant, &record.client_id) {
            if self.sessions.at(other).epoch.age() >= record.epoch.age() {
                self.append(cx, Record::Ended(record.epoch));
                return None;
            }
            self.discard_will(other);
            self.end_session(cx, other, RefusalCause::NewerSession);
        }
        let mut receipts = Receipts::default();
        if !fault::is(Fault::ReceiptsNotRestored) {
            receipt_ids
                .for_each(|id| receipts.insert_receipt(id, RecordNumber(0), &self.memory.gauge));
        }
        let ends_soon = record.expiry_secs == 0;
        let client_id = Arc::clone(&record.client_id);
        let mut state = Session::new(record.tenant, client_id, record.epoch);
        state.version = record.version.unwrap_or(ProtocolVersion::V5);
        state.expiry_secs = record.expiry_secs;
        // One without expiry is remembered for its Will alone.
        state.durable = record.durable && !ends_soon;
        state.recorded = true;
        state.set_left_wall_ms(record.left_wall_ms.unwrap_or(cx.now.record_ms));
        state.flags.set_put_off(record.put_off);
        state.flags.set_was_there(record.left_wall_ms.is_none());
        state.flags.set_part(record.part.is_some());
        let keeps_qos0 = record.part.is_some_and(|part| part.keeps_qos0);
        let keeps_qos0 = keeps_qos0 && !fault::is(Fault::KeepsQos0NotRestored);
        state.flags.set_keeps_qos0(keeps_qos0);
        state.receipts = receipts;
        let owner = record.owner.as_ref();
        state.permit = owner.map(|owner| Box::new(Permit::restored(owner, record.tenant)));
        let session = self.sessions.insert(state);
        if let Some(terms) = record.part {
            self.begin_lane(session, terms.reach);
            self.bound_restored_queue(cx, session, terms.queue);
        }
        self.replace_will(session, record.will.clone());
        // What was stored is restored, even beyond the limit in force now.
        let _ = self.take_session(cx, record.tenant, record.part.is_some(), usize::MAX);
        if let Some(owner) = owner.filter(|owner| owner.is_counted)
            && let Some(user_name) = &owner.user_name
        {
            let tenant = record.tenant;
            cx.node.borrow_user_session(tenant, user_name, u32::MAX);
        }
        self.arm_restored(cx, session, record);
        Some(self.address_of(session))
    }

    /// When a restored session and its Will end, if the client does not come back.
    fn arm_restored<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, record: &SessionRecord) {
        let id = self.sessions.id_of(session);
        let now = cx.now;
        let elapsed_ms = record
            .left_wall_ms
            .map_or(0, |left_ms| now.record_ms.saturating_sub(left_ms));
        let expiry_ms = u64::from(record.expiry_secs) * 1000;
        if !matches!(record.expiry_secs, 0 | u32::MAX) {
            let mut left_ms = expiry_ms.saturating_sub(elapsed_ms);
            let soonest_ms = expiry_ms.min(EXPIRY_AFTER_START_MS);
            let state = self.sessions.at(session);
            if left_ms < soonest_ms && !record.put_off {
                left_ms = soonest_ms;
                let ends_ms = now.record_ms + left_ms;
                state.set_left_wall_ms(ends_ms.saturating_sub(expiry_ms));
                state.flags.set_put_off(true);
            }
            let timer = self
                .timers
                .wheel
                .arm(now.mono_ms + left_ms, Timer::SessionExpiry(id));
            self.sessions.at(session).expiry_timer = Some(timer);
        }
        if let Some(will) = &record.will {
            let grace_ms = u64::from(self.settings.limits.will_restart_secs) * 1000;
            let delay_ms = u64::from(will.delay_secs) * 1000;
            let left_ms = delay_ms.min(expiry_ms).saturating_sub(elapsed_ms);
            let due_ms = now.mono_ms + left_ms.max(grace_ms);
            let timer = self.timers.wheel.arm(due_ms, Timer::WillDelay(id));
            self.sessions.at(session).will_timer = Some(timer);
        }
        let state = self.sessions.at(session);
        let changed = record.left_wall_ms.is_none() || state.flags.put_off() != record.put_off;
        if changed && record.expiry_secs > 0 {
            // The next restart does not begin to count anew, nor puts it off once more.
            let record = self.session_record(session);
            self.append(cx, record);
        }
    }

    /// Brings an entry of a session's queue back, or in flight if it has a Packet Identifier, in
    /// the queue's order. `group` is where it comes from if a share group handed it over, `part`
    /// the session of the part that has asked for receipts of it.
    pub fn restore_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: SessionAddress,
        record: EntryRecord,
        group: Option<GroupAddress>,
        part: Option<SessionAddress>,
    ) {
        let Some(index) = self.restorable(session) else {
            return;
        };
        let ticket = group.map(|group| Box::new(self.restored_ticket(group, &record)));
        let lost = fault::is(Fault::PacketIdNotRestored);
        let packet_id = record.packet_id.filter(|_| !lost);
        let released = record.released && !fault::is(Fault::PubRecNotRestored) && !lost;
        let entry = stored_entry(cx, record, ticket);
        if !released {
            self.sessions.at(index).accounting.matched += 1;
            self.counters.matched += 1;
            self.parts.receipts.add(entry.id, part);
        }
        if let EnqueuedAs::Retained(copy) = entry.why {
            let subscriptions = &mut self.sessions.at(index).subscriptions;
            subscriptions.retained_copy_taken(copy);
        }
        let outbound = &mut self.sessions.at(index).outbound;
        match packet_id {
            Some(packet_id) => {
                outbound.restore_in_flight(packet_id, entry, released, &self.memory.gauge);
            }
            None => outbound
                .queue_mut()
                .push_back_stored(&entry, &self.memory.gauge),
        }
        self.watch_queue_expiry(QueueOwner::Session(session.session));
    }

    /// Brings an entry of a share group's queue back, in the queue's order. `part` is as for
    /// [`Shard::restore_entry`].
    pub fn restore_group_entry<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        group: GroupAddress,
        record: EntryRecord,
        part: Option<SessionAddress>,
    ) {
        let entry = stored_entry(cx, record, None);
        self.restored_group_entry(group.group, &entry, part);
    }

    /// Brings a subscription back; it matches from now on.
    pub fn restore_subscription<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: SessionAddress,
        record: &SubscriptionRecord,
    ) {
        let Some(index) = self.restorable(session) else {
            return;
        };
        let Ok(parsed) = SubscriptionFilter::parse(&record.filter) else {
            return;
        };
        let subscriptions = &mut self.sessions.at(index).subscriptions;
        subscriptions.number_taken(record.number);
        if parsed.share_name.is_some() {
            self.restored_member(cx, index, record);
            return self.settle(cx);
        }
        if self.parts.lanes.enter_subscription(session.session, record) {
            if !fault::is(Fault::LaneRouteStays) {
                // What was routed again meanwhile was routed without it.
                self.router.cache.begin_anew();
            }
            return;
        }
        self.enter_subscription(cx, index, record);
        if record.retained_pending {
            self.owe_retained(index, record);
        }
    }

    /// Brings a retained message, or a clearing, back. `publisher` is the Client Identifier that it
    /// was published with.
    pub fn restore_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: Message,
        publisher: Option<&str>,
        revision: u64,
    ) {
        let now_ms = cx.now.mono_ms;
        let publisher = publisher.map(|client_id| self.client_key(message.tenant(), client_id));
        let older = cx
            .node
            .retained(|store| store.restore(message, publisher, revision, now_ms));
        if let Some(older) = older {
            self.append(cx, Record::RetainedEnded(older));
        }
    }

    /// Routes a message of which not everybody's entry was recorded before the restart; `had` are
    /// those who have or had one.
    pub fn route_again<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: &Message,
        had: &[SessionEpoch],
    ) {
        self.route_recorded_again(cx, message, had);
        self.settle(cx);
    }

    /// All has been brought back: what share groups had handed to members that are away now goes
    /// to others, and sessions that were only remembered end.
    pub fn restored<N: Node>(&mut self, cx: &mut Cx<'_, N>, groups: &[GroupAddress]) {
        // Members of this shard's own groups have yet to join them.
        self.settle(cx);
        let sessions: Vec<u32> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in sessions {
            self.pause_outbound(cx, index);
            let session = self.sessions.at(index);
            if session.expiry_secs == 0 && session.will.is_none() {
                self.end_session(cx, index, RefusalCause::EndedWhileDown);
            }
        }
        for group in groups {
            self.end_group_without_members(cx, group.group);
        }
        self.settle(cx);
        self.work.unbounded = false;
    }

    /// The place of a restored session whose subscriptions and messages come back too.
    fn restorable(&mut self, session: SessionAddress) -> Option<u32> {
        let index = self.sessions.live(session.session)?;
        self.sessions.at(index).durable.then_some(index)
    }
}

fn stored_entry<N: Node>(
    cx: &Cx<'_, N>,
    record: EntryRecord,
    ticket: Option<Box<crate::share::ticket::ShareTicket>>,
) -> StoredEntry {
    StoredEntry {
        id: record.message,
        why: record.why,
        qos: record.qos,
        retain: record.retain,
        bytes: record.bytes,
        expires_at_ms: cx
            .now
            .mono_ms_of(u64::from(record.expires_wall_secs) * 1000),
        apart: Apart {
            subscription_ids: record.subscription_ids,
            ticket,
            message: None,
        },
    }
}
