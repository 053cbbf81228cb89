//! Work of the shard of a member: joining and leaving, and what happens to a message that the group
//! handed over.

use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_permission::{Actions, Realm};
use smallvec::SmallVec;

use super::message::{Member, Reads, RulesVersion, ShareMessage};
use super::ticket::{GroupAddress, ShareOutcome, ShareTicket};
use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::id::{MessageId, SessionEpoch, SessionId};
use crate::node::{Cx, Node};
use crate::record::{EnqueuedAs, EntryRecord, Record, SubscriptionRecord};
use crate::routing::Routing;
use crate::session::queue::{Apart, Entry, TakenEntry};
use crate::shard::Shard;
use crate::subscribe::subscribers::SharedSubscription;

/// The answer of the group is not waited for.
const NO_SUBACK: usize = usize::MAX;

impl Shard {
    /// A session becomes a member, or changes its subscription.
    pub(crate) fn join_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
        token: usize,
    ) {
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let filter = subscription.filter.clone();
        let shared = SharedSubscription {
            number: subscription.number,
            qos: subscription.qos,
            subscription_id: subscription.subscription_id,
            retain_as_published: subscription.retain_as_published,
        };
        self.join_as(session, filter.clone(), shared);
        let member = self.member(session, shared);
        let to = self.owner(tenant, &filter);
        let join = ShareMessage::Join {
            tenant,
            filter,
            member,
            token,
        };
        self.share_send(cx, to, join);
    }

    /// A session as a member.
    pub(super) fn member(&mut self, session: u32, shared: SharedSubscription) -> Member {
        let address = self.address_of(session);
        let credit_max = self.settings.limits.share_credit.max(1);
        let state = self.sessions.at(session);
        let (connection, durable) = (state.connection(), state.durable);
        let quota = match connection {
            Some(connection) => self.connections.at(connection).send_quota,
            None => credit_max,
        };
        Member {
            address,
            qos: shared.qos,
            subscription_id: shared.subscription_id,
            copy: shared.copy(),
            retain_as_published: shared.retain_as_published,
            connected: connection.is_some(),
            durable,
            credit: credit_max.min(quota).max(1).into(),
            reads: self.reads_of(session),
            rules_version: self.rules_version_of(session),
            full_until: 0,
        }
    }

    fn rules_version_of(&mut self, session: u32) -> RulesVersion {
        let permit = self.sessions.at(session).permit.as_deref();
        match permit.is_some_and(|permit| permit.identity.realm != Realm::OWN_RULES) {
            true => self.permits.rules_version(),
            false => RulesVersion::ANY,
        }
    }

    /// Returns what a session's client may get, if that is not everything.
    fn reads_of(&mut self, session: u32) -> Option<Arc<Reads>> {
        let session = self.sessions.at(session);
        let permit = session.permit.as_deref()?;
        permit.is_restricted().then(|| {
            Arc::new(Reads {
                rules: Arc::clone(&permit.identity.rules),
                user_name: permit.identity.user_name.clone(),
                client_id: Arc::clone(&session.client_id),
            })
        })
    }

    /// A session unsubscribes from a group; false if it is no member.
    pub(crate) fn leave_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
    ) -> bool {
        let Some(filter) = self.leave_as(session, filter) else {
            return false;
        };
        self.send_leave(cx, session, filter);
        true
    }

    pub(crate) fn send_leave<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: Box<str>,
    ) {
        let member = self.address_of(session);
        let tenant = self.sessions.at(session).tenant;
        let to = self.owner(tenant, &filter);
        self.share_send(
            cx,
            to,
            ShareMessage::Leave {
                tenant,
                filter,
                member,
            },
        );
    }

    /// Tells all groups of a session that its client has come or gone, or may get other messages.
    pub(crate) fn send_presence<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        connected: bool,
    ) {
        let state = self.sessions.at(session);
        let tenant = state.tenant;
        let filters: SmallVec<[Box<str>; 4]> =
            state.subscriptions.groups().map(Box::from).collect();
        if filters.is_empty() {
            return;
        }
        if self.permits.reviews.is_under_way() {
            // Version of the rule book that decides what it may receive.
            self.review(session);
        }
        let reads = self.reads_of(session);
        let rules_version = self.rules_version_of(session);
        let member = self.address_of(session);
        for filter in filters {
            let to = self.owner(tenant, &filter);
            let message = ShareMessage::Presence {
                tenant,
                filter,
                member,
                connected,
                reads: reads.clone(),
                rules_version,
            };
            self.share_send(cx, to, message);
        }
    }

    /// Notifies the groups of a session that what its client may get has changed.
    pub(crate) fn send_reads<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: SessionId) {
        if let Some(session) = self.sessions.live(session) {
            let connected = self.admitted_connection(session).is_some();
            self.send_presence(cx, session, connected);
        }
    }

    /// A restored session joins its group again.
    pub(crate) fn restored_member<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
    ) {
        self.join_group(cx, session, subscription, NO_SUBACK);
    }

    /// Answers for a handed out message: `answer` is the member's session, if there is one, and
    /// the message.
    pub(crate) fn answer_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: &ShareTicket,
        answer: (Option<u32>, MessageId),
        outcome: ShareOutcome,
    ) {
        self.answer_group_as(cx, ticket, answer, outcome, None);
    }

    /// Answers, likewise; `refused` is the reason code with which the member has refused it.
    pub(crate) fn answer_group_as<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        ticket: &ShareTicket,
        (session, message): (Option<u32>, MessageId),
        outcome: ShareOutcome,
        refused: Option<ReasonCode>,
    ) {
        let (group, delivery) = (ticket.group, ticket.delivery);
        if message.wants_receipts() && outcome != ShareOutcome::Settled {
            let place = (group, delivery);
            let receipt = self.member_receipt(place, session, message, refused);
            self.share_send(cx, ticket.shard, ShareMessage::Receipt(receipt));
        }
        let answer = ShareMessage::Outcome {
            group,
            delivery,
            outcome,
        };
        self.share_send(cx, ticket.shard, answer);
    }

    /// Moves an entry that a share group handed out into the queue of a durable session. Answers
    /// the epoch of the group, for the record that is appended next.
    pub(crate) fn take_from_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        entry: &mut Entry,
    ) -> Option<SessionEpoch> {
        let recorded = entry.recorded;
        let ticket = entry.ticket.as_deref_mut();
        let ticket = ticket.filter(|ticket| recorded && !ticket.taken)?;
        ticket.taken = true;
        let ticket = *ticket;
        self.sessions.at(session).accounting.matched += 1;
        self.count_matched();
        let message = &entry.message;
        if message.id().wants_receipts() {
            let publisher = message.publication().publisher;
            self.parts.receipts.add(message.id(), publisher);
        }
        let answer = (Some(session), message.id());
        self.answer_group(cx, &ticket, answer, ShareOutcome::Taken);
        Some(ticket.epoch)
    }

    /// Gives what a share group handed over back to it, because the member is away or gone; except
    /// a QoS 2 message that was sent once, which is dropped [MQTT-4.8.2-5]. `lost_by` is the
    /// deliberate fault that loses it here.
    pub(crate) fn return_shared<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        entry: TakenEntry,
        sent_qos2: bool,
        lost_by: Fault,
    ) {
        let Some(ticket) = entry.ticket().copied() else {
            return;
        };
        if fault::is(lost_by) || self.is_return_lost(&ticket) {
            return self.entry_answered(cx, session, entry, ReasonCode::Success);
        }
        let sent_qos2 = sent_qos2 && !fault::is(Fault::ShareReturnsSentQos2);
        if !ticket.taken {
            let answer = (Some(session), entry.id());
            return self.answer_group(cx, &ticket, answer, ShareOutcome::Returned { sent_qos2 });
        }
        if sent_qos2 {
            return self.drop_entry(cx, session, entry, DropReason::SessionEnded);
        }
        let from = self.sessions.at(session).epoch;
        let (message, from_why) = (entry.message().cloned(), entry.why());
        let mut entry = match entry {
            TakenEntry::Held(entry) => entry.without_message(),
            TakenEntry::Stored(entry) => entry,
            // What is taken has a record.
            TakenEntry::Unkept(_) => return,
        };
        entry.why = EnqueuedAs::Routed;
        (entry.qos, entry.retain) = (ticket.qos, ticket.retain);
        entry.apart = Apart::default();
        let moved = Record::Moved {
            from,
            from_why,
            to: entry.record(ticket.epoch, cx.now),
        };
        self.append(cx, moved);
        self.sessions.at(session).accounting.matched -= 1;
        self.counters.matched -= 1;
        let receipt = match entry.id.wants_receipts() {
            true => self.parts.receipts.take(entry.id),
            false => None,
        };
        let receipt = receipt.map(|part| {
            let client_id = &self.sessions.at(session).client_id;
            Box::new((part, Arc::clone(client_id)))
        });
        let given_back = ShareMessage::GivenBack {
            group: ticket.group,
            epoch: ticket.epoch,
            delivery: ticket.delivery,
            entry: Box::new(entry),
            message,
            receipt,
        };
        self.share_send(cx, ticket.shard, given_back);
    }

    /// Whether a deliberate fault loses what goes back to a share group, wherever that happens.
    fn is_return_lost(&self, ticket: &ShareTicket) -> bool {
        let is_elsewhere = ticket.shard != self.id;
        let is_old = ticket.delivery == 0 && !self.work.unbounded;
        fault::is(Fault::ShareReturnLost)
            || is_elsewhere && fault::is(Fault::ShareReturnLostElsewhere)
            || is_old && fault::is(Fault::ShareReturnLostOld)
    }

    /// A client will not come back by the credentials it had: what share groups lent it goes back
    /// to them, as if its session had ended.
    pub(crate) fn return_all_shared<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        for packet_id in self.sessions.at(session).outbound.returnable() {
            if let Some(entry) = self.take_in_flight(session, packet_id) {
                self.return_shared(cx, session, entry, false, Fault::ShareReturnLost);
            }
        }
    }

    /// Creates the ticket of what a session had taken from a group before a restart.
    pub(crate) fn restored_ticket(
        &self,
        address: GroupAddress,
        entry: &EntryRecord,
    ) -> ShareTicket {
        ShareTicket {
            shard: address.shard,
            group: address.group,
            delivery: 0,
            epoch: address.epoch,
            taken: true,
            others: false,
            qos: entry.qos,
            retain: entry.retain,
        }
    }

    /// A group handed a message to a session of this shard.
    pub(super) fn member_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        member: SessionId,
        entry: Entry,
        though_away: bool,
    ) {
        let session = self.sessions.live(member);
        let connected = session.filter(|&session| self.sessions.at(session).connection.is_some());
        match (&entry.ticket, session, connected) {
            (Some(ticket), _, Some(session)) if self.has_no_room(session, ticket, &entry) => {
                let answer = (Some(session), entry.message.id());
                self.answer_group(cx, &ticket.clone(), answer, ShareOutcome::NoRoom);
            }
            (Some(_), _, Some(session)) => self.send_or_enqueue(cx, session, entry, None),
            (Some(_), Some(session), None) if though_away => self.enqueue(cx, session, entry),
            (Some(ticket), _, None) => {
                let outcome = match fault::is(Fault::ShareReturnLostOnTheWay) {
                    true => ShareOutcome::Acknowledged,
                    false => ShareOutcome::Returned { sent_qos2: false },
                };
                let answer = (session, entry.message.id());
                self.answer_group(cx, &ticket.clone(), answer, outcome);
            }
            (None, Some(session), _) => self.deliver_shared_qos0(cx, session, &entry),
            (None, None, _) => {
                self.count_matched();
                self.counters.drop_messages(DropReason::NoMember, 1);
                let publication = entry.message.publication();
                if publication.id.wants_receipts() {
                    let dropped = Err(DropReason::NoMember);
                    self.receipt_at_once(cx, &publication, Arc::default(), dropped);
                }
            }
        }
    }

    /// A member whose queue is full leaves a message to others, if they may have room.
    fn has_no_room(&mut self, session: u32, ticket: &ShareTicket, entry: &Entry) -> bool {
        let limits = &self.settings.limits;
        let (count_max, bytes_max) = (limits.queued_messages, limits.queued_bytes);
        let queue = self.sessions.at(session).outbound.queue();
        ticket.others
            && !queue.is_empty()
            && queue.is_full_for(entry.message.bytes(), count_max, bytes_max)
    }

    fn deliver_shared_qos0<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, entry: &Entry) {
        self.sessions.at(session).accounting.matched += 1;
        self.count_matched();
        let topic = entry.message.topic();
        if !self.permits(session, Actions::RECEIVE, topic) {
            self.drop_message(cx, session, DropReason::NotPermitted, 1, topic);
            let dropped = Err(DropReason::NotPermitted);
            return self.receipt_at_qos0(cx, session, &entry.message.publication(), dropped);
        }
        let mut routing = Routing::held(&entry.message);
        let (retain, ids) = (entry.retain, &entry.subscription_ids);
        match entry.message.id().wants_receipts() {
            true => self.deliver_qos0_with_receipt(cx, session, &mut routing, retain, ids),
            false => self.deliver_qos0(cx, session, &mut routing, retain, ids),
        }
    }
}
