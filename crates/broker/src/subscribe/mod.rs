//! SUBSCRIBE and UNSUBSCRIBE, from the packet to its answer (MQTT 5 sections 3.8 to 3.11).
//!
//! How a packet is worked off in turns is `packets`'s affair, where subscriptions are kept and
//! found `subscribers`'s, what a new one is owed of the retained messages `retained`'s.

pub(crate) mod half_done;
pub(crate) mod index;
mod listed;
mod packets;
mod retained;
pub(crate) mod retained_pending;
pub(crate) mod suback;
pub(crate) mod subscribers;
mod table;
pub(crate) mod under_way;

use std::sync::Arc;

use martlet_codec::{
    PacketId, QoS, ReasonCode, RetainHandling, SubAck, SubscribeFilter, SubscriptionFilter,
};
use martlet_permission::{Limit, Refusal, RefusalCause};

use crate::event::Event;
use crate::event_interest::Wants;
use crate::fault::{self, Fault};
use crate::id::RecordNumber;
use crate::limits::ListenerPolicy;
use crate::node::{Cx, Node};
use crate::record::{Record, SHARED_COPIES, SubscriptionRecord};
use crate::report::{Answer, RetainedAtSubscribe, SubscriptionInfo};
use crate::routing::Target;
use crate::shard::Shard;
use crate::shortened::shortened;
use crate::subscribe::suback::{PendingSubAck, SubscribeOrigin};
use crate::subscribe::subscribers::Subscriptions;

/// Terms by which subscriptions are granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Retain Handling holds.
    pub(crate) v5: bool,
    pub(crate) listener: Arc<ListenerPolicy>,
    /// RETAIN is kept as published, and what the client published does not come back to it.
    pub(crate) bridge: bool,
}

impl Terms {
    /// No Local of a subscription. Those of share groups have none [MQTT-3.8.3-4].
    fn no_local(&self, requested: &SubscribeFilter<'_>) -> bool {
        let is_shared = || {
            SubscriptionFilter::parse(requested.filter)
                .is_ok_and(|parsed| parsed.share_name.is_some())
        };
        requested.options.no_local || self.bridge && !is_shared()
    }
}

/// Bytes of an acknowledgement beside reason codes and Reason String, at most.
pub(crate) const ANSWER_OVERHEAD: usize = 16;

/// Result of one filter of a SUBSCRIBE.
pub(crate) struct Granted {
    pub(crate) reason: ReasonCode,
    /// The limit that forbids it, if one does.
    pub(crate) limit: Option<Limit>,
    /// A share group on this or another shard has been asked.
    pub(crate) joining: bool,
}

impl Granted {
    fn refused(reason: ReasonCode) -> Self {
        Self {
            reason,
            limit: None,
            joining: false,
        }
    }

    fn beyond(reason: ReasonCode, limit: Limit) -> Self {
        Self {
            limit: Some(limit),
            ..Self::refused(reason)
        }
    }
}

impl Shard {
    /// A share group knows its member now; the last answer sends the SUBACK.
    pub(crate) fn joined<N: Node>(&mut self, cx: &mut Cx<'_, N>, token: usize) {
        let Some(PendingSubAck { origin, record, .. }) = self.subscribing.subacks.joined(token)
        else {
            return;
        };
        if let SubscribeOrigin::Client { connection, .. } = &origin
            && let Some(connection) = self.connections.get_mut(*connection)
        {
            connection.remove_answer_bytes(origin.bytes());
        }
        match origin {
            SubscribeOrigin::Client {
                connection,
                packet_id,
                codes,
                why,
            } => {
                let connection = self.connections.get(connection).map(|_| connection.index);
                if let Some(index) = connection
                    && self.connections.at(index).session().is_some()
                {
                    self.answer_subscribe(cx, index, packet_id, &codes, why, record);
                }
            }
            SubscribeOrigin::Unfinished => {}
            SubscribeOrigin::Operator { request, codes } => {
                let answer = Answer::Subscribe(Some(codes));
                self.answer_operator(cx, request, answer, record);
            }
        }
    }

    /// Returns the terms by which the client of a connection is granted subscriptions.
    pub(crate) fn terms_of(&mut self, index: u32) -> Terms {
        let connection = self.connections.at(index);
        Terms {
            v5: connection.version.is_v5(),
            listener: Arc::clone(connection.listener()),
            bridge: connection.flags.bridge(),
        }
    }

