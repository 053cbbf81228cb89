//! Subscriptions of parts and of lanes: those that a part asks for when it is attached.

use martlet_codec::{
    QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionFilter, SubscriptionOptions,
};

use crate::connection::Connection;
use crate::fault::{self, Fault};
use crate::id::{ConnectionId, SessionEpoch};
use crate::node::{Cx, Node};
use crate::part::lanes::LaneSubscription;
use crate::part::{PartEvent, PartSpec};
use crate::record::Record;
use crate::shard::Shard;

impl Shard {
    /// Makes the subscriptions of a part, whose session is claimed, those that it asks for.
    pub(crate) fn subscribe_part<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        session: u32,
        spec: &PartSpec,
        session_present: bool,
    ) {
        if spec.reach.is_lane() {
            let granted = self.subscribe_lane(cx, session, spec);
            let id = self.connections.id_of(index);
            if let Some(part) = self.parts.at(id) {
                (part.granted, part.session_present) = (granted, session_present);
            }
            return;
        }
        let is_subscribed =
            |filter: &str| spec.subscriptions.iter().any(|one| *one.filter == *filter);
        for filter in self.filters_of(session) {
            if !is_subscribed(&filter) && !fault::is(Fault::PartSubscriptionStays) {
                self.unsubscribe_one(cx, session, &filter);
            }
        }
        let terms = self.terms_of(index);
        let mut granted = Vec::with_capacity(spec.subscriptions.len());
        for subscription in &spec.subscriptions {
            let requested = SubscribeFilter {
                filter: &subscription.filter,
                options: SubscriptionOptions {
                    qos: QoS::AtLeastOnce,
                    // What it publishes does not come back to it.
                    no_local: !fault::is(Fault::PartOwnComesBack),
                    // RETAIN says that it was retained when it was found; the message knows how
                    // it was published.
                    retain_as_published: false,
                    retain_handling: subscription.retain_handling,
                },
            };
            let identifier = subscription.identifier;
            // It joins no share group, so no answer is waited for.
            let answer = self.subscribe_one(cx, &terms, session, &requested, identifier, 0);
            granted.push(answer.reason);
        }
        let id = self.connections.id_of(index);
        if let Some(part) = self.parts.at(id) {
            (part.granted, part.session_present) = (granted, session_present);
        }
    }

    /// Reports that a part is attached: its session and subscriptions are durable.
    pub(crate) fn notify_attached<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        if let Some(part) = self.parts.at(id) {
            let attached = PartEvent::Attached {
                session_present: part.session_present,
                granted: core::mem::take(&mut part.granted),
            };
            cx.effects.parts.push((part.id, attached));
        }
        let session = self.connections.get(id).and_then(Connection::session);
        if let Some(session) = session {
            self.notify_run(cx, session);
            let session = self.sessions.id_of(session);
            self.tend_queue_of_part(cx, session);
        }
    }

    /// Makes the subscriptions of a lane those that it asks for.
    fn subscribe_lane<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        spec: &PartSpec,
    ) -> Vec<ReasonCode> {
        let id = self.sessions.id_of(session);
        for filter in self.filters_of(session) {
            self.unsubscribe_one(cx, session, &filter);
        }
        let is_subscribed =
            |filter: &str| spec.subscriptions.iter().any(|one| *one.filter == *filter);
        let mut given_up = Vec::new();
        if let Some(lane) = self.parts.lanes.of_mut(id) {
            let removed = lane
                .subscriptions
                .extract_if(.., |one| !is_subscribed(&one.filter));
            given_up.extend(removed.map(|one| one.number));
        }
        for number in given_up {
            self.append_of_lane(cx, session, |epoch| Record::Unsubscribed { epoch, number });
        }
        let requested = spec.subscriptions.iter();
        let granted = requested.map(|one| {
            let is_possible = one.retain_handling == RetainHandling::DoNotSend;
            let parsed = SubscriptionFilter::parse(&one.filter);
            let is_possible = is_possible && parsed.is_ok_and(|found| found.share_name.is_none());
            if !is_possible || self.check_topic_text(&one.filter).is_err() {
                return ReasonCode::TopicFilterInvalid;
            }
            if self.may_subscribe(session, &one.filter).is_err() {
                return ReasonCode::NotAuthorized;
            }
            self.grant_to_lane(cx, session, &one.filter, one.identifier);
            ReasonCode::GrantedQoS1
        });
        let granted = granted.collect();
        self.router.cache.begin_anew();
        granted
    }

    fn grant_to_lane<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        filter: &str,
        identifier: u32,
    ) {
        let id = self.sessions.id_of(session);
        let Some(lane) = self.parts.lanes.of_mut(id) else {
            return;
        };
        let mut existing = lane.subscriptions.iter();
        let existing = existing.find(|one| *one.filter == *filter);
        let before = existing.map(|one| (one.number, one.identifier));
        if before.is_some_and(|(_, existing)| existing == identifier) {
            return;
        }
        let state = self.sessions.at(session);
        let number = before.map(|(number, _)| number);
        let subscription = LaneSubscription {
            filter: filter.into(),
            number: number.unwrap_or_else(|| state.subscriptions.next_number()),
            identifier,
        };
        let record = subscription.record(state.epoch);
        self.parts.lanes.enter_subscription(id, &record);
        // Its record stands before every message that is routed to it.
        self.append_of_lane(cx, session, |_| Record::Subscribed(Box::new(record)));
    }

    fn append_of_lane<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        record: impl FnOnce(SessionEpoch) -> Record,
    ) {
        let state = self.sessions.at(session);
        let (epoch, durable) = (state.epoch, state.durable);
        if durable {
            self.append(cx, record(epoch));
        }
    }
}
