//! The lanes of a shard.

use std::sync::Arc;

use martlet_codec::{QoS, TopicFilter, TopicName};
use martlet_fault::{self as fault, Fault};
use martlet_permission::TenantId;
use smallvec::SmallVec;

use crate::id::{SessionEpoch, SessionId};
use crate::part::interface::PartReach;
use crate::record::SubscriptionRecord;
use crate::routing::{Match, Target};

/// A lane whose session is on this shard, attached or not.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) session: SessionId,
    pub(super) number: u16,
    /// None takes those of all.
    pub(super) tenant: Option<TenantId>,
    pub(super) subscriptions: Vec<LaneSubscription>,
}

#[derive(Debug)]
pub(crate) struct LaneSubscription {
    pub(super) filter: Box<str>,
    /// Which of its session's, for records.
    pub(super) number: u32,
    /// 0 is none.
    pub(super) identifier: u32,
}

impl LaneSubscription {
    pub(super) fn takes(&self, topic: TopicName<'_>) -> bool {
        // It was checked when it was granted.
        TopicFilter::new(&self.filter).is_ok_and(|filter| filter.matches(topic))
    }

    pub(super) fn record(&self, epoch: SessionEpoch) -> SubscriptionRecord {
        SubscriptionRecord {
            epoch,
            number: self.number,
            filter: self.filter.clone(),
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: false,
            subscription_id: self.identifier,
            retained_pending: false,
            retained_after: None,
        }
    }
}

impl Lane {
    fn takes_tenant(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant) || fault::is(Fault::LaneOfOtherTenant)
    }

    pub(super) fn takes(&self, tenant: TenantId, topic: TopicName<'_>) -> bool {
        self.takes_tenant(tenant) && self.subscriptions.iter().any(|one| one.takes(topic))
    }

    /// The session of the lane.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// The subscriptions that take a message of this topic.
    pub(crate) fn matches(&self, topic: TopicName<'_>) -> SmallVec<[Match; 4]> {
        let taking = self.subscriptions.iter().filter(|one| one.takes(topic));
        let matches = taking.map(|one| Match {
            target: Target::session(self.session.index),
            subscription_id: one.identifier,
            qos: QoS::AtLeastOnce,
            no_local: !fault::is(Fault::PartOwnComesBack),
            retain_as_published: false,
        });
        matches.collect()
    }

    /// Returns what its publishers are held back by, while its queue is full.
    pub(crate) fn held(&self) -> (Option<TenantId>, Arc<[Box<str>]>) {
        let filters = self.subscriptions.iter().map(|one| one.filter.clone());
        (self.tenant, filters.collect())
    }
}

/// The lanes of a shard.
#[derive(Debug, Default)]
pub(crate) struct Lanes(pub(super) Vec<Lane>);

impl Lanes {
    /// There is one.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The lane at `place`, if it takes messages that shard `number` receives from this tenant.
    pub(crate) fn taking(&self, place: usize, number: u16, tenant: TenantId) -> Option<&Lane> {
        let lane = self.0.get(place)?;
        (lane.number == number && lane.takes_tenant(tenant)).then_some(lane)
    }

    pub(crate) fn of(&self, session: SessionId) -> Option<&Lane> {
        self.0.iter().find(|lane| lane.session == session)
    }

    pub(crate) fn reach_of(&self, session: SessionId) -> PartReach {
        match self.of(session) {
            None => PartReach::Node,
            Some(lane) if lane.tenant.is_none() => PartReach::LaneOfAllTenants,
            Some(_) => PartReach::Lane,
        }
    }

    /// Their sessions.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.0.iter().map(|lane| lane.session).collect()
    }

    /// The subscriptions of a lane, as their records have them.
    pub(crate) fn records_of(
        &self,
        session: SessionId,
        epoch: SessionEpoch,
    ) -> Vec<SubscriptionRecord> {
        let subscriptions = self.of(session).map(|lane| &lane.subscriptions);
        let all = subscriptions.into_iter().flatten();
        all.map(|one| one.record(epoch)).collect()
    }

    pub(super) fn of_mut(&mut self, session: SessionId) -> Option<&mut Lane> {
        self.0.iter_mut().find(|lane| lane.session == session)
    }

    /// Enters a subscription, new or from before a restart; false: the session is no lane.
    pub(crate) fn enter_subscription(
        &mut self,
        session: SessionId,
        record: &SubscriptionRecord,
    ) -> bool {
        let Some(lane) = self.of_mut(session) else {
            return false;
        };
        lane.subscriptions.retain(|one| one.number != record.number);
        lane.subscriptions.push(LaneSubscription {
            filter: record.filter.clone(),
            number: record.number,
            identifier: record.subscription_id,
        });
        true
    }
}
