//! Lanes: a part that takes many messages is attached once for each shard, so that no shard has to
//! carry them all. Each attachment is a *lane*: a session of its own, on the shard of its number,
//! that takes the messages which shard received from publishers. Its subscriptions are not in the
//! index of the node, so no message is sent to another shard for it.
//!
//! The messages of a publisher come in by one shard for as long as the node runs, so a lane has
//! them in order. After a restart publishers are with other shards: what a lane has from an earlier
//! run of the node comes before what any lane has from a later one. The shard notifies each lane of
//! which run its oldest message is ([`PartEvent::Run`]); who attached the lanes keeps that order,
//! by [`LaneOrder`](super::LaneOrder).

use std::sync::Arc;

use martlet_codec::{QoS, ReasonCode, RetainHandling, SubscriptionFilter, TopicName};
use martlet_fault::{self as fault, Fault};
use martlet_permission::TenantId;

use super::{PartEvent, PartSpec};
use crate::id::{SessionEpoch, SessionId};
use crate::interest::InterestClass;
use crate::lane_name::lane_of;
use crate::node::{Cx, Node};
use crate::part::interface::PartReach;
use crate::part::lanes::{Lane, LaneSubscription};
use crate::record::Record;
use crate::report::{RetainedAtSubscribe, SubscriptionInfo};
use crate::session::Session;
use crate::shard::Shard;
use crate::work::NODE;

impl Shard {
    /// A session is the lane that its Client Identifier names.
    pub(crate) fn begin_lane(&mut self, session: u32, reach: PartReach) {
        let id = self.sessions.id_of(session);
        let state = self.sessions.at(session);
        let tenant = (reach != PartReach::LaneOfAllTenants).then_some(state.tenant);
        let Some((_, number)) = lane_of(&state.client_id).filter(|_| reach.is_lane()) else {
            return;
        };
        if let Some(lane) = self.parts.lanes.of_mut(id) {
            lane.tenant = tenant;
            return;
        }
        self.parts.lanes.0.push(Lane {
            session: id,
            number,
            tenant,
            subscriptions: Vec::new(),
        });
    }

    /// The session of a part ends, or is a lane no longer.
    pub(crate) fn end_lane(&mut self, id: SessionId) {
        let lanes = &mut self.parts.lanes.0;
        if let Some(place) = lanes.iter().position(|lane| lane.session == id) {
            lanes.swap_remove(place);
            self.router.cache.begin_anew();
        }
    }

    /// Makes the subscriptions of a lane those that it asks for.
    pub(super) fn subscribe_lane<N: Node>(
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

    /// Number of subscriptions of a lane; 0 if the session is no lane.
    pub(crate) fn count_of_lane(&self, session: &Session) -> usize {
        if !session.flags.part() {
            return 0;
        }
        let is_its = |lane: &&Lane| {
            let found = self.sessions.get(lane.session);
            found.is_some_and(|found| found.epoch == session.epoch)
        };
        let lane = self.parts.lanes.0.iter().find(is_its);
        lane.map_or(0, |lane| lane.subscriptions.len())
    }

    /// The subscriptions of a lane, for operators; none if the session is no lane.
    pub(crate) fn subscriptions_of_lane(&self, session: u32) -> Option<Vec<SubscriptionInfo>> {
        let lane = self.parts.lanes.of(self.sessions.id_of(session))?;
        let session = self.sessions.look_at(session)?;
        let all = lane.subscriptions.iter().map(|one| SubscriptionInfo {
            tenant: session.tenant,
            client_id: Arc::clone(&session.client_id),
            filter: one.filter.clone(),
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: false,
            subscription_id: one.identifier,
            retained: RetainedAtSubscribe::Sent,
        });
        Some(all.collect())
    }

    /// The interest of the lanes of this shard in a topic of messages that the shard receives.
    #[cold]
    pub(crate) fn interest_of_lanes(&mut self, tenant: TenantId, topic: &str) -> InterestClass {
        let mut class = InterestClass::NONE;
        let Ok(topic) = TopicName::new(topic) else {
            return class;
        };
        for lane in &self.parts.lanes.0 {
            self.work.add(lane.subscriptions.len() as u64 * NODE);
            if lane.number != self.id.0 || !lane.takes(tenant, topic) {
                continue;
            }
            class = class.and(InterestClass::LANES);
            let Some(session) = self.sessions.get(lane.session) else {
                continue;
            };
            if session.durable {
                class = class.and(InterestClass::DURABLE);
            }
            if session.durable && session.flags.keeps_qos0() {
                class = class.and(InterestClass::KEEPS_QOS0);
            }
        }
        class
    }

    /// Reports to a part from which run its oldest message is, if that run is later than before. A
    /// session that was left over has to be empty before it may end.
    pub(super) fn notify_run<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        let run = self.run();
        // A part gets `Attached` first.
        let connection = self.admitted_connection(session);
        let Some(connection) = connection.map(|index| self.connections.id_of(index)) else {
            return;
        };
        let Some(part) = self.parts.at(connection) else {
            return;
        };
        let is_left_over = part.is_left_over;
        if part.run == Some(u32::MAX) {
            return;
        }
        let oldest = self.sessions.at(session).outbound.oldest_run();
        let is_present = match is_left_over {
            true => oldest.is_none(),
            false => oldest.is_none_or(|oldest| oldest >= run),
        };
        let oldest = oldest.map_or(run, |oldest| oldest.min(run));
        let (oldest, is_present) = match fault::is(Fault::LaneRunTooEarly) {
            true => (run, true),
            false => (oldest, is_present),
        };
        if let Some(part) = self.parts.at(connection)
            && (Some(oldest) > part.run || is_present)
        {
            part.run = Some(if is_present { u32::MAX } else { oldest });
            let event = PartEvent::Run { oldest, is_present };
            cx.effects.parts.push((part.id, event));
        }
    }
}
