//! Lanes for shards on which a part has none: a node that is started with more threads than before
//! has them before its listeners open. Without them, what is acknowledged until the part is
//! attached would go to no lane of the new shards.
//!
//! A copy has the terms and subscriptions of another lane of the part, and no messages. Who
//! attaches the part later changes it like any other lane.

use martlet_permission::TenantId;

use crate::id::{SessionAddress, SessionEpoch, lane_name, lane_of};
use crate::node::{Cx, Node};
use crate::record::{Record, SessionRecord, SubscriptionRecord};
use crate::shard::Shard;

/// Messages that a lane takes, and on which terms.
#[derive(Clone, Debug)]
pub struct LaneTerms {
    session: SessionRecord,
    subscriptions: Vec<SubscriptionRecord>,
    number: u16,
}

impl LaneTerms {
    /// Tenant and name of its part.
    pub fn part(&self) -> (TenantId, &str) {
        let part = lane_of(&self.session.client_id).map(|(part, _)| part);
        (self.session.tenant, part.unwrap_or_default())
    }

    /// Number of the lane.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether it takes nothing: it is being emptied.
    pub fn is_left_over(&self) -> bool {
        self.subscriptions.is_empty()
    }
}

impl Shard {
    /// The lanes on this shard whose sessions outlast their attachments.
    pub fn lane_terms(&mut self) -> Vec<LaneTerms> {
        let mut all = Vec::new();
        for id in self.parts.lanes.sessions() {
            let Some(index) = self.sessions.live(id) else {
                continue;
            };
            let session = self.session_as_recorded(index);
            let Some((_, number)) = lane_of(&session.client_id).filter(|_| session.durable) else {
                continue;
            };
            let subscriptions = self.parts.lanes.records_of(id, session.epoch);
            all.push(LaneTerms {
                session,
                subscriptions,
                number,
            });
        }
        all
    }

    /// Begins the lane of this shard with the terms of another one.
    pub fn add_lane<N: Node>(&mut self, cx: &mut Cx<'_, N>, terms: &LaneTerms) {
        let (_, part) = terms.part();
        let epoch = self.next_epoch();
        let session = SessionRecord {
            client_id: lane_name(part, self.id.0).into(),
            epoch,
            left_wall_ms: Some(cx.now.record_ms),
            put_off: false,
            will: None,
            ..terms.session.clone()
        };
        let Some(address) = self.restore_session(cx, &session, core::iter::empty()) else {
            return;
        };
        self.append(cx, Record::Session(Box::new(session)));
        self.subscribe_restored_lane(cx, address, epoch, terms);
    }

    /// The lane of this shard was left over while the node had fewer shards: it takes messages
    /// again, by the subscriptions of another one. What waits in it stays.
    pub fn refill_lane<N: Node>(&mut self, cx: &mut Cx<'_, N>, terms: &LaneTerms) {
        let (tenant, part) = terms.part();
        let found = self.sessions.find(tenant, &lane_name(part, self.id.0));
        let Some(index) = found else {
            return;
        };
        let epoch = self.sessions.at(index).epoch;
        let address = SessionAddress {
            shard: self.id,
            session: self.sessions.id_of(index),
        };
        self.subscribe_restored_lane(cx, address, epoch, terms);
    }

    fn subscribe_restored_lane<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        address: SessionAddress,
        epoch: SessionEpoch,
        terms: &LaneTerms,
    ) {
        for subscription in &terms.subscriptions {
            let record = SubscriptionRecord {
                epoch,
                ..subscription.clone()
            };
            self.restore_subscription(cx, address, &record);
            self.append(cx, Record::Subscribed(Box::new(record)));
        }
    }

    fn session_as_recorded(&mut self, index: u32) -> SessionRecord {
        let terms = self.terms_of_part(index);
        self.sessions.at(index).as_recorded(terms)
    }
}