    /// SUBACK; v5 clients that asked for Reason Strings get the reason for which a filter was
    /// refused [MQTT-3.9.2-1]. No User Properties are sent [MQTT-3.9.2-2], [MQTT-3.11.2-1],
    /// [MQTT-3.11.2-2].
    fn answer_subscribe<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: PacketId,
        codes: &[u8],
        why: Option<&str>,
        record: RecordNumber,
    ) {
        let version = self.connections.at(index).version;
        let room = codes.len() + why.map_or(0, str::len) + ANSWER_OVERHEAD;
        let why = why.filter(|_| self.may_explain(index, room));
        self.answer(cx, index, record, |out| {
            let mut packet = SubAck::new(packet_id, codes);
            packet.reason_string = why;
            packet.encode(version, out);
        });
    }

    /// Returns what SUBACK and UNSUBACK of a session wait for.
    pub(crate) fn subscription_record(&mut self, session: u32) -> RecordNumber {
        match self.sessions.at(session).durable {
            true if fault::is(Fault::SubAckBeforeRecord) => RecordNumber(0),
            true => self.store.records.last(),
            false => RecordNumber(0),
        }
    }

    /// Retain Handling: 0 sends [MQTT-3.3.1-9], 1 if it is new [MQTT-3.3.1-10], 2 does not
    /// [MQTT-3.3.1-11]; replacing loses nothing [MQTT-3.8.4-4]. [MQTT-3.1.1/3.3.1-6],
    /// [MQTT-3.1.1/3.8.4-3]
    pub(crate) fn subscribe_one<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        terms: &Terms,
        session: u32,
        requested: &SubscribeFilter<'_>,
        subscription_id: u32,
        token: usize,
    ) -> Granted {
        let granted = self.grant(cx, terms, session, requested, subscription_id, token);
        if !granted.reason.is_error() && self.is_observed(session, Wants::SUBSCRIPTIONS) {
            let no_local = terms.no_local(requested);
            let state = self.sessions.at(session);
            let info = SubscriptionInfo {
                tenant: state.tenant,
                client_id: Arc::clone(&state.client_id),
                filter: requested.filter.into(),
                qos: requested.options.qos.min(terms.listener.maximum_qos),
                no_local,
                retain_as_published: requested.options.retain_as_published || terms.bridge,
                subscription_id,
                retained: RetainedAtSubscribe::Sent,
            };
            self.notify_subscribed(cx, info);
        }
        granted
    }

    fn grant<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        terms: &Terms,
        session: u32,
        requested: &SubscribeFilter<'_>,
        subscription_id: u32,
        token: usize,
    ) -> Granted {
        let v5 = terms.v5;
        let Ok(parsed) = SubscriptionFilter::parse(requested.filter) else {
            // [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
            return Granted::refused(ReasonCode::TopicFilterInvalid);
        };
        if let Err(error) = self.check_topic_text(requested.filter) {
            return Granted {
                limit: error.limit(),
                ..Granted::refused(ReasonCode::TopicFilterInvalid)
            };
        }
        if let Some(refused) = refused_by_listener(&terms.listener, &parsed) {
            return refused;
        }
        if self.forbidden(session, requested.filter).is_some() {
            return Granted::refused(ReasonCode::NotAuthorized);
        }
        let qos = requested.options.qos.min(terms.listener.maximum_qos);
        if self.stands(cx, terms, session, requested, subscription_id) {
            self.note_retain_handling(session, v5, requested, false);
            return Granted {
                reason: granted(qos),
                limit: None,
                joining: false,
            };
        }
        let shared = parsed.share_name.is_some();
        let existing = self.existing_number(session, requested.filter, shared);
        if existing.is_none()
            && let Some(limit) = self.no_room_for_subscription(session, requested.filter)
        {
            return Granted::beyond(ReasonCode::QuotaExceeded, limit);
        }
        let wants_retained = !shared && wants_retained(v5, requested, existing.is_none());
        let bridge = terms.bridge;
        let options = &requested.options;
        let no_local = terms.no_local(requested);
        let state = self.sessions.at(session);
        // One that is replaced keeps it.
        let next = |all: &mut Subscriptions| match shared {
            true => all.next_shared_number(),
            false => Some(all.next_number()),
        };
        let Some(number) = existing.or_else(|| next(&mut state.subscriptions)) else {
            return Granted::refused(ReasonCode::QuotaExceeded);
        };
        // What an older one of the same filter is still owed comes all the same.
        let owed = state.subscriptions.retained();
        let owed = owed.and_then(|pending| pending.owed(requested.filter));
        let owed = owed.filter(|_| !wants_retained);
        let owed_before = owed.is_some();
        let mut subscription = SubscriptionRecord {
            epoch: state.epoch,
            number,
            filter: requested.filter.into(),
            qos,
            no_local,
            retain_as_published: options.retain_as_published || bridge,
            subscription_id,
            retained_pending: wants_retained || owed.is_some(),
            retained_after: owed.flatten().map(Into::into),
        };
        // Where nothing is retained that it could bring, nothing is noted: that would stay with the
        // session for as long as its client is away.
        let filter = requested.filter;
        let is_owed = wants_retained && self.has_retained(cx, session, filter, no_local);
        subscription.retained_pending &= is_owed || owed_before;
        // Its record stands before every message that is routed to it.
        if self.sessions.at(session).durable {
            let record = Record::Subscribed(Box::new(subscription.clone()));
            self.append(cx, record);
        }
        let reason = granted(qos);
        if shared {
            self.join_group(cx, session, &subscription, token);
            return Granted {
                reason,
                limit: None,
                joining: true,
            };
        }
        let owed = wants_retained.then_some(is_owed);
        self.enter_granted(cx, session, &subscription, owed);
        self.note_retain_handling(session, v5, requested, existing.is_none());
        Granted {
            reason,
            limit: None,
            joining: false,
        }
    }

    /// Enters a subscription into the index. `is_owed` says whether retained messages are there
    /// that it wants; none: it wants none.
    fn enter_granted<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
        is_owed: Option<bool>,
    ) {
        let late = fault::is(Fault::RetainedReadBeforeInterest);
        if !late {
            self.enter_subscription(cx, session, subscription);
        }
        if let Some(is_owed) = is_owed {
            self.owe_what_is_retained(cx, session, subscription.clone(), is_owed);
        }
        if late {
            self.read_retained_page(cx);
            self.enter_subscription(cx, session, subscription);
        }
    }

    /// Notes that a subscription brings no retained messages: operators ask why.
    fn note_retain_handling(
        &mut self,
        session: u32,
        v5: bool,
        requested: &SubscribeFilter<'_>,
        is_new: bool,
    ) {
        let retained = retained_at_subscribe(v5, requested, is_new);
        if retained != RetainedAtSubscribe::Sent {
            self.note_retained_at_subscribe(session, requested.filter, retained);
        }
    }

    /// The limit that a further subscription of a session would exceed.
    fn no_room_for_subscription(&mut self, session: u32, filter: &str) -> Option<Limit> {
        let limits = &self.settings.limits;
        let session = self.sessions.at(session);
        let subscriptions = &session.subscriptions;
        // The filters of a part are those of the configuration and of rules.
        if !session.flags.part() {
            if subscriptions.len() >= limits.subscriptions_per_client as usize {
                return Some(Limit::SubscriptionsPerClient);
            }
            if !subscriptions.has_room_for(filter, limits.subscription_bytes) {
                return Some(Limit::SubscriptionBytes);
            }
            let (tenant, all) = (session.tenant, self.memory.subscriptions_max);
            let share = limits.team_share();
            if !self.subscribers.has_room_for(tenant, filter, share, all) {
                return Some(Limit::TeamSubscriptions);
            }
        }
        if self.memory.growth.subscriptions_stop {
            return Some(Limit::MemoryKept);
        }
        self.memory.is_spent().then_some(Limit::Memory)
    }

    /// Notes what a subscription is owed now that it is in the index. What has been retained since
    /// it was looked for comes too.
    fn owe_what_is_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        mut subscription: SubscriptionRecord,
        is_owed: bool,
    ) {
        let (filter, no_local) = (&subscription.filter, subscription.no_local);
        if !is_owed {
            if !self.has_retained(cx, session, filter, no_local) {
                return;
            }
            subscription.retained_pending = true;
            if self.sessions.at(session).durable {
                let record = Record::Subscribed(Box::new(subscription.clone()));
                self.append(cx, record);
            }
        }
        self.owe_retained(session, &subscription);
    }

    /// The session has this very subscription, and it brings no retained message: there is nothing
    /// to do and nothing to record.
    pub(crate) fn stands<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        terms: &Terms,
        session: u32,
        requested: &SubscribeFilter<'_>,
        subscription_id: u32,
    ) -> bool {
        let options = &requested.options;
        let qos = options.qos.min(terms.listener.maximum_qos);
        let retain_as_published = options.retain_as_published || terms.bridge;
        let no_local = terms.no_local(requested);
        let Some(own) = self.own_subscription(session, requested.filter) else {
            return false;
        };
        own.qos == qos
            && own.no_local == no_local
            && own.retain.as_published() == retain_as_published
            && own.subscription_id == subscription_id
            && !(wants_retained(terms.v5, requested, false)
                && self.has_retained(cx, session, requested.filter, no_local))
    }

    /// Returns what forbids the client this subscription, if something does. A share group's is one
    /// to its filter.
    fn forbidden(&mut self, session: u32, filter: &str) -> Option<Refusal> {
        let parsed = SubscriptionFilter::parse(filter).ok()?;
        let is_plain = parsed.share_name.is_none() && !parsed.filter.has_wildcard();
        let permit = self.sessions.at(session).permit.as_ref();
        if !is_plain && permit.is_some_and(|permit| permit.identity.is_applicant) {
            let detail = "a client without credentials of its own may use neither wildcards nor \
                          Shared Subscriptions";
            return Some(Refusal::operators_only(RefusalCause::Forbidden, detail));
        }
        self.may_subscribe(session, parsed.filter.as_str()).err()
    }

    /// The byte that answers a filter.
    /// The granted QoS or the failure [MQTT-3.8.4-7]; before MQTT 5 that is 0x80
    /// [MQTT-3.1.1/3.9.3-2].
    fn suback_code(&mut self, index: u32, reason: ReasonCode) -> u8 {
        match reason.is_error() && !self.connections.at(index).version.is_v5() {
            true => 0x80,
            false => reason.code(),
        }
    }

    fn notify_subscribe_refused<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        requested: &SubscribeFilter<'_>,
        granted: &Granted,
    ) {
        let reason = granted.reason;
        let session = self.connections.at(index).session();
        let Some(session) =
            session.filter(|session| self.is_observed(*session, Wants::CONNECTIONS))
        else {
            return;
        };
        let forbidden = match reason {
            ReasonCode::NotAuthorized => self.forbidden(session, requested.filter),
            _ => None,
        };
        let why = match (forbidden, granted.limit) {
            (Some(refusal), _) => refusal,
            (None, Some(limit)) => self.refusal(index, limit.into()),
            // Its numbers are as many as their packets can name.
            (None, None) if reason == ReasonCode::QuotaExceeded => {
                let cause = RefusalCause::SharedSubscriptionsFull;
                Refusal::client_visible(cause).with_detail(format!(
                    "the session has {SHARED_COPIES} Shared Subscriptions, the most that are \
                     possible"
                ))
            }
            (None, None) => {
                Refusal::client_visible(RefusalCause::ByReasonCode).with_detail(reason.name())
            }
        };
        let address = self.connections.at(index).address();
        let event = Event::SubscribeRefused {
            filter: shortened(requested.filter).into_owned(),
            reason,
            why,
        };
        let head = self.head_with_user(session).with_address(address);
        cx.effects.notify(head, event);
    }

    /// Only an equal filter [MQTT-3.10.4-1]; new messages stop [MQTT-3.10.4-2], what is in flight
    /// goes on [MQTT-3.10.4-3].
    pub(crate) fn unsubscribe_one<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
    ) -> bool {
        let shared = filter.starts_with("$share/");
        let number = self.existing_number(session, filter, shared);
        if shared {
            self.leave_group(cx, session, filter);
        } else if number.is_some()
            && let Some(node) = self
                .subscribers
                .tree
                .find(self.sessions.at(session).tenant, filter)
        {
            self.unindex_subscriber(cx, node, Target::session(session));
        }
        let state = self.sessions.at(session);
        if let Some(pending) = state.subscriptions.retained() {
            pending.forget(filter);
        }
        let (epoch, durable) = (state.epoch, state.durable);
        if let Some(number) = number.filter(|_| durable) {
            self.append(cx, Record::Unsubscribed { epoch, number });
        }
        if number.is_some() {
            self.notify_unsubscribed(cx, session, filter);
        }
        number.is_some()
    }
}

