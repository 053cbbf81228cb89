//! A part of the node that looks at messages of all tenants as they are published, and keeps
//! nothing of them in a queue: what it does not take in time it does not see.

use std::sync::Arc;

use martlet_broker::{
    Delivery, PartId, PartOutcome, PartQueueLimits, PartReach, PartSpec, PartSubscription, TenantId,
};
use martlet_codec::{ReasonCode, RetainHandling};
use martlet_integrate::{LaneEvent, Lanes};

use crate::control::Control;

/// Deliveries that it may have and not have settled.
const CREDIT: u16 = 4_096;

/// Such a part, attached or about to be. Dropping it detaches it.
#[derive(Debug)]
pub(crate) struct Observer {
    lanes: Lanes,
}

impl Observer {
    /// Attaches it under a Client Identifier of the node's own with these Topic Filters.
    pub(crate) fn attach<F: AsRef<str>>(control: &Control, client_id: &str, filters: &[F]) -> Self {
        let subscription = |filter: &F| PartSubscription {
            filter: filter.as_ref().into(),
            identifier: 0,
            // Events of an earlier attachment are out of date.
            retain_handling: RetainHandling::DoNotSend,
        };
        let spec = PartSpec {
            id: PartId::default(),
            tenant: TenantId::default(),
            client_id: client_id.into(),
            identity: None,
            subscriptions: filters.iter().map(subscription).collect(),
            credit: CREDIT,
            session_expiry_secs: 0,
            keeps_qos0: false,
            queue: PartQueueLimits::default(),
            reach: PartReach::LaneOfAllTenants,
        };
        let shards = Arc::clone(&control.shards);
        let attach = move |spec, outlet| shards.attach(spec, outlet);
        Self {
            lanes: Lanes::attach(&spec, control.shards.count(), &[], attach),
        }
    }

    /// The messages that are there, once there are some. Those of one publisher come in order.
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// The part was ended, for this reason; none: the node stops.
    pub(crate) async fn next(&mut self) -> Result<Vec<Delivery>, Option<&'static str>> {
        loop {
            let mut next = Some(self.lanes.next().await.ok_or(None)?);
            let (mut settled, mut deliveries) = (Vec::new(), Vec::new());
            while let Some(events) = next {
                match events {
                    LaneEvent::Delivery(token, delivery) => {
                        deliveries.push(delivery);
                        settled.push((token, PartOutcome::Done));
                    }
                    LaneEvent::Attached(_) | LaneEvent::Queue(_) => {}
                    LaneEvent::Ended { reason, why } => {
                        return Err((reason != ReasonCode::ServerShuttingDown).then_some(why));
                    }
                }
                next = self.lanes.next_now();
            }
            if !deliveries.is_empty() {
                self.lanes.settle_all(settled);
                return Ok(deliveries);
            }
        }
    }
}
