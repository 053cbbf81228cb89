//! SUBSCRIBE and UNSUBSCRIBE packets, which may have hundreds of thousands of filters: they are
//! worked off in turns. Each turn goes on at the filter where the one before it ended.

use martlet_codec::{
    FiltersLeft, ProtocolVersion, ReasonCode, Subscribe, SubscribeFilter, SubscriptionFilter,
    TopicFilter, UnsubAck, Unsubscribe, UserProperties,
};
use martlet_permission::Limit;

use super::{Granted, PendingSubAck, SubscribeOrigin, Terms};
use crate::id::RecordNumber;
use crate::limits::ListenerPolicy;
use crate::node::{Cx, Node};
use crate::shard::{PacketError, Shard};
use crate::subscribe::half_done::HalfDone;
use crate::work::{FILTER, FILTER_BYTES_PER_UNIT, NEW_FILTER_BYTES_PER_UNIT, NODE};

/// Number of refused filters of one packet that are reported, each by an event. Further ones are
/// only answered.
const REFUSALS_TOLD: usize = 16;

/// Number of filters that are decoded in one unit of work, without checking them.
const DECODED_PER_UNIT: usize = 2;

impl Shard {
    /// SUBSCRIBE: each filter is answered in its place [MQTT-3.8.4-5], [MQTT-3.8.4-6].
    /// SUBACK always follows [MQTT-3.8.4-1], with the same identifier [MQTT-3.8.4-2],
    /// [MQTT-2.2.1-6] and its codes in the filters' order [MQTT-3.9.3-1].
    pub(crate) fn subscribe_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        body: &[u8],
    ) -> Result<(), PacketError> {
        let version = self.connections.at(index).version;
        if let Some(half) = self.take_half_done(index) {
            return self.go_on_subscribing(cx, index, body, version, half);
        }
        let subscribe = Subscribe::decode(body, version)?;
        let terms = self.terms_of(index);
        if subscribe.subscription_id.is_some() && !terms.listener.subscription_ids_available {
            return Err(PacketError::of(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                Limit::SubscriptionIdentifiers,
            ));
        }
        self.begin_filters(index, subscribe.user_properties, subscribe.filter_count())?;
        let identifier = subscribe.subscription_id.unwrap_or(0);
        let filters = subscribe.filters().left();
        let mut half = HalfDone::new(subscribe.packet_id, identifier, filters);
        if terms.v5 && has_all_available(&terms.listener) {
            half.unchecked = FiltersLeft::default();
        }
        self.go_on_subscribing(cx, index, body, version, half)
    }

    fn go_on_subscribing<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        body: &[u8],
        version: ProtocolVersion,
        mut half: HalfDone,
    ) -> Result<(), PacketError> {
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        let terms = self.terms_of(index);
        // All filters first: a packet that ends the connection subscribes to nothing.
        let mut filters = Subscribe::filters_left(body, version, half.unchecked);
        while let Some(requested) = filters.next() {
            match terms.v5 {
                true => check_available(&terms.listener, requested.filter)?,
                false => check_filter_before_5(requested.filter)?,
            }
            self.work.add(NODE);
            if filters.len() > 0 && self.work.is_share_over() {
                half.unchecked = filters.left();
                self.put_off(index, half, 0);
                return Ok(());
            }
        }
        half.unchecked = filters.left();
        let vacant = self.subscribing.subacks.next_token();
        let token = half.pending.unwrap_or(vacant);
        let mut joining = 0;
        let mut filters = Subscribe::filters_left(body, version, half.left);
        while let Some(requested) = filters.next() {
            let granted = self.grant_next(cx, session, &terms, &requested, &half, token);
            joining += u32::from(granted.joining);
            self.answer_filter(cx, index, &requested, &granted, &mut half);
            if filters.len() > 0 && self.work.is_share_over() {
                half.left = filters.left();
                self.put_off(index, half, joining);
                return Ok(());
            }
        }
        self.end_subscribe(cx, index, session, half, joining);
        Ok(())
    }

    /// Makes the subscription to the next filter of a packet.
    fn grant_next<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        terms: &Terms,
        requested: &SubscribeFilter<'_>,
        half: &HalfDone,
        token: usize,
    ) -> Granted {
        // A packet with more filters than a session may have is not looked at any further.
        if half.codes.len() >= self.settings.limits.subscriptions_per_client as usize {
            self.work.add(NODE);
            return Granted::beyond(ReasonCode::QuotaExceeded, Limit::SubscriptionsPerClient);
        }
        let identifier = half.subscription_id;
        let granted = self.subscribe_one(cx, terms, session, requested, identifier, token);
        let bytes = requested.filter.len();
        self.work
            .add(FILTER + (bytes / NEW_FILTER_BYTES_PER_UNIT) as u64);
        granted
    }

    /// Notes the answer to a filter for the SUBACK.
    fn answer_filter<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        requested: &SubscribeFilter<'_>,
        granted: &Granted,
        half: &mut HalfDone,
    ) {
        if granted.reason.is_error() {
            half.why = half.why.or(Some(granted.reason.name()));
            half.refused += 1;
            if half.refused <= REFUSALS_TOLD {
                self.notify_subscribe_refused(cx, index, requested, granted);
            }
        }
        half.codes.push(self.suback_code(index, granted.reason));
    }

    /// All filters have their answer: SUBACK, unless share groups are being asked.
    fn end_subscribe<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        half: HalfDone,
        joining: u32,
    ) {
        let record = self.subscription_record(session);
        let packet_id = half.packet_id;
        if half.pending.is_none() && joining == 0 {
            return self.answer_subscribe(cx, index, packet_id, &half.codes, half.why, record);
        }
        let connection = self.connections.id_of(index);
        let origin = SubscribeOrigin::Client {
            connection,
            packet_id,
            codes: half.codes,
            why: half.why,
        };
        match half.pending {
            None => {
                let missing = joining;
                let pending = PendingSubAck {
                    origin,
                    record,
                    missing,
                };
                self.insert_pending_suback(pending);
            }
            Some(token) => {
                let bytes = origin.bytes();
                self.subscribing.subacks.add_expected(token, joining);
                if self
                    .subscribing
                    .subacks
                    .set_all_requested(token, origin, record)
                {
                    self.connections.at(index).add_answer_bytes(bytes);
                }
                // The packet itself is no more missing.
                self.joined(cx, token);
            }
        }
    }

    /// Keeps the state of a SUBSCRIBE that is half done. Once share groups are asked, the SUBACK is
    /// pending so that their answers have a place, and the rest of the packet counts as one missing
    /// answer.
    fn put_off(&mut self, index: u32, mut half: HalfDone, joining: u32) {
        match half.pending {
            Some(token) => self.subscribing.subacks.add_expected(token, joining),
            None if joining > 0 => {
                let pending = PendingSubAck {
                    origin: SubscribeOrigin::Unfinished,
                    record: RecordNumber(0),
                    missing: joining + 1,
                };
                half.pending = Some(self.insert_pending_suback(pending));
            }
            None => {}
        }
        self.subscribing.subacks.count(&half);
        self.connections.at(index).make_rare().half_done = Some(Box::new(half));
    }

    /// Keeps an answer that waits for share groups.
    pub(crate) fn insert_pending_suback(&mut self, pending: PendingSubAck) -> usize {
        if let SubscribeOrigin::Client { connection, .. } = &pending.origin
            && let Some(connection) = self.connections.get_mut(*connection)
        {
            connection.add_answer_bytes(pending.origin.bytes());
        }
        self.subscribing.subacks.insert(pending)
    }

    /// Takes the state of a packet that is half done, if the connection has one.
    pub(crate) fn take_half_done(&mut self, index: u32) -> Option<HalfDone> {
        let connection = self.connections.at(index);
        let half = connection.take_rare(|rare| rare.half_done.take())?;
        self.subscribing.subacks.uncount(&half);
        Some(*half)
    }

    /// The connection of a packet that is half done has ended: no answer is sent.
    pub(crate) fn give_up<N: Node>(&mut self, cx: &mut Cx<'_, N>, half: HalfDone) {
        if let Some(token) = half.pending {
            self.joined(cx, token);
        }
    }

    /// Checks what has been decoded of a packet with filters, and counts that as work.
    fn begin_filters(
        &mut self,
        index: u32,
        user_properties: UserProperties<'_>,
        filter_count: usize,
    ) -> Result<(), PacketError> {
        self.check_user_properties(user_properties)?;
        self.check_answer_fits(index, filter_count)?;
        self.work.add((filter_count / DECODED_PER_UNIT) as u64);
        Ok(())
    }

    /// SUBACK and UNSUBACK have a code for each filter and cannot be left out, so a request whose
    /// answer exceeds the client's Maximum Packet Size cannot be met [MQTT-3.1.2-24].
    fn check_answer_fits(&mut self, index: u32, filters: usize) -> Result<(), PacketError> {
        // Packet Identifier, Property Length 0, codes; before them two to four bytes.
        let body = 2 + 1 + filters;
        let length_bytes = 1 + usize::from(body > 127) + usize::from(body > 16_383);
        if 1 + length_bytes + body > self.connections.at(index).packet_bytes_max as usize {
            let why = "the answer would exceed the client's Maximum Packet Size";
            return Err(PacketError::rule(ReasonCode::PacketTooLarge, why));
        }
        Ok(())
    }

    /// UNSUBSCRIBE [MQTT-3.10.4-4], [MQTT-3.10.4-6].
    /// With the same identifier [MQTT-3.10.4-5] and a code for each filter [MQTT-3.11.3-1].
    pub(crate) fn unsubscribe_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        body: &[u8],
    ) -> Result<(), PacketError> {
        let version = self.connections.at(index).version;
        if let Some(half) = self.take_half_done(index) {
            return self.go_on_unsubscribing(cx, index, body, half);
        }
        let unsubscribe = Unsubscribe::decode(body, version)?;
        let count = unsubscribe.filter_count();
        self.begin_filters(index, unsubscribe.user_properties, count)?;
        let filters = unsubscribe.filters().left();
        let mut half = HalfDone::new(unsubscribe.packet_id, 0, filters);
        if version.is_v5() {
            half.unchecked = FiltersLeft::default();
        }
        self.go_on_unsubscribing(cx, index, body, half)
    }

    fn go_on_unsubscribing<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        body: &[u8],
        mut half: HalfDone,
    ) -> Result<(), PacketError> {
        let Some(session) = self.connections.at(index).session() else {
            return Ok(());
        };
        // All filters first here too.
        let mut filters = Unsubscribe::filters_left(body, half.unchecked);
        while let Some(filter) = filters.next() {
            check_filter_before_5(filter)?;
            self.work.add(NODE);
            if filters.len() > 0 && self.work.is_share_over() {
                half.unchecked = filters.left();
                self.put_off(index, half, 0);
                return Ok(());
            }
        }
        half.unchecked = filters.left();
        let mut filters = Unsubscribe::filters_left(body, half.left);
        while let Some(filter) = filters.next() {
            // A packet may name more filters than there are subscriptions.
            let has_any = self.sessions.at(session).subscriptions.len() > 0;
            let existed = has_any && self.unsubscribe_one(cx, session, filter);
            let units = match (existed, has_any) {
                (true, _) => FILTER,
                (false, true) => NOT_FOUND,
                (false, false) => NODE,
            };
            self.work
                .add(units + (filter.len() / FILTER_BYTES_PER_UNIT) as u64);
            let code = match existed {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            };
            half.codes.push(code.code());
            if filters.len() > 0 && self.work.is_share_over() {
                half.left = filters.left();
                self.put_off(index, half, 0);
                return Ok(());
            }
        }
        let record = self.subscription_record(session);
        let version = self.connections.at(index).version;
        self.answer(cx, index, record, |out| {
            UnsubAck::new(half.packet_id, &half.codes).encode(version, out);
        });
        Ok(())
    }
}

