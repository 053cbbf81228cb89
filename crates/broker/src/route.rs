//! From a Topic Name to the receivers of the message.
//!
//! Topics repeat, so each shard remembers a topic's route: which shards want it, and its own
//! subscribers. Epochs of the node's and of its own index tell whether a route still holds.

mod held;
pub(crate) mod router;
pub(crate) mod routes;

use core::ops::ControlFlow;

use martlet_codec::{QoS, TopicName};
use martlet_permission::{Actions, TenantId};
use smallvec::SmallVec;

use crate::effect::ShardMessage;
use crate::fan_out::under_way::Delivery;
use crate::fault::{self, Fault};
use crate::id::{
    MessageId, RecordNumber, SessionAddress, SessionEpoch, ShardId, SubscriptionIds, shard_of,
};
use crate::interest::InterestClass;
use crate::message::{Message, Publication};
use crate::node::{Cx, Node};
use crate::record::{MessageRecord, Record};
use crate::retained::{RetainedChange, is_own};
use crate::routing::{Match, Origin, Routed, Routing, Target};
use crate::shard::Shard;
use crate::subscribe::subscribers::Subscriber;
use crate::work::{DELIVERY_BYTES, NODE, PERMIT, ROUTE};
use routes::Attention;

/// Number of receivers up to which a message is routed at once, even if other clients wait, and
/// its receivers are written to in turn with all others.
const FEW_RECEIVERS: usize = 8;
/// Bytes of payload that are copied for all receivers of a message at once; a message with more is
/// fanned out.
const COPIED_AT_ONCE: usize = 1024 * 1024;

