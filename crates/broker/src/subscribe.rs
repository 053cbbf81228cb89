//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a new subscription is owed
//! (MQTT 5 sections 3.8 to 3.11).

use std::collections::BTreeMap;

use martlet_codec::{
    QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionFilter,
    TopicFilter, UnsubAck, Unsubscribe,
};

use smallvec::SmallVec;

use crate::event::Event;
use crate::fault::{self, Fault};
use crate::id::RecordNumber;
use crate::interest::InterestClass;
use crate::limits::ListenerPolicy;
use crate::node::{Cx, Node};
use crate::record::{RETAINED_COPIES, Record, SubscriptionRecord};
use crate::route::{Match, Target};
use crate::session::queue::SubscriptionIds;
use crate::shard::{PacketError, Shard};
use crate::topic_tree::NodeKey;

/// A place in the shard's index with all who subscribe there.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    pub(crate) list: SmallVec<[Subscriber; 1]>,
    /// How many of them are durable.
    durable: u32,
}

/// One subscription, as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    target: Target,
    /// 0 is none.
    subscription_id: u32,
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    durable: bool,
    /// Which of its session's subscriptions, for records.
    number: u32,
}

impl Subscriber {
    pub(crate) fn new(target: Target, qos: QoS, durable: bool) -> Self {
        Self {
            target,
            subscription_id: 0,
            qos,
            no_local: false,
            retain_as_published: true,
            durable: durable && qos > QoS::AtMostOnce,
            number: 0,
        }
    }

    pub(crate) fn as_match(&self) -> Match {
        Match {
            target: self.target,
            subscription_id: self.subscription_id,
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
        }
    }
}

impl Subscribers {
    /// Where a share group stands; there are few of them at one filter.
    fn slot_of(&self, target: Target) -> Option<u32> {
        let place = self.list.iter().position(|found| found.target == target);
        place.map(|slot| slot as u32)
    }

    fn class(&self) -> InterestClass {
        match (self.list.is_empty(), self.durable) {
            (true, _) => InterestClass::NONE,
            (false, 0) => InterestClass::LIVE,
            (false, _) => InterestClass::LIVE.and(InterestClass::DURABLE),
        }
    }
}

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Places in the index, sorted, each with the session's slot among the subscribers there.
    own: SmallVec<[(NodeKey, u32); 2]>,
    /// Share groups that the session is a member of: `$share/name/filter`.
    pub(crate) shared: BTreeMap<Box<str>, SharedSubscription>,
    /// The number of the next one.
    next_number: u32,
    /// The number of the next retained copies.
    retained_copy: u8,
}

/// What a member of a share group asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedSubscription {
    pub(crate) number: u32,
    pub(crate) qos: QoS,
    pub(crate) subscription_id: u32,
    pub(crate) retain_as_published: bool,
}

impl Subscriptions {
    fn next_retained_copy(&mut self) -> u8 {
        let copy = self.retained_copy;
        self.retained_copy = (copy + 1) % RETAINED_COPIES;
        copy
    }

    /// A retained copy from before a restart has this number.
    pub(crate) fn retained_copy_taken(&mut self, copy: u8) {
        let next = (copy % RETAINED_COPIES + 1) % RETAINED_COPIES;
        self.retained_copy = self.retained_copy.max(next);
    }

    /// A number is taken by a subscription from before a restart.
    pub(crate) fn number_taken(&mut self, number: u32) {
        self.next_number = self.next_number.max(number);
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.shared.len()
    }

    fn slot(&self, node: NodeKey) -> Option<u32> {
        let place = self.own.binary_search_by_key(&node, |own| own.0).ok()?;
        Some(self.own[place].1)
    }

    fn set_slot(&mut self, node: NodeKey, slot: u32) {
        match self.own.binary_search_by_key(&node, |own| own.0) {
            Ok(place) => self.own[place].1 = slot,
            Err(place) => self.own.insert(place, (node, slot)),
        }
    }

    fn forget(&mut self, node: NodeKey) {
        if let Ok(place) = self.own.binary_search_by_key(&node, |own| own.0) {
            self.own.remove(place);
        }
    }
}