/// Units of looking for a subscription that is not there.
const NOT_FOUND: u64 = 4;

/// There is nothing that [`check_available`] would refuse.
fn has_all_available(listener: &ListenerPolicy) -> bool {
    listener.wildcard_subscription_available && listener.shared_subscription_available
}

/// A feature that CONNACK named as unavailable is a Protocol Error on 5 (MQTT 5 sections 3.2.2.3.11
/// and 3.2.2.3.13). [MQTT-3.1.1/3.8.3-2]
fn check_available(listener: &ListenerPolicy, filter: &str) -> Result<(), PacketError> {
    let Ok(parsed) = SubscriptionFilter::parse(filter) else {
        return Ok(());
    };
    if parsed.filter.has_wildcard() && !listener.wildcard_subscription_available {
        let reason = ReasonCode::WildcardSubscriptionsNotSupported;
        return Err(PacketError::of(reason, Limit::WildcardSubscriptions));
    }
    if parsed.share_name.is_some() && !listener.shared_subscription_available {
        let reason = ReasonCode::SharedSubscriptionsNotSupported;
        return Err(PacketError::of(reason, Limit::SharedSubscriptions));
    }
    Ok(())
}

/// A wildcard in the wrong place is a violation that ends the connection
/// [MQTT-3.1.1/4.7.1-2], [MQTT-3.1.1/4.7.1-3], [MQTT-3.1.1/4.8.0-1]. `$share/` means nothing there.
fn check_filter_before_5(filter: &str) -> Result<(), PacketError> {
    match TopicFilter::new(filter) {
        Ok(_) => Ok(()),
        Err(_) => Err(PacketError::filter(
            "a Topic Filter with a wildcard in the wrong place",
            "MQTT-3.1.1/4.8.0-1",
        )),
    }
}