impl Shard {
    /// Routes a message that this shard received, Wills and `$SYS` included; first it takes its
    /// place in the retained store, if it is to.
    pub(crate) fn route<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: Publication<'_>,
        origin: Origin,
    ) -> Routed {
        let mut message = None;
        if fault::is(Fault::InterestReadBeforeRetained) && publication.retain {
            let routed = self.route_retained(cx, publication, None, origin, None);
            self.retain(cx, &publication, &mut message);
            return routed;
        }
        let change = match publication.retain {
            true => self.retain(cx, &publication, &mut message),
            false => RetainedChange::Absent,
        };
        let retained = match change {
            RetainedChange::Stored { revision, replaced }
            | RetainedChange::Cleared { revision, replaced } => {
                // The node's own topics are published anew after each start.
                (!is_own(publication.topic)).then_some((revision, replaced))
            }
            RetainedChange::Absent | RetainedChange::Full(_) => None,
        };
        let retained_full = match change {
            RetainedChange::Full(limit) => Some(limit),
            _ => None,
        };
        self.counters.retained_refused += u64::from(retained_full.is_some());
        if retained_full.is_some() && origin.refusable {
            return Routed {
                retained_full,
                matched: false,
                other_shards: 0,
                record: RecordNumber(0),
            };
        }
        let routed = self.route_retained(cx, publication, message, origin, retained);
        Routed {
            retained_full,
            ..routed
        }
    }

    /// Routes a message whose retained copy has been dealt with.
    fn route_retained<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        publication: Publication<'_>,
        message: Option<Message>,
        origin: Origin,
        retained: Option<(u64, Option<MessageId>)>,
    ) -> Routed {
        let place = self.current_route(cx, publication.tenant, publication.topic);
        let route = &mut self.router.cache.routes[place];
        route.is_within_limits = true;
        let interested_shards = route.interested_shards();
        let fans_out = self.fans_out(place, publication.publisher, publication.payload.len());
        let mut routing = self.buffers.begin_routing(publication, message);
        let others = interested_shards.shards & !(1 << self.id.0);
        let must_record = retained.is_some() || origin.receipt.is_some();
        let durable = interested_shards.class.has(InterestClass::DURABLE)
            && publication.qos > QoS::AtMostOnce
            || interested_shards.class.has(InterestClass::KEEPS_QOS0)
                && self
                    .store
                    .keeps_for_parts(publication.tenant, publication.qos, must_record);
        let recorded = durable || must_record;
        routing.recorded = recorded;
        let record = if recorded {
            let record = MessageRecord {
                message: self.hold(&mut routing),
                publisher: self.publishing_session(publication.publisher),
                receipt: origin.receipt,
                retained_revision: retained.map(|(revision, _)| revision),
                replaces: retained.and_then(|(_, replaced)| replaced),
                to_be_routed: durable
                    && !(publication.qos == QoS::AtMostOnce && fault::is(Fault::KeptQos0NotRouted)),
                will_of: origin.will_of,
            };
            self.append(cx, Record::Message(record))
        } else {
            RecordNumber(0)
        };
        if others != 0 {
            self.send_to_shards(cx, others, &mut routing, durable);
        }
        let is_in_order = durable && interested_shards.class.has(InterestClass::IN_ORDER);
        let mut matched = others != 0;
        if interested_shards.class.has(InterestClass::LANES) {
            matched |= self.deliver_to_lanes(cx, &mut routing);
        }
        if fans_out {
            let routed = self.fan_out_locally(cx, routing, durable, others, record);
            self.await_queue_if(is_in_order, publication.id, record);
            return routed;
        }
        self.await_queue_if(is_in_order, publication.id, record);
        let has_receiver = self.deliver_route(cx, place, &mut routing);
        let attention = self.router.cache.routes[place].attention;
        if !has_receiver && (others == 0 || attention.is_forbidden()) {
            self.note_unmatched(place, &routing);
        } else if attention.is_only_all() {
            self.note_only_all(place, &routing);
        }
        matched |= has_receiver;
        if durable && others == 0 {
            self.append(cx, Record::Routed(publication.id));
        }
        self.buffers.end_routing(routing);
        if !matched {
            self.counters.messages_unmatched += 1;
        }
        Routed {
            retained_full: None,
            matched,
            other_shards: others,
            record,
        }
    }

    /// A part has to have a message in its queue before it is acknowledged, if it is not there yet.
    #[inline]
    fn await_queue_if(&mut self, is_in_order: bool, message: MessageId, record: RecordNumber) {
        let is_on_its_way = is_in_order && self.router.awaiting.contains_key(&message);
        if is_on_its_way && !fault::is(Fault::AckBeforePartQueue) {
            self.store.unqueued.insert(message, record);
        }
    }

    /// Whether a message is fanned out: it has too many receivers for one turn, or for one in which
    /// others wait, or its copies have too many bytes, or an earlier message of its publisher is
    /// being fanned out.
    #[inline(always)]
    fn fans_out(
        &mut self,
        place: usize,
        publisher: Option<SessionAddress>,
        payload_len: usize,
    ) -> bool {
        let route = &self.router.cache.routes[place];
        let receivers = route.matches.len();
        route.fans_out
            || receivers * (payload_len + DELIVERY_BYTES) > self.router.copied_in_a_crowd
                && self.is_for_too_many(receivers, payload_len)
            || !self.router.fan_outs.is_empty() && self.router.fan_outs.has(publisher)
    }

    /// A message would hold others up if it were routed at once.
    #[cold]
    fn is_for_too_many(&self, receivers: usize, payload_len: usize) -> bool {
        let is_too_long = receivers * payload_len > COPIED_AT_ONCE;
        let holds_up = receivers > FEW_RECEIVERS && self.is_crowded();
        (is_too_long || holds_up) && !self.work.unbounded
    }

    /// Fans a message out that this shard received.
    #[cold]
    #[inline(never)]
    fn fan_out_locally<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        mut routing: Routing<'_>,
        durable: bool,
        other_shards: u64,
        record: RecordNumber,
    ) -> Routed {
        let delivery = Delivery {
            message: self.hold(&mut routing),
            recorded: routing.recorded,
            had: routing.had.into(),
            answer_to: durable.then_some(self.id),
        };
        if durable {
            self.router.await_shards(delivery.message.id(), 1);
        }
        if delivery.message.id().wants_receipts() {
            self.receivers_counted_later(&routing.publication);
        }
        self.buffers.end_routing(routing);
        self.fan_out(cx, delivery);
        Routed {
            retained_full: None,
            matched: true,
            other_shards,
            record,
        }
    }

    /// A message that another shard received.
    pub(crate) fn routed_message_received<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        from: ShardId,
        message: &Message,
        recorded: bool,
        had: Box<[SessionEpoch]>,
    ) {
        let place = self.current_route(cx, message.tenant(), message.topic());
        let publisher = message.publication().publisher;
        let payload_len = message.publication().payload.len();
        if self.fans_out(place, publisher, payload_len) {
            let delivery = Delivery {
                message: message.clone(),
                recorded,
                had,
                answer_to: recorded.then_some(from),
            };
            return self.fan_out(cx, delivery);
        }
        let mut routing = self
            .buffers
            .begin_routing(message.publication(), Some(message.clone()));
        routing.recorded = recorded;
        routing.had = &had;
        let receivers = self.parts.receipts.receivers();
        let has_receiver = self.deliver_route(cx, place, &mut routing);
        if !has_receiver && self.router.cache.is_forbidden(place) {
            self.note_unmatched(place, &routing);
        }
        if message.id().wants_receipts() {
            let receivers = self.parts.receipts.receivers() - receivers;
            self.report_receivers(cx, &routing.publication, receivers);
        }
        self.buffers.end_routing(routing);
        if recorded {
            let id = message.id();
            cx.effects.batches[usize::from(from.0)].push(ShardMessage::Routed(id));
        }
    }

    /// Routes a message again that was not routed to all before a restart. `had` are the sessions
    /// and share groups that have or had an entry of it.
    pub(crate) fn route_recorded_again<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        message: &Message,
        had: &[SessionEpoch],
    ) {
        let place = self.current_route(cx, message.tenant(), message.topic());
        let interested_shards = self.router.cache.routes[place].interested_shards();
        let mut routing = self
            .buffers
            .begin_routing(message.publication(), Some(message.clone()));
        routing.recorded = true;
        if !fault::is(Fault::RoutedAgainToAll) {
            routing.had = had;
        }
        let others = interested_shards.shards & !(1 << self.id.0);
        if others != 0 {
            self.send_to_shards(cx, others, &mut routing, true);
        }
        if self.parts.lanes.any() && !fault::is(Fault::LanesNotRoutedAgain) {
            self.deliver_to_lanes(cx, &mut routing);
        }
        self.deliver_route(cx, place, &mut routing);
        if others == 0 {
            self.append(cx, Record::Routed(message.id()));
        }
        self.buffers.end_routing(routing);
    }

    /// Another shard has recorded its entries of a message.
    pub(crate) fn routed_answer_received<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: MessageId) {
        if self.router.shard_has_recorded(id) {
            self.store.unqueued.remove(id);
            self.append(cx, Record::Routed(id));
        }
    }

    fn send_to_shards<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        shards: u64,
        routing: &mut Routing<'_>,
        recorded: bool,
    ) {
        let message = self.hold(routing);
        if recorded && fault::is(Fault::RoutedTooEarly) {
            let id = routing.publication.id;
            self.append(cx, Record::Routed(id));
        } else if recorded {
            self.router
                .awaiting
                .insert_new(message.id(), shards.count_ones());
        }
        let mut left = shards;
        while left != 0 {
            let shard = left.trailing_zeros() as usize;
            left &= left - 1;
            if let Some(batch) = cx.effects.batches.get_mut(shard) {
                batch.push(ShardMessage::Publish {
                    message: message.clone(),
                    recorded,
                    had: routing.had.into(),
                });
            }
        }
    }

    /// The place of the topic's route, computed anew if an index has changed.
    #[inline(always)]
    fn current_route<N: Node>(&mut self, cx: &Cx<'_, N>, tenant: TenantId, topic: &str) -> usize {
        let place = self.router.cache.place(tenant, topic);
        let route = &mut self.router.cache.routes[place];
        // Read before the indexes are: a change in between is seen again.
        let epoch = cx.node.interest_epoch(route.key) + self.subscribers.epochs.at(route.key);
        if route.epoch == epoch {
            self.counters.routes_cached += 1;
        } else {
            self.renew_route(cx, tenant, topic, place, epoch);
        }
        place
    }

    /// Computes the route of a topic anew.
    #[inline(never)]
    fn renew_route<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        tenant: TenantId,
        topic: &str,
        place: usize,
        epoch: u64,
    ) {
        self.counters.routes_walked += 1;
        let route = &mut self.router.cache.routes[place];
        route.epoch = epoch;
        let (interested_shards, steps) = cx
            .node
            .interest(|interest| interest.interested_shards_in_steps(tenant, topic));
        self.work.add(ROUTE + steps as u64 * NODE);
        (route.interested, route.interest_class) =
            (interested_shards.shards, interested_shards.class);
        if self.parts.lanes.any() {
            let class = self.interest_of_lanes(tenant, topic);
            let route = &mut self.router.cache.routes[place];
            route.interest_class = route.interest_class.and(class);
        }
        let route = &mut self.router.cache.routes[place];
        if fault::is(Fault::EpochReadAfterIndex) {
            route.epoch = cx.node.interest_epoch(route.key) + self.subscribers.epochs.at(route.key);
        }
        let bytes = route.bytes();
        let matches = &mut route.matches;
        matches.clear();
        let limit = match self.work.unbounded {
            true => usize::MAX,
            false => self.settings.work.matches,
        };
        let (steps, end) = self
            .subscribers
            .tree
            .matches(tenant, topic, limit, |_, subscribers| {
                let list = subscribers.list();
                if list.len() > limit - matches.len() {
                    return ControlFlow::Break(());
                }
                matches.extend(list.iter().map(Subscriber::as_match));
                ControlFlow::Continue(())
            });
        self.work.add((steps + matches.len()) as u64 * NODE);
        route.fans_out = end.is_break();
        let is_only_all = route.interested != 0 && !route.interest_class.has(InterestClass::NARROW);
        route.attention = match is_only_all {
            true => route.attention.only_all(),
            false => Attention::NONE,
        };
        if route.fans_out {
            *matches = SmallVec::new();
        }
        matches.sort_by_key(|found| found.target);
        if self.permits.is_checked() {
            self.drop_forbidden_matches(place, topic);
        }
        let route = &self.router.cache.routes[place];
        let is_wanted = route.interested & !(1 << self.id.0) != 0
            || route.fans_out
            || !route.matches.is_empty();
        if is_wanted && !route.attention.is_only_all() {
            self.noted.unmatched.forget(place, tenant, topic);
        }
        let route = &self.router.cache.routes[place];
        if place != 0 {
            // It may have become smaller: what is fanned out has no matches here.
            self.router.cache.bytes = self.router.cache.bytes + route.bytes() - bytes;
        }
    }

    /// Takes those sessions out of a route that may not receive what is published to it, as if they
    /// had no subscription. It holds until the route is computed anew, which it is when what a
    /// session may do changes. A share group's members are each looked at when it is their turn.
    #[cold]
    fn drop_forbidden_matches(&mut self, place: usize, topic: &str) {
        let mut matches = core::mem::take(&mut self.router.cache.routes[place].matches);
        let subscribed = matches.len();
        self.work.add(subscribed as u64 * PERMIT);
        matches.retain(|found| {
            let session = found.target.as_session();
            session.is_none_or(|session| self.permits(session, Actions::RECEIVE, topic))
        });
        let route = &mut self.router.cache.routes[place];
        if matches.len() < subscribed {
            route.attention = Attention::FORBIDDEN;
        }
        route.matches = matches;
    }

    /// Hands the message to this shard's subscribers; false if there is none.
    /// Only to filters that match [MQTT-3.3.2-3], compared byte by byte [MQTT-4.7.3-4].
    #[inline(always)]
    fn deliver_route<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        place: usize,
        routing: &mut Routing<'_>,
    ) -> bool {
        // Delivering never routes another message, so the matches are not needed meanwhile.
        let matches = core::mem::take(&mut self.router.cache.routes[place].matches);
        // A write takes some 100 units of work, and is none: thousands of receivers are written to
        // after clients that wait for messages of their own.
        let was_fanning_out = cx.effects.is_fanning_out;
        cx.effects.is_fanning_out |= matches.len() > FEW_RECEIVERS;
        let mut matched = false;
        let mut rest = matches.as_slice();
        while let Some(first) = rest.first() {
            let count = rest
                .iter()
                .take_while(|found| found.target == first.target)
                .count();
            matched |= self.deliver_matches(cx, first.target, &rest[..count], routing);
            rest = &rest[count..];
        }
        cx.effects.is_fanning_out = was_fanning_out;
        self.router.cache.routes[place].matches = matches;
        matched
    }

    /// One receiver, with all of its subscriptions that match: it gets one message, at the highest
    /// QoS, with all Subscription Identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-4].
    /// RETAIN only with Retain As Published [MQTT-3.3.1-12], [MQTT-3.3.1-13]; overlapping
    /// subscriptions are one copy [MQTT-3.3.4-3].
    #[inline(always)] // Its second caller, which is rare, would cost each delivery 25 instructions.
    fn deliver_matches<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        target: Target,
        matches: &[Match],
        routing: &mut Routing<'_>,
    ) -> bool {
        let Some(session) = target.as_session() else {
            if let Some(group) = target.as_group()
                && !self.groups.had(group, routing.had)
            {
                self.group_message_received(cx, group, routing);
            }
            return true;
        };
        let state = self.sessions.at(session);
        if state.flags.retired() {
            return false;
        }
        if !routing.had.is_empty() && routing.had.contains(&state.epoch) {
            return true;
        }
        let mut qos = QoS::AtMostOnce;
        let mut retain_as_published = false;
        let mut ids: SubscriptionIds = SmallVec::new();
        let mut any = false;
        for found in matches {
            // [MQTT-3.8.3-3]
            if found.no_local
                && !fault::is(Fault::NoLocalIgnored)
                && self.is_publisher(session, routing.publication.publisher)
            {
                continue;
            }
            any = true;
            qos = qos.max(found.qos);
            retain_as_published |= found.retain_as_published;
            if found.subscription_id != 0 {
                ids.push(found.subscription_id);
            }
        }
        let keeps = qos.min(routing.publication.qos) > QoS::AtMostOnce;
        if keeps && !routing.recorded && self.sessions.at(session).durable {
            // It was routed before this subscription was known where it was received, so it comes
            // after it. Its entry would have no record, and a restart would give its Packet
            // Identifier again while the client still knows it.
            any = false;
        }
        if any {
            let qos = qos.min(routing.publication.qos);
            let retain = routing.publication.retain && retain_as_published;
            self.deliver(cx, session, routing, qos, retain, ids);
        }
        any
    }

    /// As [`Shard::deliver_matches`], for a message that is fanned out or that a lane takes.
    #[inline(never)]
    pub(crate) fn serve<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        target: Target,
        matches: &[Match],
        routing: &mut Routing<'_>,
    ) -> bool {
        self.deliver_matches(cx, target, matches, routing)
    }

    fn is_publisher(&self, session: u32, publisher: Option<SessionAddress>) -> bool {
        publisher.is_some_and(|publisher| {
            publisher.shard == self.id && publisher.session == self.sessions.id_of(session)
        })
    }

    /// Hands a message to those lanes of this shard that take it: of each part the lane of the
    /// shard that received it, in whichever run that was. Answers whether there is one.
    #[inline(never)]
    fn deliver_to_lanes<N: Node>(&mut self, cx: &mut Cx<'_, N>, routing: &mut Routing<'_>) -> bool {
        let publication = routing.publication;
        let Ok(topic) = TopicName::new(publication.topic) else {
            return false;
        };
        let number = match fault::is(Fault::LaneOfOtherShard) {
            true => self.id.0 ^ 1,
            false => shard_of(publication.id.0),
        };
        let mut matched = false;
        for place in 0..self.parts.lanes.len() {
            let Some(lane) = self.parts.lanes.taking(place, number, publication.tenant) else {
                continue;
            };
            let session = lane.session().index;
            let matches = lane.matches(topic);
            self.work.add(lane.subscription_count() as u64 * NODE);
            if !matches.is_empty() && self.permits(session, Actions::RECEIVE, publication.topic) {
                let is_served = self.serve(cx, Target::session(session), &matches, routing);
                self.parts.lanes_chosen += u64::from(is_served);
                matched |= is_served;
            }
        }
        matched
    }
}
