//! Subscriptions, as operators look for them, make them and end them.

use martlet_codec::{ReasonCode, SubscribeFilter, SubscriptionOptions};
use martlet_permission::TenantId;

use crate::command::NewSubscription;
use crate::id::RecordNumber;
use crate::node::{Cx, Node};
use crate::operate::answer::report;
use crate::operate::jobs::subscriptions::SubscriptionScan;
use crate::operate::step::{STEP_BYTES, Step};
use crate::report::{Answer, SubscriptionInfo, SubscriptionPage};
use crate::shard::Shard;
use crate::subscribe::Terms;
use crate::subscribe::suback::{PendingSubAck, SubscribeOrigin};

/// Places of sessions that a step looks at, unless it finds many subscriptions.
const PLACES_PER_STEP: u32 = 512;
/// Subscriptions that a step looks at.
const SUBSCRIPTIONS_PER_STEP: usize = 256;

impl Shard {
    pub(super) fn scan_subscriptions(&self, scan: &mut SubscriptionScan) -> Step {
        let places = self.sessions.places();
        let end = places.min(scan.next.saturating_add(PLACES_PER_STEP));
        let mut left = SUBSCRIPTIONS_PER_STEP;
        let mut bytes_left = STEP_BYTES;
        while scan.next < end && left > 0 && bytes_left > 0 {
            let place = scan.next;
            if let Some(session) = self.sessions.look_at(place)
                && scan
                    .query
                    .matches_session(session.tenant, &session.client_id)
            {
                let id = self.sessions.id_of(place);
                // Another session may have the place by now.
                let after = scan.within.take().filter(|(within, _)| *within == id);
                let after = after.as_ref().map(|(_, after)| after);
                let (found, last) = self.subscriptions_behind(place, after, left, bytes_left);
                left -= found.len();
                let bytes: usize = found.iter().map(SubscriptionInfo::bytes).sum();
                bytes_left = bytes_left.saturating_sub(bytes);
                found.into_iter().for_each(|info| scan.found(info));
                if let Some(last) = last {
                    scan.within = Some((id, last));
                    break;
                }
            }
            scan.within = None;
            scan.next += 1;
        }
        if scan.next < places {
            return Step::More;
        }
        let page = SubscriptionPage {
            subscriptions: core::mem::take(&mut scan.found).into_values().collect(),
            total: scan.total,
            more: scan.end.is_some(),
        };
        Step::Done(Answer::Subscriptions(page), RecordNumber(0))
    }

    /// Subscribes for a client, as if it had asked.
    pub(super) fn subscribe_for<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        request: u64,
        tenant: TenantId,
        client_id: &str,
        subscriptions: &[NewSubscription],
    ) {
        let Some(session) = self.sessions.find(tenant, client_id) else {
            return report(cx, request, Answer::Subscribe(None));
        };
        let terms = self.terms_for_operators(session);
        let token = self.subscribing.subacks.next_token();
        let mut codes = Vec::with_capacity(subscriptions.len());
        let mut missing = 0;
        for NewSubscription {
            filter,
            options,
            subscription_id,
        } in subscriptions
        {
            let requested = SubscribeFilter {
                filter,
                options: *options,
            };
            let id = *subscription_id;
            let granted = self.subscribe_one(cx, &terms, session, &requested, id, token);
            missing += u32::from(granted.joining);
            codes.push(granted.reason);
        }
        let record = self.subscription_record(session);
        if missing == 0 {
            let answer = Answer::Subscribe(Some(codes));
            return self.answer_operator(cx, request, answer, record);
        }
        let pending = PendingSubAck {
            origin: SubscribeOrigin::Operator { request, codes },
            record,
            missing,
        };
        self.insert_pending_suback(pending);
    }

    /// Ends subscriptions of a client, as if it had asked.
    pub(super) fn unsubscribe_for<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        request: u64,
        tenant: TenantId,
        client_id: &str,
        filters: &[Box<str>],
    ) {
        let Some(session) = self.sessions.find(tenant, client_id) else {
            return report(cx, request, Answer::Unsubscribe(None));
        };
        let mut codes = Vec::with_capacity(filters.len());
        for filter in filters {
            codes.push(match self.unsubscribe_one(cx, session, filter) {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            });
        }
        let record = self.subscription_record(session);
        self.answer_operator(cx, request, Answer::Unsubscribe(Some(codes)), record);
    }

    /// Returns the terms for operators: what its listener permits a client, and everything for
    /// clients that are away. Retain Handling is kept for clients before MQTT 5 too.
    fn terms_for_operators(&mut self, session: u32) -> Terms {
        let connection = self.sessions.at(session).connection();
        let terms = connection.map(|connection| self.terms_of(connection));
        Terms {
            v5: true,
            ..terms.unwrap_or_default()
        }
    }
}

impl NewSubscription {
    /// A subscription to this Topic Filter with this maximum QoS and no other options.
    pub fn new(filter: &str, qos: martlet_codec::QoS) -> Self {
        Self {
            filter: filter.into(),
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
            subscription_id: 0,
        }
    }
}
