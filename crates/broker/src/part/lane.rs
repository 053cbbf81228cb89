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

use martlet_codec::{QoS, TopicName};
use martlet_fault::{self as fault, Fault};
use martlet_permission::TenantId;

use super::PartEvent;
use crate::id::{SessionId, lane_of};
use crate::interest::InterestClass;
use crate::node::{Cx, Node};
use crate::part::interface::PartReach;
use crate::part::lanes::Lane;
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