/// Retained messages that a session's subscriptions are still owed, filter by filter.
/// Both maps hold the same filters: a client with thousands of them may name each of them again.
#[derive(Debug, Default)]
pub(crate) struct RetainedPending {
    /// In the order subscribed.
    cursors: BTreeMap<u64, RetainedCursor>,
    /// Where a filter stands in that order.
    places: BTreeMap<Box<str>, u64>,
    next_place: u64,
}

impl RetainedPending {
    /// At the end; a subscription made again begins again.
    fn push(&mut self, filter: Box<str>, cursor: RetainedCursor) {
        self.forget(&filter);
        let place = self.next_place;
        self.next_place += 1;
        self.cursors.insert(place, cursor);
        self.places.insert(filter, place);
    }

    fn forget(&mut self, filter: &str) {
        if let Some(place) = self.places.remove(filter) {
            self.cursors.remove(&place);
        }
    }
}

#[derive(Debug)]
struct RetainedCursor {
    filter: Box<str>,
    /// Last topic read.
    after: Option<Box<str>>,
    qos: QoS,
    /// 0 is none.
    subscription_id: u32,
    /// Which copy of a message this subscription brings.
    copy: u8,
}

/// Retained messages read for one session at a time.
const RETAINED_PAGE: usize = 64;
/// Retained messages wait while this many messages of the session do.
const RETAINED_BACKLOG: usize = 256;

/// A SUBACK that waits for share groups to answer.
#[derive(Debug)]
pub(crate) struct PendingSubAck {
    pub(crate) connection: crate::id::ConnectionId,
    pub(crate) packet_id: martlet_codec::PacketId,
    pub(crate) codes: Vec<u8>,
    /// Why the first refused filter was refused.
    pub(crate) why: Option<&'static str>,
    pub(crate) record: RecordNumber,
    pub(crate) missing: u32,
}

/// Bytes of an acknowledgement beside reason codes and Reason String, at most.
pub(crate) const ANSWER_OVERHEAD: usize = 16;

/// What one filter of a SUBSCRIBE came to.
struct Granted {
    reason: ReasonCode,
    /// A share group on this or another shard has been asked.
    joining: bool,
}

impl Granted {
    fn refused(reason: ReasonCode) -> Self {
        Self {
            reason,
            joining: false,
        }
    }
}

