//! Subscriptions of a session, listed for operators.

use core::ops::Bound;
use std::sync::Arc;

use crate::report::{RetainedAtSubscribe, SubscriptionInfo};
use crate::shard::Shard;
use crate::subscribe::subscribers::{Subscribers, SubscriptionPlace};

impl Shard {
    /// The subscriptions of a session behind the place `after`, at most `limit`, and no more once
    /// their filters have `bytes_max` bytes; and the place of the last one, if there may be more.
    pub(crate) fn subscriptions_behind(
        &self,
        place: u32,
        after: Option<&SubscriptionPlace>,
        limit: usize,
        bytes_max: usize,
    ) -> (Vec<SubscriptionInfo>, Option<SubscriptionPlace>) {
        let mut found = Vec::new();
        let mut bytes = 0;
        let Some(session) = self.sessions.look_at(place).filter(|_| limit > 0) else {
            return (found, None);
        };
        let info = |filter, qos, subscription_id| SubscriptionInfo {
            tenant: session.tenant,
            client_id: Arc::clone(&session.client_id),
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            subscription_id,
            retained: RetainedAtSubscribe::Sent,
        };
        if after.is_none()
            && let Some(of_lane) = self.subscriptions_of_lane(place)
        {
            found = of_lane;
        }
        let own = &session.subscriptions.own;
        let (first, after) = match after {
            None => (0, Bound::Unbounded),
            Some(SubscriptionPlace::Own(last)) => {
                let first = own.partition_point(|(node, _)| node <= last);
                (first, Bound::Unbounded)
            }
            Some(SubscriptionPlace::Shared(last)) => (own.len(), Bound::Excluded(&**last)),
        };
        for (node, slot) in &own[first..] {
            let subscribers = self.subscribers.tree.get(*node).map(Subscribers::list);
            if let Some(subscriber) = subscribers.and_then(|list| list.get(*slot as usize)) {
                let filter: Box<str> = self.subscribers.tree.filter(*node).1.into();
                bytes += filter.len();
                found.push(SubscriptionInfo {
                    no_local: subscriber.no_local,
                    retain_as_published: subscriber.retain.as_published(),
                    retained: subscriber.retain.at_subscribe(),
                    ..info(filter, subscriber.qos, subscriber.subscription_id)
                });
            }
            if found.len() >= limit || bytes >= bytes_max {
                return (found, Some(SubscriptionPlace::Own(*node)));
            }
        }
        let seldom = session.subscriptions.seldom.iter();
        let shared = seldom.flat_map(|seldom| {
            let behind = (after, Bound::Unbounded);
            seldom.shared.range::<str, _>(behind)
        });
        for (filter, subscription) in shared {
            bytes += filter.len();
            found.push(SubscriptionInfo {
                retain_as_published: subscription.retain_as_published,
                ..info(
                    filter.clone(),
                    subscription.qos,
                    subscription.subscription_id,
                )
            });
            if found.len() >= limit || bytes >= bytes_max {
                return (found, Some(SubscriptionPlace::Shared(filter.clone())));
            }
        }
        (found, None)
    }
}