/// A subscription of a kind that the listener does not offer. A v5 connection has been ended for it
/// already.
fn refused_by_listener(
    listener: &ListenerPolicy,
    parsed: &SubscriptionFilter<'_>,
) -> Option<Granted> {
    if parsed.filter.has_wildcard() && !listener.wildcard_subscription_available {
        let reason = ReasonCode::WildcardSubscriptionsNotSupported;
        return Some(Granted::beyond(reason, Limit::WildcardSubscriptions));
    }
    if parsed.share_name.is_some() && !listener.shared_subscription_available {
        let reason = ReasonCode::SharedSubscriptionsNotSupported;
        return Some(Granted::beyond(reason, Limit::SharedSubscriptions));
    }
    None
}

/// The subscription brings the retained messages that match it, if it is new or not.
fn wants_retained(v5: bool, requested: &SubscribeFilter<'_>, is_new: bool) -> bool {
    retained_at_subscribe(v5, requested, is_new) == RetainedAtSubscribe::Sent
}

fn retained_at_subscribe(
    v5: bool,
    requested: &SubscribeFilter<'_>,
    is_new: bool,
) -> RetainedAtSubscribe {
    match requested.options.retain_handling {
        // 3.1 and 3.1.1 always send them [MQTT-3.1.1/3.8.4-3].
        _ if !v5 => RetainedAtSubscribe::Sent,
        RetainHandling::SendAtSubscribe => RetainedAtSubscribe::Sent,
        RetainHandling::SendIfNew if is_new => RetainedAtSubscribe::Sent,
        RetainHandling::SendIfNew => RetainedAtSubscribe::NotNew,
        RetainHandling::DoNotSend => RetainedAtSubscribe::NotWanted,
    }
}

/// Any requested QoS is accepted, up to the Maximum QoS [MQTT-3.2.2-10].
fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