impl Shard {
    /// SUBSCRIBE: each filter is answered in its place [MQTT-3.8.4-5], [MQTT-3.8.4-6].
    /// SUBACK always follows [MQTT-3.8.4-1], with the same identifier [MQTT-3.8.4-2],
    /// [MQTT-2.2.1-6] and its codes in the filters' order [MQTT-3.9.3-1].
    pub(crate) fn subscribe_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), PacketError> {
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        let listener = std::sync::Arc::clone(&self.connections.at(index).listener);
        if subscribe.subscription_id.is_some() && !listener.subscription_ids_available {
            return Err(PacketError::of(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "listener: Subscription Identifiers",
            ));
        }
        self.check_user_properties(subscribe.user_properties)?;
        self.check_answer_fits(index, subscribe.filter_count())?;
        // All filters first: a packet that ends the connection subscribes to nothing.
        let v5 = self.connections.at(index).version.is_v5();
        for requested in subscribe.filters() {
            match v5 {
                true => check_available(&listener, requested.filter)?,
                false => check_filter_before_5(requested.filter)?,
            }
        }
        let token = self.pending_subacks.vacant_key();
        let mut codes = Vec::with_capacity(subscribe.filter_count().min(1024));
        let mut missing = 0;
        let mut why = None;
        for requested in subscribe.filters() {
            let identifier = subscribe.subscription_id.unwrap_or(0);
            let granted = self.subscribe_one(cx, index, session, &requested, identifier, token)?;
            missing += u32::from(granted.joining);
            why = why.or(granted.reason.is_error().then(|| granted.reason.name()));
            codes.push(self.suback_code(cx, index, &requested, granted.reason));
        }
        let record = self.subscription_record(session);
        let packet_id = subscribe.packet_id;
        if missing > 0 {
            let connection = self.connections.id_of(index);
            let pending = PendingSubAck {
                connection,
                packet_id,
                codes,
                why,
                record,
                missing,
            };
            self.pending_subacks.insert(pending);
        } else {
            self.answer_subscribe(cx, index, packet_id, &codes, why, record);
        }
        Ok(())
    }

    /// A share group knows its member now; the last answer sends the SUBACK.
    pub(crate) fn joined<N: Node>(&mut self, cx: &mut Cx<'_, N>, token: usize) {
        let Some(pending) = self.pending_subacks.get_mut(token) else {
            return;
        };
        pending.missing -= 1;
        if pending.missing > 0 {
            return;
        }
        let pending = self.pending_subacks.remove(token);
        if self
            .connections
            .get(pending.connection)
            .is_none_or(|found| found.session().is_none())
        {
            return;
        }
        let index = pending.connection.index;
        let PendingSubAck {
            packet_id,
            codes,
            why,
            record,
            ..
        } = pending;
        self.answer_subscribe(cx, index, packet_id, &codes, why, record);
    }

    /// SUBACK and UNSUBACK have a code for each filter and cannot be left out, so a request whose
    /// answer exceeds the client's Maximum Packet Size cannot be met [MQTT-3.1.2-24].
    fn check_answer_fits(&mut self, index: u32, filters: usize) -> Result<(), PacketError> {
        // Packet Identifier, Property Length 0, codes; before them two to four bytes.
        let body = 2 + 1 + filters;
        let length_bytes = 1 + usize::from(body > 127) + usize::from(body > 16_383);
        if 1 + length_bytes + body > self.connections.at(index).packet_bytes_max as usize {
            let why = "the answer would exceed the client's Maximum Packet Size";
            return Err(PacketError::of(ReasonCode::PacketTooLarge, why));
        }
        Ok(())
    }

    /// SUBACK; v5 clients that want to know are told why a filter was refused [MQTT-3.9.2-1]. No
    /// User Properties are sent [MQTT-3.9.2-2], [MQTT-3.11.2-1], [MQTT-3.11.2-2].
    fn answer_subscribe<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        packet_id: martlet_codec::PacketId,
        codes: &[u8],
        why: Option<&str>,
        record: RecordNumber,
    ) {
        let version = self.connections.at(index).version;
        let room = codes.len() + why.map_or(0, str::len) + ANSWER_OVERHEAD;
        let why = why.filter(|_| self.may_explain(index, room));
        self.answer(cx, index, record, false, |out| {
            let mut packet = SubAck::new(packet_id, codes);
            packet.reason_string = why;
            packet.encode(version, out);
        });
    }

    /// UNSUBSCRIBE [MQTT-3.10.4-4], [MQTT-3.10.4-6].
    /// With the same identifier [MQTT-3.10.4-5] and a code for each filter [MQTT-3.11.3-1].
    pub(crate) fn unsubscribe_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<(), PacketError> {
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        self.check_user_properties(unsubscribe.user_properties)?;
        self.check_answer_fits(index, unsubscribe.filter_count())?;
        let v5 = self.connections.at(index).version.is_v5();
        let mut codes = Vec::new();
        for filter in unsubscribe.filters() {
            if !v5 {
                check_filter_before_5(filter)?;
            }
            let existed = self.unsubscribe_one(cx, session, filter);
            let code = if existed {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            };
            codes.push(code.code());
        }
        let record = self.subscription_record(session);
        let version = self.connections.at(index).version;
        let packet_id = unsubscribe.packet_id;
        self.answer(cx, index, record, false, |out| {
            UnsubAck::new(packet_id, &codes).encode(version, out);
        });
        Ok(())
    }

    /// What SUBACK and UNSUBACK of a session wait for.
    fn subscription_record(&mut self, session: u32) -> RecordNumber {
        match self.sessions.at(session).durable {
            true if fault::is(Fault::SubAckBeforeRecord) => RecordNumber(0),
            true => self.records.last(),
            false => RecordNumber(0),
        }
    }

    /// Retain Handling: 0 sends [MQTT-3.3.1-9], 1 if it is new [MQTT-3.3.1-10], 2 does not
    /// [MQTT-3.3.1-11]; replacing loses nothing [MQTT-3.8.4-4]. [MQTT-3.1.1/3.3.1-6],
    /// [MQTT-3.1.1/3.8.4-3]
    fn subscribe_one<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        requested: &SubscribeFilter<'_>,
        subscription_id: u32,
        token: usize,
    ) -> Result<Granted, PacketError> {
        let v5 = self.connections.at(index).version.is_v5();
        let Ok(parsed) = SubscriptionFilter::parse(requested.filter) else {
            // [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
            return Ok(Granted::refused(ReasonCode::TopicFilterInvalid));
        };
        if self.check_topic_text(requested.filter).is_err() {
            return Ok(Granted::refused(ReasonCode::TopicFilterInvalid));
        }
        let listener = std::sync::Arc::clone(&self.connections.at(index).listener);
        // v5 connections have been ended for it already.
        if parsed.filter.has_wildcard() && !listener.wildcard_subscription_available {
            return Ok(Granted::refused(
                ReasonCode::WildcardSubscriptionsNotSupported,
            ));
        }
        if parsed.share_name.is_some() && !listener.shared_subscription_available {
            return Ok(Granted::refused(
                ReasonCode::SharedSubscriptionsNotSupported,
            ));
        }
        let qos = requested.options.qos.min(listener.maximum_qos);
        let known = self.has_subscription(session, requested.filter, parsed.share_name.is_some());
        let count = self.sessions.at(session).subscriptions.len();
        if !known && count >= self.settings.limits.subscriptions_per_client as usize {
            return Ok(Granted::refused(ReasonCode::QuotaExceeded));
        }
        let shared = parsed.share_name.is_some();
        let wants_retained = match requested.options.retain_handling {
            _ if shared => false,
            // 3.1 and 3.1.1 always send them [MQTT-3.1.1/3.8.4-3].
            _ if !v5 => true,
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => !known,
            RetainHandling::DoNotSend => false,
        };
        let bridge = self.connections.at(index).flags.bridge;
        let options = &requested.options;
        let epoch = self.sessions.at(session).epoch;
        let subscription = SubscriptionRecord {
            epoch,
            number: self.subscription_number(session, requested.filter, shared),
            filter: requested.filter.into(),
            qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published || bridge,
            subscription_id,
            retained_pending: wants_retained,
        };
        // Its record stands before every message that is routed to it.
        if self.sessions.at(session).durable {
            let record = Record::Subscribed(Box::new(subscription.clone()));
            self.append(cx, record);
        }
        let reason = granted(qos);
        if shared {
            self.join_group(cx, session, &subscription, token);
            return Ok(Granted {
                reason,
                joining: true,
            });
        }
        let late = fault::is(Fault::RetainedReadBeforeInterest);
        if !late {
            self.enter_subscription(cx, session, &subscription);
        }
        if wants_retained {
            self.owe_retained(session, parsed.filter.as_str(), qos, subscription_id);
        }
        if late {
            self.read_retained_page(cx);
            self.enter_subscription(cx, session, &subscription);
        }
        Ok(Granted {
            reason,
            joining: false,
        })
    }

    /// Enters a subscription of a session, without share name, into the index.
    pub(crate) fn enter_subscription<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
    ) {
        let qos = subscription.qos;
        let subscriber = Subscriber {
            target: Target::session(session),
            subscription_id: subscription.subscription_id,
            qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            durable: self.sessions.at(session).durable && qos > QoS::AtMostOnce,
            number: subscription.number,
        };
        self.index_subscriber(cx, &subscription.filter, subscriber);
    }

    /// The number of a session's subscription: one that is replaced keeps it.
    fn subscription_number(&mut self, session: u32, filter: &str, shared: bool) -> u32 {
        let subscriptions = &mut self.sessions.at(session).subscriptions;
        let known = match shared {
            true => subscriptions.shared.get(filter).map(|found| found.number),
            false => {
                let node = self.tree.find(filter);
                let slot = node.and_then(|node| subscriptions.slot(node));
                let list = node.and_then(|node| self.tree.get(node));
                let place = list.and_then(|found| found.list.get(slot? as usize));
                place.map(|subscriber| subscriber.number)
            }
        };
        known.unwrap_or_else(|| {
            subscriptions.next_number += 1;
            subscriptions.next_number
        })
    }

    /// All retained messages of a filter are with the session: no restart has to begin again.
    fn retained_complete<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, filter: &str) {
        let state = self.sessions.at(session);
        if !state.durable {
            return;
        }
        let epoch = state.epoch;
        let node = self.tree.find(filter);
        let slot = node.and_then(|node| state.subscriptions.slot(node));
        let list = node.and_then(|node| self.tree.get(node));
        let Some(subscriber) = list.and_then(|found| found.list.get(slot? as usize)) else {
            return;
        };
        let subscription = SubscriptionRecord {
            epoch,
            number: subscriber.number,
            filter: filter.into(),
            qos: subscriber.qos,
            no_local: subscriber.no_local,
            retain_as_published: subscriber.retain_as_published,
            subscription_id: subscriber.subscription_id,
            retained_pending: false,
        };
        self.append(cx, Record::Subscribed(Box::new(subscription)));
    }

    /// The byte that answers a filter; refusals are events.
    /// The granted QoS or the failure [MQTT-3.8.4-7]; before MQTT 5 that is 0x80
    /// [MQTT-3.1.1/3.9.3-2].
    fn suback_code<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        requested: &SubscribeFilter<'_>,
        reason: ReasonCode,
    ) -> u8 {
        if !reason.is_error() {
            return reason.code();
        }
        if self.settings.events.connections {
            let connection = self.connections.at(index);
            let client_id = match connection.session() {
                Some(session) => self.sessions.at(session).client_id.to_string(),
                None => String::new(),
            };
            let filter = requested.filter.to_owned();
            let why = reason.name();
            cx.effects.events.push(Event::SubscribeRefused {
                client_id,
                filter,
                reason,
                why,
            });
        }
        if self.connections.at(index).version.is_v5() {
            reason.code()
        } else {
            0x80
        }
    }

    fn has_subscription(&mut self, session: u32, filter: &str, shared: bool) -> bool {
        let subscriptions = &self.sessions.at(session).subscriptions;
        if shared {
            return subscriptions.shared.contains_key(filter);
        }
        self.tree
            .find(filter)
            .is_some_and(|node| subscriptions.slot(node).is_some())
    }

    /// Enters a subscriber, replacing its subscription to the same filter [MQTT-3.8.4-3].
    pub(crate) fn index_subscriber<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        filter: &str,
        subscriber: Subscriber,
    ) -> NodeKey {
        let (node, subscribers) = self.tree.entry(filter, Subscribers::default);
        let before = subscribers.class();
        let slot = match subscriber.target.as_session() {
            Some(session) => self.sessions.at(session).subscriptions.slot(node),
            None => None,
        };
        subscribers.durable += u32::from(subscriber.durable);
        match slot {
            Some(slot) => {
                let place = &mut subscribers.list[slot as usize];
                subscribers.durable -= u32::from(place.durable);
                *place = subscriber;
            }
            None => {
                let slot = subscribers.list.len() as u32;
                subscribers.list.push(subscriber);
                if let Some(session) = subscriber.target.as_session() {
                    self.sessions.at(session).subscriptions.set_slot(node, slot);
                }
            }
        }
        let class = subscribers.class();
        self.interest_changed(cx, filter, before, class);
        node
    }

    /// Takes a subscriber out of the index.
    pub(crate) fn unindex_subscriber<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
    ) {
        let filter = self.tree.filter(node);
        let Some(subscribers) = self.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = match target.as_session() {
            Some(session) => self.sessions.at(session).subscriptions.slot(node),
            None => subscribers.slot_of(target),
        };
        let Some(slot) = slot else { return };
        let gone = subscribers.list.swap_remove(slot as usize);
        subscribers.durable -= u32::from(gone.durable);
        if let Some(moved) = subscribers.list.get(slot as usize)
            && let Some(session) = moved.target.as_session()
        {
            self.sessions.at(session).subscriptions.set_slot(node, slot);
        }
        if let Some(session) = target.as_session() {
            self.sessions.at(session).subscriptions.forget(node);
        }
        let class = subscribers.class();
        if subscribers.list.is_empty() {
            self.tree.remove(node);
        }
        if fault::is(Fault::InterestStays) {
            self.epochs.raise(&filter);
            return;
        }
        self.interest_changed(cx, &filter, before, class);
    }

    /// The index has changed: routes are computed anew, and the node is told if it has to know.
    fn interest_changed<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        filter: &str,
        before: InterestClass,
        class: InterestClass,
    ) {
        self.epochs.raise(filter);
        if before != class {
            let shard = self.id;
            cx.node.set_interest(shard, filter, class);
        }
    }

    /// Changes whether a subscriber counts as durable.
    pub(crate) fn set_durable<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
        durable: bool,
    ) {
        let Some(subscribers) = self.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = match target.as_session() {
            Some(session) => self.sessions.at(session).subscriptions.slot(node),
            None => subscribers.slot_of(target),
        };
        let Some(place) = slot.and_then(|slot| subscribers.list.get_mut(slot as usize)) else {
            return;
        };
        let durable = durable && place.qos > QoS::AtMostOnce;
        if place.durable == durable {
            return;
        }
        place.durable = durable;
        match durable {
            true => subscribers.durable += 1,
            false => subscribers.durable -= 1,
        }
        let class = subscribers.class();
        let filter = self.tree.filter(node);
        self.interest_changed(cx, &filter, before, class);
    }

    /// Only an equal filter [MQTT-3.10.4-1]; new messages stop [MQTT-3.10.4-2], what is in flight
    /// goes on [MQTT-3.10.4-3].
    fn unsubscribe_one<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32, filter: &str) -> bool {
        let shared = filter.starts_with("$share/");
        let existed = self.has_subscription(session, filter, shared);
        let number = match existed {
            true => self.subscription_number(session, filter, shared),
            false => 0,
        };
        if shared {
            self.leave_group(cx, session, filter);
        } else if existed && let Some(node) = self.tree.find(filter) {
            self.unindex_subscriber(cx, node, Target::session(session));
        }
        let state = self.sessions.at(session);
        if let Some(pending) = &mut state.retained_pending {
            pending.forget(filter);
        }
        if existed && state.durable {
            let epoch = state.epoch;
            self.append(cx, Record::Unsubscribed { epoch, number });
        }
        existed
    }

    /// Ends all subscriptions of a session.
    pub(crate) fn unsubscribe_all<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        let own = self.sessions.at(session).subscriptions.own.clone();
        for (node, _) in own {
            self.unindex_subscriber(cx, node, Target::session(session));
        }
        let shared = core::mem::take(&mut self.sessions.at(session).subscriptions.shared);
        for (filter, _) in shared {
            self.send_leave(cx, session, filter);
        }
        self.sessions.at(session).retained_pending = None;
    }

    /// Notes that a session is owed the retained messages of a filter.
    pub(crate) fn owe_retained(
        &mut self,
        session: u32,
        filter: &str,
        qos: QoS,
        subscription_id: u32,
    ) {
        let state = self.sessions.at(session);
        let copy = state.subscriptions.next_retained_copy();
        let pending = state.retained_pending.get_or_insert_default();
        let cursor = RetainedCursor {
            filter: filter.into(),
            after: None,
            qos,
            subscription_id,
            copy,
        };
        pending.push(filter.into(), cursor);
        self.queue_retained(session);
    }

    /// Puts a session on the list of those that have retained messages to be read.
    pub(crate) fn queue_retained(&mut self, session: u32) {
        let id = self.sessions.id_of(session);
        let state = self.sessions.at(session);
        if state.retained_pending.is_some() && !state.retained_queued {
            state.retained_queued = true;
            self.retained_queue.push_back(id);
        }
    }

    /// Reads one page for one session; false if nothing is to be read.
    pub(crate) fn read_retained_page<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> bool {
        let Some(id) = self.retained_queue.pop_front() else {
            return false;
        };
        let Some(index) = self.live_session(id) else {
            return true;
        };
        self.sessions.at(index).retained_queued = false;
        if !self.wants_retained_page(index) {
            // Goes on when output has drained, acknowledgements have come, or the client is back.
            return true;
        }
        let state = self.sessions.at(index);
        let tenant = state.tenant;
        let Some(pending) = &mut state.retained_pending else {
            return true;
        };
        let Some((place, mut cursor)) = pending.cursors.pop_first() else {
            state.retained_pending = None;
            return true;
        };
        let after = cursor.after.as_deref();
        let page = cx.node.retained(|store| {
            store.page(tenant, &cursor.filter, after, RETAINED_PAGE, cx.now.mono_ms)
        });
        let mut complete = true;
        for message in &page.messages {
            // Large ones may fill the output before the page is at its end.
            complete = self.wants_retained_page(index);
            if !complete {
                break;
            }
            let mut ids = SubscriptionIds::new();
            if cursor.subscription_id != 0 {
                ids.push(cursor.subscription_id);
            }
            self.deliver_retained(cx, index, message, cursor.qos, ids, cursor.copy);
            cursor.after = Some(message.topic().into());
        }
        let mut finished = None;
        let state = self.sessions.at(index);
        let pending = state.retained_pending.get_or_insert_default();
        if !complete {
            pending.cursors.insert(place, cursor);
        } else if page.next.is_some() {
            cursor.after = page.next;
            pending.cursors.insert(place, cursor);
        } else {
            pending.places.remove(&cursor.filter);
            finished = Some(cursor.filter);
        }
        if pending.cursors.is_empty() {
            state.retained_pending = None;
        }
        if let Some(filter) = finished {
            self.retained_complete(cx, index, &filter);
        }
        self.queue_retained(index);
        true
    }

    /// The client is there, its SUBACK is out, and it has room for more: in its output, and in its
    /// queue, where retained messages must not push out one another.
    fn wants_retained_page(&mut self, index: u32) -> bool {
        let limits = &self.settings.limits;
        let output_max = (limits.output_bytes as usize / 4).max(1);
        let backlog_max = RETAINED_BACKLOG.min(limits.queued_messages.max(1) as usize);
        let bytes_max = (limits.queued_bytes / 2).max(1);
        let spent = self.memory.is_spent();
        let outbound = &self.sessions.at(index).outbound;
        let backlog = outbound.queue.len() + outbound.in_flight.len();
        let room = backlog < backlog_max && outbound.queue.bytes() < bytes_max;
        let Some(connection) = self.admitted_connection(index) else {
            return false;
        };
        let connection = self.connections.at(connection);
        // With no memory left one at a time: each goes on when the one before has left.
        let room = room && (!spent || backlog == 0 && connection.output_len() == 0);
        room && connection.answers_gated == 0 && connection.output_len() < output_max
    }
}

