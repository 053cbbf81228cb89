//! Work of the shard of a member: joining and leaving, and what happens to a message that the group
//! handed over.

use std::sync::Arc;

use martlet_permission::{Actions, Realm};
use smallvec::SmallVec;

use super::message::{Member, Reads, RulesVersion, ShareMessage};
use super::ticket::{GroupAddress, ShareOutcome, ShareTicket};
use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::id::SessionId;
use crate::node::{Cx, Node};
use crate::record::{EntryRecord, SubscriptionRecord};
use crate::routing::Routing;
use crate::session::queue::Entry;
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

    fn send_leave<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, filter: Box<str>) {
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
                let id = entry.message.id();
                self.answer_group(cx, &ticket.clone(), Some(session), id, ShareOutcome::NoRoom);
            }
            (Some(_), _, Some(session)) => self.send_or_enqueue(cx, session, entry, None),
            (Some(_), Some(session), None) if though_away => self.enqueue(cx, session, entry),
            (Some(ticket), _, None) => {
                let outcome = match fault::is(Fault::ShareReturnLostOnTheWay) {
                    true => ShareOutcome::Acknowledged,
                    false => ShareOutcome::Returned { sent_qos2: false },
                };
                let id = entry.message.id();
                self.answer_group(cx, &ticket.clone(), session, id, outcome);
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

    /// Ends the memberships of a session in share groups.
    pub(crate) fn leave_groups<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        for filter in self.leave_all(session) {
            self.send_leave(cx, session, filter);
        }
    }
}