/// What CONNACK said is not available is a Protocol Error on 5 (MQTT 5 sections 3.2.2.3.11 and
/// 3.2.2.3.13).
/// [MQTT-3.1.1/3.8.3-2]
fn check_available(listener: &ListenerPolicy, filter: &str) -> Result<(), PacketError> {
    let Ok(parsed) = SubscriptionFilter::parse(filter) else {
        return Ok(());
    };
    if parsed.filter.has_wildcard() && !listener.wildcard_subscription_available {
        let reason = ReasonCode::WildcardSubscriptionsNotSupported;
        return Err(PacketError::of(reason, "listener: wildcard subscriptions"));
    }
    if parsed.share_name.is_some() && !listener.shared_subscription_available {
        let reason = ReasonCode::SharedSubscriptionsNotSupported;
        return Err(PacketError::of(reason, "listener: Shared Subscriptions"));
    }
    Ok(())
}

/// A wildcard in the wrong place is a violation that ends the connection
/// [MQTT-3.1.1/4.7.1-2], [MQTT-3.1.1/4.7.1-3], [MQTT-3.1.1/4.8.0-1]. `$share/` means nothing there.
fn check_filter_before_5(filter: &str) -> Result<(), PacketError> {
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(_) => Err(PacketError::malformed(
            "a Topic Filter with a wildcard in the wrong place",
            "MQTT-3.1.1/4.8.0-1",
        )),
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
